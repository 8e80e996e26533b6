"""The host's apt sources, turned into those of a suite."""

from __future__ import annotations

import pytest

from vmharness.tree import apt

CLASSIC = """
# a remark
deb http://mirror.example/debian bookworm main contrib  # with a remark
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/d.gpg] https://mirror.example/debian bookworm-updates main
deb http://mirror.example/security bookworm-security main
deb cdrom:[Debian 12 _Bookworm_]/ bookworm main
deb [trusted=yes] https://vendor.example/repo nodistro main
deb https://flat.example/ ./
"""
DEB822 = """\
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
 non-free-firmware
signed-by:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
# remark

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://src.example/debian
Suites: bookworm
Components: main
"""


def test_a_classic_list_becomes_stanzas() -> None:
    """Binary sources with their options are taken; remarks, sources, CDs and other archives are not."""
    text = apt.for_suite(apt.parse_list(CLASSIC), "bookworm", host_suite="bookworm")
    assert text == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main contrib\n"
        "\n"
        "Types: deb\nURIs: https://mirror.example/debian\nSuites: bookworm-updates\nComponents: main\n"
        "Architectures: amd64 arm64\nSigned-By: /usr/share/keyrings/d.gpg\n"
        "\n"
        "Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main\n"
    )


def test_another_suite_takes_the_hosts_places() -> None:
    """Each of the host's suites becomes the wanted one's, also in a list of several, keys kept as they are."""
    text = apt.for_suite(apt.parse_sources(DEB822), "trixie", host_suite="bookworm")
    assert text == (
        "Types: deb\nURIs: http://mirror.example/debian\n"
        "Suites: trixie trixie-updates trixie-backports\n"
        "Components: main\n non-free-firmware\n"
        "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n"
    )


@pytest.mark.parametrize(
    ("suites", "wanted", "expected"),
    [
        ("stable stable-updates", "trixie", "trixie trixie-updates"),
        ("bookworm bookworm-security", "sid", "sid"),
        ("buster/updates", "bookworm", "bookworm-security"),
        ("buster/updates", "buster", "buster/updates"),
        ("sid", "bookworm", "bookworm"),
        ("zeppelin zeppelin-updates", "bookworm", "bookworm bookworm-updates"),
    ],
)
def test_suite_names_are_known(suites: str, wanted: str, expected: str) -> None:
    """Aliases, rolling suites, the old security archive and a host newer than this project are understood."""
    stanza = {"Types": "deb", "URIs": "http://m.example/debian", "Suites": suites, "Components": "main"}
    assert f"\nSuites: {expected}\n" in apt.for_suite([stanza], wanted, host_suite="zeppelin")


def test_a_host_without_debian_sources_gives_nothing() -> None:
    """Another distribution's archive is not taken for Debian's."""
    stanza = {"Types": "deb", "URIs": "http://m.example/ubuntu", "Suites": "jammy jammy-updates", "Components": "main"}
    assert apt.for_suite([stanza], "bookworm", host_suite=None) == ""


def test_equal_sources_are_written_once() -> None:
    """Two sources that become the same by their new names are one."""
    stanzas = [
        {"Types": "deb", "URIs": "http://m.example/debian", "Suites": suite, "Components": "main"}
        for suite in ("bookworm", "trixie")
    ]
    assert apt.for_suite(stanzas, "sid", host_suite=None).count("URIs") == 1
