"""What the steps are called that builds have by themselves."""

from __future__ import annotations

from vmharness.model.bootloader import BOOTLOADERS

IDENTIFY = "identify the target disk"
MAKE_ROOT = "make the root filesystem"
COPY_TREE = "copy the tree"
FORMAT = {"esp": "format the EFI system partition", "boot": "format the boot partition"}
MOUNT = "mount the target"
GRAFT = "graft the contents"
SEAL = "remove what machines must not share"
UNMOUNT = "unmount the target"
PACK_ROOT = "pack the root filesystem"
CHECK_ROOT = "check the root filesystem"

BUILT_IN = frozenset(
    {
        IDENTIFY, MAKE_ROOT, COPY_TREE, *FORMAT.values(), MOUNT, GRAFT,
        *(bootloader.step for bootloader in BOOTLOADERS.values() if bootloader.step),
        SEAL, UNMOUNT, PACK_ROOT, CHECK_ROOT,
    }
)  # fmt: skip
"""All of them: no other step may be called so."""
