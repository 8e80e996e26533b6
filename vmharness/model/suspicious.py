"""Which line of a kernel's log a tired person wants to see first."""

from __future__ import annotations

import re

from vmharness.model.text import harmless

_TIME = r"(?:\[ *\d+\.\d+\] *)?(?:\[ *[TC]\d+\] *)?"

_FILESYSTEM = r"(?:EXT4|FAT|XFS|BTRFS|F2FS|JBD2|SQUASHFS|erofs)\S*[ :(]"

_SUSPICIOUS = re.compile(
    "|".join(
        (
            # disks
            r"I/O error",
            r"critical (?:medium|target|space allocation|nexus) error",
            r"nvme\S* .*(?:timeout, |controller is down)",
            r"ata\d+\S*: (?:failed command|exception)",
            # filesystems; their mount options may hold errors=remount-ro
            rf"{_FILESYSTEM}.*(?:\berrors?\b(?!=)|corrupt|critical|fail|inconsisten|superblock|[Uu]nable|mismatch)",
            r"VFS: (?:Unable|Can't|Cannot)",
            r"No space left",
            r"Read-only file system",
            # memory
            r"Out of memory|invoked oom-killer|oom-kill:|page allocation failure",
            # programs
            r"segfault at|general protection fault|trap invalid opcode|trap divide error|traps: ",
            # the kernel itself
            rf"^{_TIME}(?:WARNING|BUG|UBSAN|KASAN): ",
            r"\bBUG: |kernel BUG at|\bOops\b|Kernel panic|[Uu]nable to handle",
            r"soft lockup|hard LOCKUP|blocked for more than|hung task|rcu: INFO: |kthread starved",
            r"Unknown symbol|disagrees about version of symbol|Invalid module format|exec format error",
            # firmware
            r"(?:efi|efivars|efivarfs|pstore|EFI)\b.*(?:\b[Ee]rror\b|\bERROR\b|[Ff]ail|corrupt|exhausted)",
        )
    )
)


def first_suspicious(log: str) -> str | None:
    """The first line of a guest's console that speaks of trouble, without control characters; None if there is none.

    Noise of a good boot is passed over, and so is what follows upon the first line.
    """
    for line in log.splitlines():
        plain = harmless(line).strip()
        if _SUSPICIOUS.search(plain):
            return plain
    return None
