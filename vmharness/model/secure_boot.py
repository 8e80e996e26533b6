"""Secure Boot as a machine's variables have it (UEFI 2.10, section 32.3)."""

from __future__ import annotations

from attrs import field, frozen

from vmharness.model import signatures
from vmharness.model.signatures import IMAGE_SECURITY, SECURE_BOOT_ENABLE, Signature
from vmharness.model.variables import GLOBAL, Variables

DATABASES = {"PK": GLOBAL, "KEK": GLOBAL, "db": IMAGE_SECURITY, "dbx": IMAGE_SECURITY}
"""The signature databases and their vendors: platform key, exchange keys, what may boot, what may not."""


@frozen(kw_only=True)
class SecureBoot:
    """The state of Secure Boot.

    :param enforced: whether a firmware with Secure Boot refuses what is not signed; another ignores all of this.
    :param setup_mode: whether anybody may change the keys: there is no platform key.
    :param keys: what each signature database that is there holds, by its name.
    """

    enforced: bool
    setup_mode: bool
    keys: dict[str, tuple[Signature, ...]] = field(factory=dict)


def secure_boot(variables: Variables) -> SecureBoot:
    """The state that a store leads to, or that a running system's variables show.

    :raises ValueError: a signature database is damaged.
    """
    keys = {}
    for name, guid in DATABASES.items():
        found = variables.get(name, guid)
        if found is not None and found.data:
            keys[name] = signatures.parse(found.data)
    shown, setup = variables.get("SecureBoot"), variables.get("SetupMode")  # only a running system has them
    enable = variables.get(*SECURE_BOOT_ENABLE)
    # edk2's AuthVariableLib: with a platform key, a missing SecureBootEnable means yes
    wanted = "PK" in keys and (enable is None or enable.data == b"\x01")
    return SecureBoot(
        enforced=shown.data == b"\x01" if shown else wanted,
        setup_mode=setup.data == b"\x01" if setup else "PK" not in keys,
        keys=keys,
    )
