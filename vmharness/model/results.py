"""What the phases of a build hand to each other, as values."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen


@frozen(kw_only=True)
class TreeMeasure:
    """What a tree costs on a filesystem.

    :param data_blocks: 4096-byte blocks that hold data; holes and inline content are not counted, hard links once.
    :param inodes: files of every kind, hard links once.
    :param directory_blocks: 4096-byte blocks of directory entries.
    :param extra_blocks: 4096-byte blocks of long symbolic links and of extended attributes.
    """

    data_blocks: int
    inodes: int
    directory_blocks: int
    extra_blocks: int

    def __add__(self, other: TreeMeasure) -> TreeMeasure:
        return TreeMeasure(
            data_blocks=self.data_blocks + other.data_blocks,
            inodes=self.inodes + other.inodes,
            directory_blocks=self.directory_blocks + other.directory_blocks,
            extra_blocks=self.extra_blocks + other.extra_blocks,
        )


@frozen(kw_only=True)
class FatMeasure:
    """What a tree costs on a FAT: the bytes of each file and of each directory's entries."""

    files: tuple[int, ...]
    directories: tuple[int, ...]


@frozen(kw_only=True)
class StagedTree:
    """A tree whose data lie in a directory of the host.

    :param directory: holds every file's data under its own name.
    :param index: database of the metadata that are meant (see ``host/index.py``), where the files' own are not
        (an archive unpacked without privilege); None where the files' own metadata are meant.
    :param owner_root: with no index: every file belongs to root in the image.
    :param identity: content id, the same for the same inputs.
    :param measure: its cost.
    :param huge_directories: how many directories have their entries staged in chunks (see ``tree/spread.py``).
    """

    directory: Path
    index: Path | None
    owner_root: bool
    identity: str
    measure: TreeMeasure
    huge_directories: int = 0


@frozen(kw_only=True)
class StagedContents:
    """The grafted files, as one plain tar archive with numeric owners.

    :param archive: the archive; its members' names are relative to the image's root.
    :param measure: their cost.
    """

    archive: Path
    measure: TreeMeasure


@frozen(kw_only=True)
class CommandResult:
    """What a command in a booted system came to.

    :param status: exit status; 128 and the signal's number where a signal ended it.
    :param stdout: what it wrote to its standard output, byte by byte.
    :param stderr: what it wrote to its standard error.
    :param seconds: how long it ran, without the time that its output took to us.
    """

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text, without the end of its last line."""
        return self.stdout.decode("utf-8", "replace").removesuffix("\n")
