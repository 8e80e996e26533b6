"""Keys of SSH: the one that lets us in, and those by which systems are known."""

from __future__ import annotations

import shlex
from pathlib import Path

from attrs import define, field, frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmharness.errors import Unreachable
from vmharness.vm.inside import Inside


@frozen(kw_only=True)
class SshKey:
    """A key pair (Ed25519).

    :param private: as OpenSSH keeps it in a file; of no worth outside of the run.
    :param public: its line for ``authorized_keys``, such as in an image's ``[[contents]]``.
    """

    private: str = field(repr=False)
    public: str

    @classmethod
    def generate(cls) -> SshKey:
        """A new key."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return cls(private=private.decode(), public=f"{public.decode()} vmharness")

    def write(self, path: Path) -> None:
        """Write the private key to a new file that ``ssh -i`` takes."""
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(self.private)


@define
class KnownHost:
    """The host key of one system: the first that is seen is trusted, from then on no other."""

    _key: bytes | None = None

    def require(self, key: bytes) -> None:
        """Compare.

        :raises Unreachable: it is another key.
        """
        if self._key is not None and key != self._key:
            raise Unreachable(
                "the guest's SSH server has another host key than before",
                None,
                "another system has started, or its keys were made anew: take a new KnownHost for it",
            )
        self._key = key


def authorize(inside: Inside, key: SshKey, *, within: float) -> None:
    """Let ``key`` in as the user that ``inside`` is.

    :param within: seconds.
    :raises: as :meth:`Inside.run`.
    """
    line = shlex.quote(key.public)
    inside.run(f"umask 077; mkdir -p ~/.ssh && printf '\\n%s\\n' {line} >>~/.ssh/authorized_keys", within=within)
