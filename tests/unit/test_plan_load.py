"""From a definition's text to values, and each wrong definition to an error that names the key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmharness.errors import SpecError
from vmharness.model.image import (
    AutoFirmware,
    Content,
    DescriptorFirmware,
    FirmwareFiles,
    Format,
    ImageSpec,
    Installer,
    MachineId,
    PartitionTable,
)
from vmharness.model.rootfs import ROOT_FILESYSTEMS
from vmharness.model.sizes import GIB, MIB
from vmharness.model.sources import DebianSource, DirectorySource, MinimalSource, OciSource, SourceOwner, TarSource
from vmharness.plan.load import load

ORIGIN = Path("/definitions/image.toml")
ROOT = "[root]\nsource = { minimal = true }\n"
IMAGE = '[image]\nname = "x"\n'
BASE = IMAGE + ROOT


def loaded(text: str) -> ImageSpec:
    return load(text, ORIGIN)


def image(line: str) -> str:
    return f"{IMAGE}{line}\n{ROOT}"


def source(table: str) -> str:
    return f"{IMAGE}[root]\nsource = {table}\n"


def with_table(table: str) -> str:
    return f'{IMAGE}partition-table = "{table}"\n{ROOT}'


def content(*lines: str) -> str:
    return "\n".join([BASE, "[[contents]]", 'source = "a"', 'target = "/a"', *lines])


def test_the_least() -> None:
    """A name and a root source are enough; the rest has defaults."""
    spec = loaded(BASE)
    assert spec == ImageSpec(origin=ORIGIN, name="x", root=spec.root)
    assert spec.root.source == MinimalSource()
    assert (spec.format, spec.size, spec.boot_size) == (Format.QCOW2, None, 256 * MIB)
    assert (spec.bootloader.install, spec.efi.firmware) == (Installer(name="none"), AutoFirmware())


def test_everything() -> None:
    """Every key arrives, and relative paths are those beside the definition."""
    spec = loaded("""
        [image]
        name = "debian"
        base-name = "disk"
        hydra-build-products = true
        format = "raw"
        partition-table = "efi"
        size = "4G"
        additional-space = 1048576
        boot-size = "300 MiB"

        [root]
        filesystem = "ext4"
        label = "system"
        machine-id = "remove"
        source = { debian = "bookworm", include = ["linux-image-amd64"], variant = "apt" }

        [[contents]]
        source = "files/*.conf"
        target = "/etc/x y"
        mode = "0640"
        directory-mode = "0750"
        user = "www-data"
        group = 33

        [bootloader]
        install = "systemd-boot"
        title = "Debian"
        kernel-parameters = ["console=ttyS0", "quiet"]

        [efi]
        touch-variables = false
        firmware = { code = "code.fd", variables = "/vars.fd" }

        [deterministic]
        enabled = false
        seed = "s"

        [guest]
        memory = "1G"

        [hooks]
        after-build = ["./finish", "--fast"]
    """)
    assert (spec.base_name, spec.stem, spec.hydra_build_products) == ("disk", "disk", True)
    assert spec.hooks.after_build == ("./finish", "--fast")
    assert (spec.name, spec.format, spec.partition_table) == ("debian", Format.RAW, PartitionTable.EFI)
    assert (spec.size, spec.additional_space, spec.boot_size) == (4 * GIB, MIB, 300 * MIB)
    assert (spec.root.label, spec.root.machine_id) == ("system", MachineId.REMOVE)
    assert spec.root.source == DebianSource(suite="bookworm", include=("linux-image-amd64",), variant="apt")
    assert spec.contents == (
        Content(
            source="/definitions/files/*.conf",
            target="/etc/x y",
            mode=0o640,
            directory_mode=0o750,
            user="www-data",
            group="33",
        ),
    )
    assert spec.bootloader.install == Installer(name="systemd-boot")
    assert spec.bootloader.kernel_parameters == ("console=ttyS0", "quiet")
    assert spec.efi.firmware == FirmwareFiles(code=Path("/definitions/code.fd"), variables=Path("/vars.fd"))
    assert not spec.efi.touch_variables
    assert (spec.deterministic.enabled, spec.deterministic.seed) == (False, "s")
    assert spec.guest.memory == GIB


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ('{ tar = "root.tar.zst" }', TarSource(path=Path("/definitions/root.tar.zst"))),
        ('{ oci = "image.tar" }', OciSource(path=Path("/definitions/image.tar"))),
        (
            '{ oci = "/srv/layout", platform = "linux/arm64", reference = "system:1" }',
            OciSource(path=Path("/srv/layout"), platform="linux/arm64", reference="system:1"),
        ),
        ('{ directory = "/srv/tree" }', DirectorySource(path=Path("/srv/tree"))),
        ('{ directory = "t", owner = "root" }', DirectorySource(path=Path("/definitions/t"), owner=SourceOwner.ROOT)),
        ('{ debian = "trixie" }', DebianSource(suite="trixie")),
    ],
)
def test_root_sources(table: str, value: object) -> None:
    """Each kind of root source, told by its own key."""
    assert loaded(source(table)).root.source == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"grub"', Installer(name="grub")),
        ('"none"', Installer(name="none")),
        ('"refind"', Installer(name="refind")),
        ('{ efi-binary = "/boot/a.efi" }', Installer(name="efi-binary", arguments=("/boot/a.efi",))),
        ('{ command = ["install", "a b"] }', Installer(name="command", arguments=("install", "a b"))),
    ],
)
def test_installers(text: str, value: object) -> None:
    """Each kind of installer."""
    assert loaded(f"{BASE}[bootloader]\ninstall = {text}").bootloader.install == value


@pytest.mark.parametrize(
    ("table", "touched"),
    [
        ("none", False),
        ("legacy", False),
        ("legacy+boot", False),
        ("legacy+gpt", False),
        ("efi", True),
        ("efixbootldr", True),
        ("hybrid", True),
    ],
)
def test_variables_are_touched_where_there_is_an_esp(table: str, touched: bool) -> None:
    """Unless the definition says so, EFI variables are written just where something can boot from them."""
    assert loaded(with_table(table)).efi.touch_variables is touched


def test_given_identifiers() -> None:
    """Identifiers are read in their one form, with either case."""
    guid = "F222513B-DED1-49FA-B591-20CE86A2FE7F"
    given = loaded(f"""{BASE}[identifiers]
        disk-guid = "{guid.lower()}"
        disk-signature = "0000000a"
        root-partition-guid = "{guid}"
        root-filesystem-uuid = "{guid}"
        root-hash-seed = "{guid}"
        esp-partition-guid = "{guid}"
        esp-volume-id = "12AB-34cd"
        boot-partition-guid = "{guid}"
        boot-volume-id = "12ab34cd"
        bios-partition-guid = "{guid}"
    """).identifiers
    assert (given.disk_guid, given.disk_signature) == (UUID(guid), 10)
    assert (given.esp_volume_id, given.boot_volume_id) == (0x12AB34CD, 0x12AB34CD)
    others = (given.root_partition_guid, given.root_filesystem_uuid, given.root_hash_seed, given.esp_partition_guid)
    assert {*others, given.boot_partition_guid, given.bios_partition_guid} == {UUID(guid)}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        # as nixpkgs has it: a digit is missing, and sgdisk and sfdisk "repair" it in two ways
        ('disk-guid = "97FD5997-D90B-4AA3-8D10-6C1723AEA"', "is not a UUID"),
        ('disk-guid = "F222513BDED149FAB59120CE86A2FE7F"', "is not a UUID"),
        ('disk-guid = "{F222513B-DED1-49FA-B591-20CE86A2FE7F}"', "is not a UUID"),
        ('disk-guid = "F222513B-DED1-49FA-B591-20CE86A2FE7F "', "is not a UUID"),
        ('disk-guid = "00000000-0000-0000-0000-000000000000"', "means none"),
        ("root-filesystem-uuid = 3", "is not a UUID"),
        ('disk-signature = "123"', "is not an identifier of 32 bits"),
        ("disk-signature = 305441741", "is not an identifier of 32 bits"),
        ('esp-volume-id = "0000-0000"', "is not an identifier of 32 bits"),
        ('esp-volume-id = "1-234567"', "is not an identifier of 32 bits"),
    ],
)
def test_wrong_identifiers_are_refused(line: str, what: str) -> None:
    """An identifier that is not exactly right is refused: the tools would each make something else of it."""
    with pytest.raises(SpecError, match=what) as caught:
        loaded(f"{BASE}[identifiers]\n{line}")
    assert caught.value.key == f"identifiers.{line.split(' ', maxsplit=1)[0]}"


@pytest.mark.parametrize(
    ("table", "more", "key", "what"),
    [
        ("legacy", "[efi]\ntouch-variables = true", "efi.touch-variables", "has no EFI system partition"),
        ("none", '[efi]\nfirmware = "f.json"', "efi.firmware", "has no EFI system partition"),
        ("legacy+gpt", '[bootloader]\ninstall = "systemd-boot"', "bootloader.install", "systemd-boot cannot boot from"),
        ("none", '[bootloader]\ninstall = "grub"', "bootloader.install", "grub cannot boot from"),
        ("efi", '[bootloader]\ninstall = "extlinux"', "bootloader.install", "extlinux cannot boot from"),
        ("legacy", '[bootloader]\ninstall = "refind"', "bootloader.install", "refind cannot boot from"),
        ("none", '[bootloader]\ninstall = { efi-binary = "/a" }', "bootloader.install", "efi-binary cannot boot from"),
    ],
)
def test_tables_that_do_not_go_with_the_rest(table: str, more: str, key: str, what: str) -> None:
    """Variables, firmware and bootloaders that the partition table cannot serve are refused, naming tables that can."""
    with pytest.raises(SpecError, match=what) as caught:
        loaded(f"{with_table(table)}{more}")
    assert caught.value.key == key
    assert "image.partition-table = " in caught.value.allowed


@pytest.mark.parametrize(
    ("install", "table", "better"), [("extlinux", "legacy", "legacy+boot"), ("refind", "efi", "efixbootldr")]
)
def test_kernels_that_the_bootloader_cannot_read_are_refused(install: str, table: str, better: str) -> None:
    """From a filesystem that a loader is not known to read it boots with a boot partition only."""
    more = f'filesystem = "xfs"\n[bootloader]\ninstall = "{install}"'
    with pytest.raises(SpecError, match=f"{install} is not known to load kernels from xfs") as caught:
        loaded(f"{with_table(table)}{more}")
    assert caught.value.allowed == f"ext4, or image.partition-table = {better}"
    loaded(f"{with_table(better)}{more}")


def test_a_descriptor() -> None:
    """A firmware that is one path is a descriptor."""
    spec = loaded(f'{BASE}[efi]\nfirmware = "f.json"')
    assert spec.efi.firmware == DescriptorFirmware(path=Path("/definitions/f.json"))


INSTALLERS = 'systemd-boot | grub | { efi-binary = "/path" } | refind | extlinux | nixos | { command = ["..."] } | none'
SIZES = "512M, 4GiB, or a number of bytes"
KINDS = "directory | tar | oci | debian | minimal | nix"
COMMAND = '"gzip --keep $1" or ["./finish", "--fast"]'
TEXT = "a text in quotes"
MODE = 'octal digits in quotes, such as "0644"'


@pytest.mark.parametrize(
    ("text", "key", "what", "allowed"),
    [
        ("", "image", "the key 'image' is missing", ""),
        (IMAGE, "root", "the key 'root' is missing", ""),
        (f"[image]\n{ROOT}", "image.name", "the key 'name' is missing", ""),
        (f'{BASE}[[contents]]\nsource = "a"', "contents[0].target", "the key 'target' is missing", ""),
        (
            f"{BASE}[imag]",
            "imag",
            "unknown key 'imag'; did you mean 'image'?",
            "image, root, partition, contents, bootloader, efi",
        ),
        (
            BASE.replace("name", "nam"),
            "image.nam",
            "unknown key 'nam'; did you mean 'name'?",
            "name, format, partition",
        ),
        (
            image('boot_size = "1G"'),
            "image.boot_size",
            "unknown key 'boot_size'; did you mean 'boot-size'?",
            "boot-size",
        ),
        (content('usr = "a"'), "contents[0].usr", "unknown key 'usr'; did you mean 'user'?", "source, target, mode"),
        (source('{ tar = "t", include = [] }'), "root.source.include", "unknown key 'include'", "tar"),
        (source('{ debian = "b", xyz = 1 }'), "root.source.xyz", "unknown key 'xyz'", "debian, include, variant"),
        (f"image = 'x'\n{ROOT}", "image", "'x' is not a table", ""),
        (f"image = [1]\n{ROOT}", "image", "[1] is not a table", ""),
        (image("size = 3\nname = 3").replace('name = "x"\n', ""), "image.name", "3 has the wrong type", TEXT),
        (image('name = "a/b"').replace('name = "x"\n', ""), "image.name", "'a/b' cannot be a file name", ""),
        (image('name = ""').replace('name = "x"\n', ""), "image.name", "'' cannot be a file name", ""),
        (image('name = "a\\u0000"').replace('name = "x"\n', ""), "image.name", "'a\\x00' cannot be a file name", ""),
        (image('base-name = "../x"'), "image.base-name", "'../x' cannot be a file name", ""),
        (image('base-name = ""'), "image.base-name", "'' cannot be a file name", ""),
        (
            image("base-name = 'x\"y'\nhydra-build-products = true"),
            "image.base-name",
            "Hydra's list takes no name with a quotation mark",
            "",
        ),
        (image("hydra-build-products = 1"), "image.hydra-build-products", "1 has the wrong type", "true or false"),
        (f"{BASE}[hooks]\nafter-build = []", "hooks.after-build", "[] is not a command", COMMAND),
        (f"{BASE}[hooks]\nafter-build = ' '", "hooks.after-build", "' ' is not a command", COMMAND),
        (f"{BASE}[hooks]\nafter-build = [1]", "hooks.after-build", "[1] is not a command", COMMAND),
        (
            f"{BASE}[hooks]\nafter = 'x'",
            "hooks.after",
            "unknown key 'after'; did you mean 'after-build'?",
            "after-build",
        ),
        (image('format = "qcow3"'), "image.format", "'qcow3' is not known; did you mean 'qcow2'?", "raw | qcow2"),
        (image("format = 3"), "image.format", "3 is not known", "raw | qcow2"),
        (image('partition-table = "gpt"'), "image.partition-table", "'gpt' is not known", "efi"),
        (image('size = "4X"'), "image.size", "'4X' is not a size such as 512M, 4GiB or a number of bytes", SIZES),
        (image("size = true"), "image.size", "True is not a size", SIZES),
        (image("size = -1"), "image.size", "-1 is not a size", SIZES),
        (image("size = 1.5"), "image.size", "1.5 is not a size", SIZES),
        (
            image('boot-size = "auto"'),
            "image.boot-size",
            "'auto' is not a size such as 512M, 4GiB or a number of",
            SIZES,
        ),
        (f"root = 3\n{IMAGE}", "root", "3 is not a table", ""),
        (source('"minimal"'), "root.source", "'minimal' is not a root source", '{ tar = "root.tar" } and the like'),
        (source("{ }"), "root.source", "a root source has exactly one kind; given: nothing", KINDS),
        (source('{ tarr = "x" }'), "root.source", "a root source has exactly one kind; given: tarr; did you", KINDS),
        (
            source('{ tar = "x", debian = "y" }'),
            "root.source",
            "a root source has exactly one kind; given: tar, deb",
            KINDS,
        ),
        (source("{ minimal = false }"), "root.source", "the minimal source takes no settings", "{ minimal = true }"),
        (source("{ tar = 3 }"), "root.source.tar", "3 has the wrong type", TEXT),
        (source("{ debian = 3 }"), "root.source.debian", "3 has the wrong type", TEXT),
        (
            source('{ debian = "b", include = "x" }'),
            "root.source.include",
            "'x' is not a list of texts",
            '["one", "two"]',
        ),
        (
            source('{ directory = "d", owner = "rot" }'),
            "root.source.owner",
            "'rot' is not known; did you m",
            "keep | root",
        ),
        (BASE + 'filesystem = "ntfs"', "root.filesystem", "'ntfs' is not supported", " | ".join(ROOT_FILESYSTEMS)),
        (BASE + 'label = "ääääääääx"', "root.label", "an ext4 label has at most 16 bytes", ""),
        (BASE + 'machine-id = "no"', "root.machine-id", "'no' is not known", "empty | uninitialized | remove | keep"),
        (f'{BASE}[contents]\nsource = "a"', "contents", "{'source': 'a'} is not a list of tables", "[[contents]]"),
        (content().replace("/a", "a"), "contents[0].target", "'a' is not an absolute path in the image", ""),
        (content('mode = "999"'), "contents[0].mode", "'999' is not a file mode", MODE),
        (content('mode = "77777"'), "contents[0].mode", "'77777' is not a file mode", MODE),
        (content("mode = 420"), "contents[0].mode", "420 is not a file mode", MODE),
        (content('user = "a"'), "contents[0]", "user and group go together: give both or neither", ""),
        (content("user = -1", "group = 0"), "contents[0].user", "-1 is not a user or group", "a name or a number"),
        (content('user = ""', "group = 0"), "contents[0].user", "'' is not a user or group", "a name or a number"),
        (
            f'{BASE}[bootloader]\ninstall = "grubb"',
            "bootloader.install",
            "'grubb' is not known; did you mean 'gr",
            INSTALLERS,
        ),
        (f"{BASE}[bootloader]\ninstall = 3", "bootloader.install", "3 is not known", INSTALLERS),
        (
            f"{BASE}[bootloader]\ninstall = {{ command = 'x' }}",
            "bootloader.install",
            "'command' is given a list of texts besides",
            '{ command = ["..."] }',
        ),
        (f"{BASE}[bootloader]\ninstall = {{ command = [] }}", "bootloader.install.command", "the command is empty", ""),
        (f"{BASE}[bootloader]\ntitle = 3", "bootloader.title", "3 has the wrong type", TEXT),
        (
            f'{BASE}[bootloader]\nkernel-parameters = "quiet"',
            "bootloader.kernel-parameters",
            "'quiet' is not a list of texts",
            '["one", "two"]',
        ),
        (
            f'{BASE}[bootloader]\nkernel-parameters = ["a", "b\\nc"]',
            "bootloader.kernel-parameters[1]",
            "a kernel parameter has no line breaks",
            "",
        ),
        (f"{BASE}[efi]\ntouch-variables = 'yes'", "efi.touch-variables", "'yes' has the wrong type", "true or false"),
        (f"{BASE}[efi]\nfirmware = {{ code = 'a' }}", "efi.firmware.variables", "the key 'variables' is missing", ""),
        (f"{BASE}[efi]\nfirmware = 3", "efi.firmware", "3 is not a table", ""),
        (f"{BASE}[deterministic]\nenabled = 1", "deterministic.enabled", "1 has the wrong type", "true or false"),
        (f'{BASE}[guest]\nmemory = "lots"', "guest.memory", "'lots' is not a size such as 512M, 4GiB or a num", SIZES),
        (f"{BASE}[guest]\nmemory = 0", "guest.memory", "0 B of memory is not possible", "whole MiB, at least 128"),
        (
            f"{BASE}[guest]\nmemory = 300000001",
            "guest.memory",
            "286.1 MiB of memory is not p",
            "whole MiB, at least 128",
        ),
    ],
)
def test_wrong_definitions(text: str, key: str, what: str, allowed: str) -> None:
    """The error names the file, the key, what is wrong with it, the nearest known key, and what would be right."""
    with pytest.raises(SpecError) as refusal:
        loaded(text)
    error = refusal.value
    assert (error.origin, error.key) == (str(ORIGIN), key)
    assert error.what.startswith(what)
    assert error.allowed.startswith(allowed) or allowed in error.allowed
    assert bool(error.allowed) == bool(allowed)
    assert str(error).startswith(f"{ORIGIN}: {key}: {what}")


def test_what_is_not_toml() -> None:
    """The line and column are told."""
    with pytest.raises(SpecError, match=r"image.toml: not valid TOML: .*line 9, column 9"):
        loaded(content("mode = 0644"))


VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text("ab/", max_size=3), st.sampled_from(["auto", "efi", "4G", "grub"])),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["tar", "minimal", "code", "x"]), inner)
    ),
    max_leaves=4,
)
TABLES = ["image", "root", "contents", "bootloader", "efi", "deterministic", "guest", "other"]
KEYS = ["name", "size", "source", "target", "mode", "user", "install", "firmware", "kernel-parameters", "memory", "odd"]


def toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


@given(st.dictionaries(st.sampled_from(TABLES), VALUES | st.dictionaries(st.sampled_from(KEYS), VALUES)))
def test_no_definition_fails_otherwise(document: dict[str, object]) -> None:
    """Whatever stands in the file, it loads or is refused in words that name the file."""
    text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
    errors = []
    try:
        loaded(text)
    except SpecError as error:
        errors.append(error.origin)
    assert errors in ([], [str(ORIGIN)])
