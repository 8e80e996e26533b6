"""The host's own apt sources, turned into those of a Debian suite. Text in, text out.

No mirror is named in this project: whatever the host's administrator chose is used, also for another suite than the
host's, whose names are then put in place of the host's (``bookworm-updates`` becomes ``trixie-updates``). Sources of
other archives (a vendor's repository) are left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

Stanza = dict[str, str]

_SUITES = (
    *("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
    *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
)
_ROLLING = ("sid", "unstable")  # these have neither updates nor security
_SUITE = re.compile(r"(?P<name>[a-z]+)(?P<rest>-updates|-security|-backports|-proposed-updates|/updates)?/?", re.ASCII)


def parse_list(text: str) -> Iterator[Stanza]:
    """The binary sources of a classic ``sources.list``, as deb822 stanzas (sources.list(5))."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>[^#]*)", line)
        if match is None:
            continue
        # a CD's name is in brackets and may hold blanks; no CD is in the drive of a build
        words = match["rest"].split()
        if len(words) < 2 or words[0].startswith("cdrom:"):
            continue
        stanza = {"Types": "deb", "URIs": words[0], "Suites": words[1], "Components": " ".join(words[2:])}
        for option in shlex.split(match["options"] or ""):
            key, _, value = option.partition("=")
            names = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}
            field = names.get(key.rstrip("+-"), "-".join(part.capitalize() for part in key.split("-")))
            stanza[field] = value.replace(",", " ") if field != "Signed-By" else value
        yield {key: value for key, value in stanza.items() if value}


def parse_sources(text: str) -> Iterator[Stanza]:
    """The enabled binary sources of a deb822 file (``*.sources``); field values may go over several lines."""
    for block in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        stanza: Stanza = {}
        last = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in {" ", "\t"} and last:
                stanza[last] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                last = "-".join(part if part == "URIs" else part.capitalize() for part in name.strip().split("-"))
                last = {"Uris": "URIs"}.get(last, last)
                stanza[last] = value.strip()
        enabled = stanza.pop("Enabled", "yes").lower() not in {"no", "false", "0", "off", "without", "disable"}
        if enabled and "deb" in stanza.get("Types", "").split():
            yield {**stanza, "Types": "deb"}


def for_suite(stanzas: Iterable[Stanza], suite: str, *, host_suite: str | None) -> str:
    """The sources that belong to a Debian archive, with their suites' names changed to ``suite``, as deb822 text.

    :param host_suite: the host's own codename, if it is a Debian; known besides the names up to now.
    :returns: an empty text where the host has no Debian source.
    """
    known = {*_SUITES, *([host_suite] if host_suite else []), suite}
    written: list[str] = []
    for stanza in stanzas:
        suites = list(dict.fromkeys(_renamed(stanza.get("Suites", "").split(), suite, known)))
        if not suites:
            continue
        text = "".join(f"{key}: {value}\n" for key, value in {**stanza, "Suites": " ".join(suites)}.items())
        if text not in written:
            written.append(text)
    return "\n".join(written)


def _renamed(suites: list[str], wanted: str, known: set[str]) -> Iterator[str]:
    for suite in suites:
        match = _SUITE.fullmatch(suite)
        if match is None or match["name"] not in known:
            continue
        rest = match["rest"] or ""
        if match["name"] == wanted:
            yield f"{wanted}{rest}"
        elif not rest:
            yield wanted
        elif wanted not in _ROLLING:
            # until Debian 10 the security archive's suites were called like buster/updates
            yield f"{wanted}{'-security' if rest == '/updates' else rest}"
