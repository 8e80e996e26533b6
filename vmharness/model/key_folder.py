"""Folders of Secure Boot keys.

They hold ``PK.crt``, ``KEK.crt`` and ``db.crt`` (certificates, PEM), and what belongs to them and is nobody else's
business: ``PK.key``, ``KEK.key`` and ``db.key``.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from attrs import frozen

NAMES = ("PK", "KEK", "db")
"""The keys of a machine: the platform's, the one that may change ``db``, and the one that signs what boots."""

OWNER = UUID("9c1fd7a3-6f0d-4b6c-8e51-1d4c3a9b7e20")
"""Owner of keys whose user names none."""


@frozen(kw_only=True)
class KeyFolder:
    """A folder of keys."""

    path: Path

    def certificate(self, name: str) -> Path:
        """The certificate of a key of :data:`NAMES`."""
        return self.path / f"{name}.crt"

    def private(self, name: str) -> Path:
        """The private key of a key of :data:`NAMES`."""
        return self.path / f"{name}.key"
