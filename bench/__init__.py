"""Measurements of vmharness: ``nox -s bench``, or ``python bench/run.py``. See ``docs/performance.md``."""
