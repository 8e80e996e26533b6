"""The face of ``vmharness doctor``."""

from __future__ import annotations

import json

import click
from attrs import asdict

from vmharness.flows.doctor import Row, examine


def run(accel: str, *, as_json: bool) -> int:
    """Print the report; gives the exit code."""
    report = examine(accel)
    if as_json:
        click.echo(json.dumps({"ok": report.ok, **asdict(report)}, indent=2, default=str))
        return 0 if report.ok else 3
    for section in report.sections:
        click.secho(section.title, bold=True)
        for row in section.rows:
            mark = _mark(row)
            click.echo(f"  {mark} {row.name:<18} {row.detail}")
            if row.remedy:
                click.echo(f"      {row.remedy}")
    click.echo()
    if report.ok:
        click.secho("Everything that a build needs is here.", fg="green")
    elif report.install:
        click.echo(f"To install what is missing:\n  {report.install}")
    return 0 if report.ok else 3


def _mark(row: Row) -> str:
    if row.ok:
        return click.style("✓", fg="green")
    return click.style("✗", fg="red") if row.required else click.style("-", fg="yellow")
