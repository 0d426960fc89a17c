"""Texts that stand for values of which only the schema says the type: `5` for a number, or for the text "5".

Formats that write each argument in a tag of its own have texts alone. A text stays one where the schema allows texts
and nothing else; else it is read as JSON, or as Python where a model writes True and None.

Source: the parsers of vLLM and SGLang for Qwen3-Coder, GLM-4.5 and MiniMax M2, which convert by the same schemas.
"""

import re
from collections.abc import Mapping
from typing import Any

from fcdistill.records.equality import same_value
from fcdistill.storage import StrictJsonError, loads_strict
from fcdistill.toolcalls.json_text import json_text
from fcdistill.toolcalls.literals import PYTHON, LiteralError, read_literal
from fcdistill.tools.parameters import property_schema, resolve_schema

__all__ = ["readings", "text_of", "value_of"]

_TYPES: tuple[tuple[str, type | tuple[type, ...]], ...] = (
    ("boolean", bool),
    ("integer", int),
    ("number", (int, float)),
    ("array", list),
    ("object", dict),
    ("null", type(None)),
)
_PLAIN = re.compile(r"\s*(?:[-+\d.\[{\"']|true|false|null|True|False|None|NaN)")


def value_of(text: str, name: str, parameters: Mapping[str, Any] | None) -> Any:
    """What a text means as the value of an argument.

    Args:
        text: as it stands in the answer.
        name: of the argument.
        parameters: of its tool; None where it is not known.
    """
    schema = None if parameters is None else property_schema(parameters, [name])
    if parameters is None or schema is None:
        value = _read(text)
        return text if value is _UNREADABLE else value
    types, listed = _allowed(schema, parameters)
    if types == {"string"}:
        return text
    value = _read(text)
    if value is _UNREADABLE or isinstance(value, str) and "string" in types:
        return text
    if "string" not in types:
        return value
    # Texts and other values are both allowed: what the schema lists decides, then the type that is not text.
    if any(same_value(text, each) for each in listed):
        return text
    return value if not listed and _is_of(value, types) or any(same_value(value, each) for each in listed) else text


def readings(name: str, parameters: Mapping[str, Any]) -> tuple[set[str], list[Any]]:
    """What `value_of` reads an argument's text as: the types that it may be of, and the values that are listed.

    Args:
        name: of an argument that the tool declares.
        parameters: of its tool.
    """
    return _allowed(property_schema(parameters, [name]), parameters)


def text_of(value: Any) -> str:
    """A value as such formats write it: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else json_text(value)


_UNREADABLE = object()


def _read(text: str) -> Any:
    if not _PLAIN.match(text):
        return _UNREADABLE
    try:
        return loads_strict(text)
    except StrictJsonError:
        pass
    try:
        literal = read_literal(text, 0, PYTHON)
    except LiteralError:
        return _UNREADABLE
    return literal.value if not text[literal.end :].strip() else _UNREADABLE


def _allowed(schema: Any, root: Mapping[str, Any]) -> tuple[set[str], list[Any]]:
    """The types that a schema allows, all of them where it says nothing, and the values that it lists."""
    schema = resolve_schema(schema, root)
    branches = [branch for key in ("anyOf", "oneOf") for branch in schema.get(key, ())]
    if branches:
        found = [_allowed(branch, root) for branch in branches]
        return set().union(*(types for types, _ in found)), [value for _, listed in found for value in listed]
    listed = list(schema.get("enum", ())) + ([schema["const"]] if "const" in schema else [])
    named = schema.get("type")
    if named is None and listed:
        return {_type_of(value) for value in listed}, listed
    if named is None:
        return {"string", *(name for name, _ in _TYPES)}, listed
    return {named} if isinstance(named, str) else set(named), listed


def _type_of(value: Any) -> str:
    return "string" if isinstance(value, str) else next(name for name, kind in _TYPES if isinstance(value, kind))


def _is_of(value: Any, types: set[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    return any(name in types and isinstance(value, kind) for name, kind in _TYPES if name != "boolean")
