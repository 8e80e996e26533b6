"""Failure bundles: the run directory of a build that was stopped, as one file to carry elsewhere.

A bundle is a tar archive in zstd. Packing takes the files that a session needs (:mod:`vmharness.model.bundle`) and no
others; unpacking takes it for a stranger's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from vmharness import __version__
from vmharness.disk import image
from vmharness.disk.qcow2 import require_plain_qcow2
from vmharness.errors import HostError, SpecError
from vmharness.host import proc, sparse
from vmharness.host.sparse_tar import BadArchive, Member, Reader
from vmharness.model import bundle as model
from vmharness.model import record as records
from vmharness.model.bundle import INDEX_NAME, PLAN_NAME, Bundle, BundledFile
from vmharness.model.record import RECORD_NAME, Record
from vmharness.model.sizes import MIB
from vmharness.model.text import printable

_COMPRESS = "zstd -q -T0 -3"
_ZSTD = bytes.fromhex("28b52ffd")  # RFC 8878, 3.1.1
_ROOM = 64 * MIB


def default_target(run_directory: Path) -> Path:
    """Where a bundle goes if nobody says it: beside the run directory, with its name."""
    place = run_directory.resolve()
    return place.with_name(place.name + model.SUFFIX)


def pack(run_directory: Path, target: Path) -> Path:
    """Pack what a build left that was stopped, and see to it that it is on the disk.

    Holes stay holes. Only files of the fixed list go in; private keys are not among them.

    :param target: the file that is made, readable for its owner only: it holds the whole disk.
    :raises SpecError: the folder holds no such build, or something is there at ``target``.
    :raises HostError: it cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise SpecError(f"{target} is there already", origin="<command line>", allowed="a file that is not there yet")
    try:
        record, names = _record(run_directory, run_directory), _names(run_directory)
        before = _states(run_directory, names)
        files = tuple(_file(run_directory, name) for name in names)
        index = Bundle(name=record.name, vmharness=__version__, files=files)
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:100]}.", dir=target.parent) as folder:
            aside = Path(folder) / "archive"
            (Path(folder) / INDEX_NAME).write_text(model.to_json(index), encoding="utf-8")
            _archive(aside, Path(folder), run_directory, names)
            if _states(run_directory, names) != before:
                raise HostError(f"{run_directory} changed while it was packed", hint="end what uses it, and pack again")
            aside.chmod(0o600)
            image.sync(aside)
            aside.rename(target)
    except OSError as error:
        raise HostError(f"cannot pack {run_directory} as {target}: {error.strerror}") from error
    except ValueError as error:
        raise SpecError(f"it cannot be packed: {error}", origin=str(run_directory)) from error
    return target


def unpack(bundle: Path, folder: Path) -> Path:
    """Unpack a bundle, which stays as it is; nothing is left behind when that fails.

    :param bundle: may come from anybody: nothing in it leads out of the folder, and no more is written than it says
        beforehand, and than there is room for.
    :param folder: is made; only its owner may read it.
    :returns: the folder, which is then the run directory of a build that was stopped.
    :raises SpecError: it is no bundle, is damaged, of a newer format, or holds what no build leaves.
    :raises HostError: the folder cannot be written, or has no room.
    """
    proc.require("zstd")
    aside = None
    try:
        aside = Path(tempfile.mkdtemp(prefix=".bundle.", dir=folder.parent))
        _unpack_into(bundle, aside)
        _require_entering(bundle, aside)
        aside.rename(folder)
    except OSError as error:
        raise HostError(f"cannot unpack {bundle} into {folder}: {error.strerror}") from error
    except ValueError as error:
        raise SpecError(f"the failure bundle cannot be opened: {error}", origin=str(bundle)) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def _names(run_directory: Path) -> list[str]:
    """The files that go in, first what says what they are."""
    found = []
    for path in run_directory.rglob("*"):
        name = path.relative_to(run_directory).as_posix()
        if not model.is_bundled(name):
            continue
        if path.is_symlink() or not path.is_file():
            raise SpecError(f"{name} is no plain file", origin=str(run_directory))
        found.append(name)
    if PLAN_NAME not in found:
        raise SpecError(f"it holds no build that was stopped: {PLAN_NAME} is missing", origin=str(run_directory))
    return sorted(found, key=lambda name: (name != RECORD_NAME, name != PLAN_NAME, name))


