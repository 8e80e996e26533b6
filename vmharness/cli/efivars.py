"""The face of ``vmharness efivars``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from vmharness.cli.reporting import JSON, errors_reported

_FILE = click.argument("store", type=click.Path(path_type=Path), metavar="FILE")
_GUID = click.option("--guid", type=click.UUID, help="The variable's vendor; without it, the one that is meant.")
_AREAS = ("boot", "loader", "keys", "firmware", "other")


@click.group()
def efivars() -> None:
    """Show, compare and change EFI variables in a variable store (efi-vars.fd).

    A store can be shown at any time, and changed while no machine is using it.

    \b
    Example:
      vmharness efivars show out/debian/efi-vars.fd
      vmharness efivars set out/debian/efi-vars.fd BootNext 0003
    """


@efivars.command()
@_FILE
@JSON
def show(store: Path, as_json: bool) -> None:
    """Show the variables of FILE: boot entries, the loader's, Secure Boot's keys, and the others.

    FILE is a raw variable store, or a folder of variables such as /sys/firmware/efi/efivars.

    \b
    Example:
      vmharness efivars show out/debian/efi-vars.fd
      vmharness efivars show out/debian/efi-vars.fd --json | jq '.variables[] | select(.area == "boot")'
    """
    from vmharness.flows import efivars as flow  # noqa: PLC0415
    from vmharness.flows import variable_texts as texts  # noqa: PLC0415

    with errors_reported(as_json=as_json):
        variables = flow.show(store)
        _print(texts.to_data(variables) if as_json else None, texts.to_lines(variables))


@efivars.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--only", type=click.Choice(_AREAS), multiple=True, help="Compare these areas only.")
@click.option("--ignore-volatile", is_flag=True, help="Leave out what the firmware writes by itself at every boot.")
@JSON
def diff(before: Path, after: Path, only: tuple[str, ...], ignore_volatile: bool, as_json: bool) -> None:
    """Say how the variables of AFTER differ from those of BEFORE. Exits with 1 if they do.

    What the firmware writes by itself (the area "firmware"): consoles, languages, hot keys, time-out, MTC, the iSCSI
    attempts, and the boot entries that it makes for disks, for its menu and for its shell.

    \b
    Example:
      vmharness efivars diff before.fd after.fd --ignore-volatile
      vmharness efivars diff before.fd after.fd --only boot --json
    """
    from vmharness.flows import efivars as flow  # noqa: PLC0415
    from vmharness.flows import variable_texts as texts  # noqa: PLC0415
    from vmharness.model.variable_changes import Area  # noqa: PLC0415

    with errors_reported(as_json=as_json):
        areas = {Area(name) for name in only or _AREAS}
        found = flow.compare(before, after, only=areas, ignore_volatile=ignore_volatile)
        _print(texts.changes_to_data(found) if as_json else None, (change.text for change in found))
        sys.exit(1 if found else 0)


@efivars.command("set")
@_FILE
@click.argument("name")
@click.argument("value", required=False)
@click.option("--hex", "digits", metavar="BYTES", help="Any variable's bytes in hexadecimal.")
@click.option("--file", "source", type=click.File("rb"), help="Any variable's bytes from a file.")
@_GUID
@click.option("--attributes", type=click.IntRange(0, 0xFF), help="Its attribute bits.  [default: as they are, or 7]")
def set_(  # noqa: PLR0913, PLR0917 -- one parameter an option
    store: Path,
    name: str,
    value: str | None,
    digits: str | None,
    source: Any,
    guid: UUID | None,
    attributes: int | None,
) -> None:
    """Write the variable NAME of FILE; the others stay as they are.

    VALUE is text for BootOrder, BootNext, Timeout, OsIndications and the variables that bootctl sets, such as
    LoaderEntryOneShot. Any other variable takes --hex or --file.

    \b
    Example:
      vmharness efivars set efi-vars.fd BootOrder 0003,0001
      vmharness efivars set efi-vars.fd LoaderEntryOneShot debian.conf
      vmharness efivars set efi-vars.fd Mine --guid 5b1d3a0e-9f5c-4f37-9c43-7f9a6c1d2e00 --hex 01ff
    """
    from vmharness.flows import efivars as flow  # noqa: PLC0415
    from vmharness.model.variables import GLOBAL  # noqa: PLC0415

    if [value, digits, source].count(None) != 2:
        raise click.UsageError("give one of VALUE, --hex and --file")
    if value is not None and (guid is not None or attributes is not None):
        raise click.UsageError("--guid and --attributes belong to --hex and --file")
    with errors_reported(as_json=False):
        if value is not None:
            flow.set_text(store, name, value)
            return
        try:
            data = bytes.fromhex(digits) if digits is not None else source.read()
        except ValueError as error:
            raise click.UsageError(f"--hex: {error}") from error
        flow.set_bytes(store, name, data, guid=guid or GLOBAL, attributes=attributes)


@efivars.command()
@_FILE
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_GUID
def delete(store: Path, names: tuple[str, ...], guid: UUID | None) -> None:
    """Delete variables of FILE. A boot entry goes out of BootOrder, too.

    \b
    Example:
      vmharness efivars delete efi-vars.fd Boot0003 BootNext
    """
    from vmharness.flows import efivars as flow  # noqa: PLC0415

    with errors_reported(as_json=False):
        flow.delete(store, names, guid=guid)


@efivars.command("add-entry")
@_FILE
@click.option("--title", required=True, help="What the boot menu shows.")
@click.option("--disk", type=click.Path(path_type=Path), required=True, help="Image, or folder of a build's output.")
@click.option("--partition", type=click.IntRange(min=1), default=1, show_default=True, help="Its number.")
@click.option("--path", "file", required=True, help=r"The file on it, such as \EFI\BOOT\BOOTX64.EFI.")
@click.option("--arguments", default="", help="The file's command line.")
@click.option("--last", is_flag=True, help="Put it last in BootOrder instead of first.")
def add_entry(  # noqa: PLR0913, PLR0917 -- one parameter an option
    store: Path, title: str, disk: Path, partition: int, file: str, arguments: str, last: bool
) -> None:
    """Make a boot entry in FILE that boots a file of a disk's partition, and print its name.

    \b
    Example:
      vmharness efivars add-entry efi-vars.fd --title Debian --disk out/debian --path '\\EFI\\BOOT\\BOOTX64.EFI'
    """
    from vmharness.flows import boot_entries as flow  # noqa: PLC0415

    entry = flow.NewEntry(title=title, disk=disk, partition=partition, file=file, arguments=arguments, first=not last)
    with errors_reported(as_json=False):
        click.echo(f"Boot{flow.add_entry(store, entry):04X}")


_KEY = click.Path(path_type=Path, dir_okay=False)


@efivars.command()
@_FILE
@click.option("--pk", type=_KEY, metavar="CERT", help="The platform key; it takes the place of the one that is there.")
@click.option("--kek", type=_KEY, multiple=True, metavar="CERT", help="A key that may change db and dbx; is added.")
@click.option("--db", type=_KEY, multiple=True, metavar="CERT|EFI", help="What may boot: a signer, or one binary.")
@click.option("--dbx", type=_KEY, multiple=True, metavar="CERT|EFI", help="What may not boot: likewise.")
@click.option("--generate", type=click.Path(path_type=Path), metavar="DIR", help="Make test keys in DIR; enroll them.")
@click.option("--owner", type=click.UUID, metavar="GUID", help="Whom the keys belong to.")
@click.option("--secure-boot/--no-secure-boot", default=None, help="Switch Secure Boot on or off.")
def enroll(  # noqa: PLR0913, PLR0917 -- one parameter an option
    store: Path,
    pk: Path | None,
    kek: tuple[Path, ...],
    db: tuple[Path, ...],
    dbx: tuple[Path, ...],
    generate: Path | None,
    owner: UUID | None,
    secure_boot: bool | None,
) -> None:
    """Put Secure Boot keys into FILE.

    Certificates are X.509, PEM or DER. An EFI binary in --db or --dbx is enrolled by its digest, which is the same with
    and without signatures. Test keys are RSA-2048: PK, KEK and db, each as .crt and .key.

    \b
    Example:
      vmharness efivars enroll efi-vars.fd --pk PK.crt --kek KEK.crt --db db.crt --secure-boot
      vmharness efivars enroll efi-vars.fd --generate keys
      vmharness efivars enroll efi-vars.fd --dbx old/systemd-bootx64.efi
    """
    from vmharness.disk.enrolment import Enrolment  # noqa: PLC0415
    from vmharness.flows import efivars as flow  # noqa: PLC0415
    from vmharness.flows import variable_texts as texts  # noqa: PLC0415
    from vmharness.model.key_folder import OWNER  # noqa: PLC0415

    enrolment = Enrolment(pk=pk, kek=kek, db=db, dbx=dbx, owner=owner or OWNER, secure_boot=secure_boot)
    if generate is not None and pk is not None:
        raise click.UsageError("--generate makes a platform key, so --pk cannot be given, too")
    if enrolment == Enrolment(owner=enrolment.owner) and generate is None:
        raise click.UsageError("give keys, --generate, --secure-boot or --no-secure-boot")
    with errors_reported(as_json=False):
        click.echo(f"Secure Boot: {texts.state_text(flow.enroll(store, enrolment, generate=generate))}")


@efivars.command()
@_FILE
@click.option("--to", "used", metavar="SIZE", help="Bytes that are taken afterwards, such as 224K.")
@click.option("--free", metavar="SIZE", help="Bytes that are free afterwards.")
def fill(store: Path, used: str | None, free: str | None) -> None:
    """Fill FILE with variables that only take room, to see what a full store does to a machine.

    A second call replaces what the first one made.

    \b
    Example:
      vmharness efivars fill efi-vars.fd --to 224K
    """
    from vmharness.flows import efivars as flow  # noqa: PLC0415

    if (used is None) == (free is None):
        raise click.UsageError("give one of --to and --free")
    with errors_reported(as_json=False):
        after = flow.fill(store, used=_size(used), free=_size(free))
        click.echo(f"{after.used} of {after.capacity} bytes used, {after.capacity - after.used} free")


def _size(text: str | None) -> int | None:
    from vmharness.model.sizes import parse_size  # noqa: PLC0415

    try:
        return parse_size(text) if text is not None else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _print(data: Any, lines: Any) -> None:
    if data is not None:
        click.echo(json.dumps(data, indent=2))
        return
    for line in lines:
        click.echo(line)
