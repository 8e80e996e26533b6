"""Whether kernels have room on the boot partitions, before anything is made."""

from pathlib import Path

import pytest

from vmharness.errors import SpecError
from vmharness.model.bootloader import BOOTLOADERS
from vmharness.model.image import BootloaderSpec, ImageSpec, Installer, PartitionTable, RootSpec
from vmharness.model.sizes import MIB
from vmharness.model.sources import MinimalSource
from vmharness.plan.boot_room import check_boot_room, enough
from vmharness.plan.fat import FAT32_MINIMUM

KERNEL = {"/boot/vmlinuz-1": 40 * MIB, "/boot/initrd.img-1": 60 * MIB}
OTHER = {"/usr/lib/modules/2/vmlinuz": 30 * MIB, "/boot/initramfs-2.img": 50 * MIB}


def spec(table: str, install: str, boot_size: int, *arguments: str) -> ImageSpec:
    """A definition with that boot partition."""
    return ImageSpec(
        origin=Path("/d/image.toml"),
        name="x",
        root=RootSpec(source=MinimalSource()),
        partition_table=PartitionTable(table),
        boot_size=boot_size,
        bootloader=BootloaderSpec(install=Installer(name=install, arguments=arguments)),
    )


@pytest.mark.parametrize(
    ("table", "install", "files", "copied"),
    [
        ("efi", "systemd-boot", KERNEL, 100),
        ("efi", "systemd-boot", KERNEL | OTHER | {"/boot/config-1": 90 * MIB}, 180),
        ("hybrid", "systemd-boot", KERNEL, 100),
        ("efixbootldr", "systemd-boot", KERNEL, 200),
        ("efixbootldr", "systemd-boot", KERNEL | OTHER, 330),
        ("efixbootldr", "grub", KERNEL | {"/boot/config-1": 90 * MIB}, 190),
        ("legacy+boot", "extlinux", KERNEL, 100),
        ("legacy+boot", "none", KERNEL, 100),
    ],
)
def test_kernels_must_fit(table: str, install: str, files: dict[str, int], copied: int) -> None:
    """What the boot partition or the ESP takes is refused at a size too small, with one that is then accepted."""
    with pytest.raises(SpecError, match=r"image\.boot-size: the .* is too small") as refusal:
        check_boot_room(spec(table, install, copied * MIB), files)
    mib = int(str(refusal.value.allowed).split(" ")[0])
    assert copied < mib < copied + 20
    check_boot_room(spec(table, install, mib * MIB), files)


@pytest.mark.parametrize(("table", "install"), [("efi", "grub"), ("efi", "refind"), ("efi", "none"), ("none", "none")])
def test_kernels_that_stay_in_the_root_filesystem_need_no_room(table: str, install: str) -> None:
    """Loaders that read the kernels where they are need none on the ESP."""
    check_boot_room(spec(table, install, 40 * MIB), KERNEL)


@pytest.mark.parametrize(
    ("path", "files", "copied"),
    [("/boot/vmlinuz-1", KERNEL, 100), ("/boot/a.efi", KERNEL | {"/boot/a.efi": 45 * MIB}, 90)],
)
def test_efi_binaries_must_fit(path: str, files: dict[str, int], copied: int) -> None:
    """A kernel goes to the ESP with its initrd; what is none goes to the fallback path, too."""
    with pytest.raises(SpecError, match=r"the EFI system partition with .* is too small"):
        check_boot_room(spec("efi", "efi-binary", copied * MIB, path), files)
    check_boot_room(spec("efi", "efi-binary", (copied + 8) * MIB, path), files)


def test_an_esp_of_fixed_size_leads_to_another_table() -> None:
    """Where the ESP's size cannot be chosen, the table is what has to change."""
    with pytest.raises(SpecError, match=r"image\.partition-table: the EFI system partition with 92 MiB .*\"efi\""):
        check_boot_room(spec("efixbootldr", "efi-binary", 512 * MIB, "/opt/a.efi"), {"/opt/a.efi": 50 * MIB})


@pytest.mark.parametrize("sizes", [[], [1], [30 * MIB] * 2, [1000] * 500, [300 * MIB], [MIB] * 1000])
def test_enough_is_enough(sizes: list[int]) -> None:
    """It takes the files, counted in clusters, and little more."""
    assert sum(sizes) < enough(sizes) <= max(FAT32_MINIMUM + MIB, int(sum(sizes) * 1.06) + 5 * MIB + 4096 * len(sizes))


def test_every_table_s_bootloaders_are_reckoned_with() -> None:
    """No bootloader and table make the check itself fail, with or without files."""
    for bootloader in BOOTLOADERS.values():
        for table in bootloader.tables:
            arguments = ("/x",) if bootloader.argument.value == "a path in the target" else ()
            check_boot_room(spec(table.value, bootloader.name, 512 * MIB, *arguments), {})