def _file(run_directory: Path, name: str) -> BundledFile:
    path = run_directory / name
    data, size = sparse.most_data(path), path.stat().st_size
    return BundledFile(name=name, size=size, data=data, digest=sparse.digest(path))


def _states(run_directory: Path, names: list[str]) -> list[tuple[int, int, int]]:
    """What changes when anybody writes to one of the files."""
    states = ((run_directory / name).stat() for name in names)
    return [(state.st_size, state.st_mtime_ns, state.st_ino) for state in states]


def _archive(archive: Path, index_folder: Path, run_directory: Path, names: list[str]) -> None:
    argv: list[str | Path] = [
        "tar", "--create", "--format=gnu", "--sparse", "--hard-dereference", "--no-recursion", "--force-local",
        "--numeric-owner", "--owner=0", "--group=0", "--mode=0600", f"--use-compress-program={_COMPRESS}",
        "--file", archive, "--directory", index_folder, INDEX_NAME,
        "--directory", run_directory.absolute(), "--", *names,
    ]  # fmt: skip
    proc.run(argv, doing="packing the bundle", env={"TAR_OPTIONS": ""})


def _unpack_into(bundle: Path, folder: Path) -> None:
    """Unpack all files.

    :raises ValueError: the archive is not what it says.
    """
    try:
        file = bundle.open("rb", buffering=0)  # what zstd inherits must stand where it was left
    except OSError as error:
        raise SpecError(f"the failure bundle cannot be read: {error.strerror}", origin=str(bundle)) from error
    with file:
        if file.read(len(_ZSTD)) != _ZSTD:
            raise BadArchive("it is no archive in zstd")
        file.seek(0)
        complete = False
        try:
            with proc.pipe_from(["zstd", "-q", "-d", "-c"], doing="unpacking it", stdin=file) as stream:
                _read(Reader(stream), folder)
                complete = True
        except HostError as error:
            if not complete:
                raise
            raise BadArchive(f"its end is damaged: {printable(error.what)}") from error


def _read(reader: Reader, folder: Path) -> None:
    index = _index(reader)
    image.require_space(folder, index.data + _ROOM)
    for file in index.files:
        member = reader.next()
        if member is None:
            raise BadArchive(f"{file.name} is missing")
        if member.name != file.name:
            raise BadArchive(f"{printable(member.name)[:80]!r} is in the place of {file.name}")
        if member.size != file.size or member.data > file.data:
            raise BadArchive(f"{file.name} has another size than {INDEX_NAME} says")
        path = folder / file.name
        for parent in reversed(path.relative_to(folder).parents):
            (folder / parent).mkdir(mode=0o700, exist_ok=True)
        _write(reader, member, path)
        if sparse.digest(path) != file.digest:
            raise BadArchive(f"{file.name} is not what was packed: its digest is another")
    if reader.next() is not None:
        raise BadArchive(f"it has more files than {INDEX_NAME} names")
    reader.finish()


def _index(reader: Reader) -> Bundle:
    member = reader.next()
    if member is None or member.name != INDEX_NAME or member.size > model.LARGEST_INDEX:
        raise BadArchive(f"it does not begin with {INDEX_NAME}")
    text = b"".join(piece for _place, piece in reader.pieces(member))
    try:
        return model.from_json(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadArchive(f"{INDEX_NAME} is not UTF-8 text") from error


def _write(reader: Reader, member: Member, path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for place, piece in reader.pieces(member):
            file.seek(place)
            file.write(piece)
        file.truncate(member.size)


def _require_entering(bundle: Path, folder: Path) -> None:
    """Refuse early what no session could be entered with.

    :raises SpecError: the record is of a newer format, or an overlay leads to another file.
    """
    _record(folder, bundle)
    sizes = [path.stat().st_size for path in (folder / "disk.raw", folder / "tree.raw") if path.exists()]
    for layer in sorted(folder.glob("layers/*")):
        try:
            require_plain_qcow2(layer, max(sizes, default=0))
        except SpecError as error:
            raise SpecError(f"layers/{layer.name}: {error.what}", origin=str(bundle)) from error


def _record(folder: Path, source: Path) -> Record:
    path = folder / RECORD_NAME
    if not path.is_file():
        raise SpecError(
            f"it holds no build that was stopped: {RECORD_NAME} is missing",
            origin=str(source),
            hint="name the run directory of a build that failed in a step of its machine",
        )
    try:
        return records.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{RECORD_NAME} cannot be read: {error}", origin=str(source)) from error
