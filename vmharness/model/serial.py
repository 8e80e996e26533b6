"""Values as JSON and back: one converter for all that vmharness writes and reads again.

Keys are the fields' names. Where a field may hold values of several kinds, each says under ``kind`` which it is. What
is read is taken for untrusted: keys that are unknown, missing, or of another type are refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import cattrs
from cattrs.strategies import configure_tagged_union
from cattrs.v import format_exception

from vmharness.model.partitions import Filesystem
from vmharness.model.text import harmless

_LONGEST_PROBLEM = 300

_Value = TypeVar("_Value")


def make_converter() -> cattrs.Converter:
    """A converter of one's own, to which hooks for more types can be added."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    for plain in (str, int, bool):
        converter.register_structure_hook(plain, _require)
    converter.register_structure_hook(float, lambda value, _type: float(_require(value, (int, float))))
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda value, _type: _uuid(value))
    converter.register_structure_hook(UUID | int, lambda value, _type: _uuid_or_int(value))
    converter.register_structure_hook(
        UUID | int | None, lambda value, _type: None if value is None else _uuid_or_int(value)
    )
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _type: Path(_require(value, str)))
    _tag(converter, Filesystem)  # last: it takes the hooks that its members' fields need
    return converter


def from_text(text: str) -> Any:
    """The JSON data that ``text`` holds.

    :raises ValueError: with a sentence, if it holds none.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is not JSON: it is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from error


def document(text: str, *, what: str, schema: int) -> dict[str, Any]:
    """The JSON object that ``text`` holds, of one version of its format.

    :param what: the kind of document, with its article, for messages.
    :raises ValueError: with a sentence, if it is none, or of another version.
    """
    data = from_text(text)
    if not isinstance(data, dict) or "schema" not in data:
        raise ValueError(f"it is not {what}: the key 'schema' is missing")
    if data["schema"] != schema:
        raise ValueError(f"it has the format {harmless(repr(data['schema']))}, and this vmharness reads {schema}")
    return data


def structured(data: Any, kind: type[_Value], converter: cattrs.Converter) -> _Value:
    """The value of ``kind`` that JSON data say.

    :raises ValueError: with a sentence that names each place where they say nothing of the kind.
    """
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 -- what is wrong is the text, not a type in the program
    try:
        return converter.structure(data, kind)
    except cattrs.BaseValidationError as error:
        problems = cattrs.transform_error(error, format_exception=_words)
        raise ValueError("; ".join(harmless(problem)[:_LONGEST_PROBLEM] for problem in problems[:3])) from error


def _words(error: BaseException, kind: type | None) -> str:
    """What went wrong at one place: our own values' sentences, and cattrs' words for all else."""
    return str(error) if type(error) is ValueError and str(error) else format_exception(error, kind)


def _require(value: Any, kind: Any) -> Any:
    # JSON's true is no number, although it is one in Python
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    return value


def _uuid(value: Any) -> UUID:
    return UUID(_require(value, str))


def _uuid_or_int(value: Any) -> UUID | int:
    return value if isinstance(value, int) and not isinstance(value, bool) else _uuid(value)


def _tag(converter: cattrs.Converter, union: Any) -> None:
    configure_tagged_union(union, converter, tag_name="kind", tag_generator=lambda kind: kind.__name__.lower())
    # a union with None is another type to cattrs, which would guess its members by their fields
    converter.register_structure_hook(
        union | None, lambda value, _type: None if value is None else converter.structure(value, union)
    )
    converter.register_unstructure_hook(
        union | None, lambda value: None if value is None else converter.unstructure(value, unstructure_as=union)
    )
