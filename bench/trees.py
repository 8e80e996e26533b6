"""Trees for the benchmarks, made from a fixed seed: the same on every machine."""

from __future__ import annotations

import random
import tarfile
from pathlib import Path

_SEED = 20
_PER_FOLDER = 20
_PIECE = 1 << 20  # bytes that are written at once
_SMALL = 200  # bytes of a file where only the number of entries counts


def make_tree(root: Path, *, entries: int, data: int) -> None:
    """A tree like an installed system's in what costs time: folders of some twenty entries, some six levels
    deep, many small files and some large ones, and one entry in ten a symbolic link.

    :param root: folder that is made.
    :param entries: how many, the root aside.
    :param data: bytes in the files together, about.
    """
    chance = random.Random(_SEED)  # noqa: S311 -- wanted: the same tree each time
    kinds = chance.choices(("folder", "link", "file"), (1 / _PER_FOLDER, 0.1, 0.85), k=entries)
    # the lengths of the files of an installed system are spread about so
    weights = [chance.lognormvariate(0, 2.2) if kind == "file" else 0.0 for kind in kinds]
    unit = data / sum(weights)
    root.mkdir()
    folders = [root]
    for number, (kind, weight) in enumerate(zip(kinds, weights, strict=True)):
        place = chance.choice(folders) / f"{kind}-{number}"
        if kind == "folder":
            place.mkdir()
            folders.append(place)
        elif kind == "link":
            place.symlink_to(f"../target-{number}")
        else:
            _fill(place, int(weight * unit), chance)


def _fill(path: Path, size: int, chance: random.Random) -> None:
    """A new file of that many random bytes; only a piece of them is in memory."""
    with path.open("wb") as file:
        for start in range(0, size, _PIECE):
            file.write(chance.randbytes(min(_PIECE, size - start)))


def make_archive(path: Path, *, entries: int, per_folder: int = 100) -> None:
    """A tar archive with that many entries, nearly all of them small files; written in constant memory.

    :param per_folder: how many entries are for one folder: itself, and the files in it.
    """
    chance = random.Random(_SEED)  # noqa: S311 -- wanted: the same archive each time
    folder = ""
    with path.open("wb") as file:
        for number in range(entries):
            if number % per_folder == 0:
                folder = f"folder-{number}"
                member, content = tarfile.TarInfo(folder), b""
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                member, content = tarfile.TarInfo(f"{folder}/file-{number}"), chance.randbytes(_SMALL)
                member.uid = number % 1000
            member.size, member.mtime = len(content), number
            file.write(member.tobuf(tarfile.PAX_FORMAT))
            file.write(content + b"\0" * (-len(content) % tarfile.BLOCKSIZE))
        file.write(b"\0" * 2 * tarfile.BLOCKSIZE)
