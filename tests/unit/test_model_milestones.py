"""The milestones of a boot: each line of a console shows the one that it belongs to, and no later one."""

import pytest

from vmharness.model.milestones import MILESTONES, by_name


@pytest.mark.parametrize(
    ("line", "milestone"),
    [
        ('BdsDxe: loading Boot0001 "debian" from HD(1,GPT,5996188F)/\\EFI\\debian\\grubx64.efi', "firmware"),
        ('BdsDxe: starting Boot0001 "debian" from HD(1,GPT,5996188F)/\\EFI\\debian\\grubx64.efi', "bootloader"),
        ("Welcome to GRUB!", "bootloader"),
        ("EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path", "kernel"),
        ("[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org)", "kernel"),
        ("Welcome to Debian GNU/Linux 12 (bookworm)!", "init"),
        ("vmharness minimal: up", "init"),
        ("localhost login: ", "login"),
    ],
)
def test_line_shows_its_milestone(line: str, milestone: str) -> None:
    """The last milestone that a line shows is its own: GRUB's welcome is not that of the init system, say."""
    shown = [known.name for known in MILESTONES if known.pattern.search(f"{line}\n")]
    assert shown[-1] == milestone


def test_unknown_name_is_no_milestone() -> None:
    """Another word than a milestone's name gives None."""
    assert by_name("login") is MILESTONES[-1]
    assert by_name("prompt") is None


def test_the_firmware_s_line_is_to_be_whole() -> None:
    """The loader is reached once the firmware's line has ended: before that, nobody knows which entry it is for."""
    line = 'BdsDxe: starting Boot0001 "debian" from HD(1,GPT,5996188F)/\\EFI'
    assert by_name("loader") is MILESTONES[1]
    assert MILESTONES[1].pattern.search(line) is None
    assert MILESTONES[1].pattern.search(f"{line}\n")
