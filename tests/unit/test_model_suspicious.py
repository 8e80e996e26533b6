"""The first line of a console that speaks of trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmharness.model.suspicious import first_suspicious

RECORDINGS = Path(__file__).with_name("recordings")


def test_a_good_boot_has_none() -> None:
    """A whole boot with the kernel's messages on, from the firmware to the login, is passed over."""
    log = (RECORDINGS / "minimal-boot.log").read_bytes().decode("utf-8", "replace")
    assert len(log.splitlines()) > 300
    assert first_suspicious(log) is None


@pytest.mark.parametrize(
    "line",
    [
        "[    1.5] blk_update_request: I/O error, dev vda, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1",
        "[    1.5] Buffer I/O error on dev vda2, logical block 0, async page read",
        "[    1.5] critical medium error, dev sda, sector 4096",
        "[    9.0] nvme nvme0: I/O 12 QID 1 timeout, aborting",
        "[    2.0] EXT4-fs error (device vda2): ext4_lookup:1785: inode #2: comm ls: deleted inode referenced: 12",
        "[    2.0] EXT4-fs (vda2): VFS: Can't find ext4 filesystem, bad superblock",
        "[    2.0] FAT-fs (vda1): error, fat_get_cluster: invalid cluster chain (i_pos 0)",
        "[    2.0] XFS (vda2): Metadata corruption detected at xfs_agf_verify+0xd/0x1f0",
        "[    2.0] BTRFS error (device vda2): bad tree block start, want 30408704 have 0",
        "[    2.0] BTRFS critical (device vda2): corrupt leaf",
        "[    2.0] SQUASHFS error: zstd decompression failed, data probably corrupt",
        "[    2.0] VFS: Unable to mount root fs on unknown-block(0,0)",
        "tar: usr/bin/x: Cannot write: No space left on device",
        "[    3.0] Out of memory: Killed process 120 (mkfs.btrfs) total-vm:600000kB",
        "[    3.0] grub-install invoked oom-killer: gfp_mask=0x1100cca, order=0",
        "[    3.0] bootctl[112]: segfault at 0 ip 00007f sp 00007f error 4 in libc.so.6",
        "[    3.0] traps: grub-probe[99] general protection fault ip:7f sp:7f error:0",
        "[    4.0] WARNING: CPU: 0 PID: 77 at fs/ext4/inode.c:1 ext4_x+0x1/0x2",
        "[    4.0][   T77] WARNING: CPU: 0 PID: 77 at fs/ext4/inode.c:1 ext4_x+0x1/0x2",
        "[    4.0] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[    4.0] kernel BUG at fs/ext4/super.c:1!",
        "[    4.0] Oops: 0000 [#1] PREEMPT SMP NOPTI",
        "[  242.0] INFO: task mkfs.vfat:88 blocked for more than 120 seconds.",
        "[   30.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [mkfs.btrfs:80]",
        "[   21.0] rcu: INFO: rcu_preempt self-detected stall on CPU",
        "[    4.0] nls_iso8859_1: Unknown symbol unregister_nls (err -2)",
        "[    5.0] efivars: set_variable() failed: status=800000000000000e",
        "[    5.0] efi: Failed to lookup EFI memory descriptor for 0x0",
        "[    5.0] pstore: failed to load 3 record(s) from 'efi_pstore' (returned -5)",
        "EFI stub: ERROR: Failed to handle fs_proto",
    ],
)
def test_trouble_is_found_in_noise(line: str) -> None:
    """Each kind of trouble is found among harmless lines, and what follows it is not taken for the first."""
    log = f"[    0.0] Linux version 6.1.0\r\n\x1b[31m{line}\x1b[0m\r\n[    9.9] Kernel panic - not syncing: later\r\n"
    assert first_suspicious(log) == line


@pytest.mark.parametrize(
    "line",
    [
        'BdsDxe: loading Boot0001 "Linux Boot Manager" from HD(1,GPT)/\\EFI\\systemd\\systemd-bootx64.efi',
        "[    0.0] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
        "[    0.1] ACPI BIOS Error (bug): Could not resolve symbol [\\_SB.PCI0], AE_NOT_FOUND",
        "[    0.1] calibrate_delay_direct() failed to get a good estimate for loops_per_jiffy.",
        "[    0.1] MDS CPU bug present and SMT on, data leak possible.",
        "[    1.0] nvme nvme0: Shutdown timeout set to 10 seconds",
        '[    1.3] PCI: Using host bridge windows from ACPI; if necessary, use "pci=nocrs" and report a bug',
        "[    2.0] EXT4-fs (vda2): re-mounted. Opts: errors=remount-ro. Quota mode: none.",
        "[    2.0] FAT-fs (vda1): utf8 is not a recommended IO charset for FAT filesystems",
        "[    2.0] BTRFS info (device vda2): using crc32c (crc32c-generic) checksum algorithm",
        "[    3.0] pstore: Registered efi_pstore as persistent store backend",
        "[    3.0] efi: EFI v2.70 by Debian distribution of EDK II",
        "[    3.0] pstore: Using crash dump compression: deflate",
    ],
)  # fmt: skip
def test_boot_noise_is_passed_over(line: str) -> None:
    """Words such as error and bug in what every machine says at its start are no trouble."""
    assert first_suspicious(f"{line}\n") is None


def test_an_empty_console_has_none() -> None:
    """A guest that said nothing said nothing suspicious."""
    assert first_suspicious("") is None
