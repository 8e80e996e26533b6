"""The documents: what they point to exists, and what they show works."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmharness.errors import SpecError
from vmharness.plan.load import load

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")])
EXAMPLES = sorted((CHECKOUT / "examples").glob("*.toml"))


def prose(document: Path) -> str:
    """A document without its code: neither blocks nor spans."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(document: Path) -> set[str]:
    """The names under which a document's headings can be linked to, as code forges make them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.*?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    """Links and pictures of a document that lead to no file of the checkout, or to no heading in it."""
    targets = re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", prose(document))
    broken = []
    for target in targets:
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = document.parent / name if name else document
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    return broken


def definitions(document: Path) -> Iterator[str]:
    """The whole image definitions that a document shows: its TOML blocks with the tables ``image`` and ``root``."""
    for block in re.findall(r"^```toml\n(.*?)^```$", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE):
        if {"image", "root"} <= tomllib.loads(block).keys():
            yield block


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every link inside the checkout has a file, and a heading if it names one."""
    assert broken_links(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_shown_definitions_are_valid(document: Path) -> None:
    """Every TOML block is TOML, and a whole image definition is one that vmharness accepts."""
    for text in definitions(document):
        load(text, document)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid(example: Path) -> None:
    """Every example is an image definition that vmharness accepts."""
    assert load(example.read_text("utf-8"), example).name


def test_broken_links_are_found(tmp_path: Path) -> None:
    """A link to a missing file or heading is reported; a good one, one elsewhere and one in code are not."""
    (tmp_path / "other.md").write_text("# A heading: `here`\n")
    document = tmp_path / "document.md"
    document.write_text(
        "[good](other.md#a-heading-here) [missing](gone.md) ![picture](gone.svg) [no heading](other.md#b)\n"
        "[elsewhere](https://example.org/gone) [itself](#nowhere) `[code](gone)`\n"
        "```\n[block](gone)\n```\n"
    )
    assert broken_links(document) == ["gone.md", "gone.svg", "other.md#b", "#nowhere"]


def test_wrong_definition_is_found(tmp_path: Path) -> None:
    """A definition that a document shows with a mistake in it is refused."""
    document = tmp_path / "document.md"
    document.write_text('```toml\n[image]\nname = "x"\nformt = "raw"\n[root]\nsource = { minimal = true }\n```\n')
    (text,) = definitions(document)
    with pytest.raises(SpecError, match="formt"):
        load(text, document)
