"""Tools as one-line signatures: what a `compact` prompt shows in place of JSON Schemas.

A signature keeps names, types, closed sets and number ranges, and leaves out what the words of a request rarely decide
(lengths, defaults, descriptions of single arguments). Whether a schema is valid is not judged here (`validation`).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from fcdistill.records import ToolSpec
from fcdistill.tools.parameters import all_members, alternatives, listed_values, members, suggested_types
from fcdistill.tools.refs import read_schema

__all__ = ["compact_signature"]

_MAX_ALTERNATIVES = 16
_MAX_DEPTH = 8
_MAX_PATTERN_CHARACTERS = 48
_PLAIN_WORD = re.compile(r"[\w.+:/-]+")
_LIKE_OTHERS = re.compile(
    r"(?i:true|false|null|none|nan|inf(?:inity)?)|(?i:str|int|number|bool|any|object)"
    r"|[+-]?(?:\.[0-9]|[0-9])[0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?"
)
"""Words that could be taken for a number, a truth value, null or one of the types of a signature."""
_TYPE_NAMES = {"string": "str", "integer": "int", "number": "number", "boolean": "bool", "null": "null"}


def compact_signature(spec: ToolSpec) -> str:
    """One line: `name(required: type, optional?: type)  # description`.

    Types are `str`, `int 0..100`, `a|b|c`, `[item]`, `{key: type, optional?: type}`, `bool`, `null` and `any`. Words
    that read like another value are in quotes. A tool that is called in one of several ways shows all of them:
    `name(a: str) | name(b: int)`.
    """
    ways = _alternatives(spec.parameters, spec.parameters)
    heads = dict.fromkeys(f"{spec.name}({_members(way, spec.parameters, 0)})" for way in ways)
    head = " | ".join(heads) or f"{spec.name}()"
    description = " ".join(spec.description.split())
    return f"{head}  # {description}" if description else head


def _alternatives(schema: Any, root: Mapping[str, Any], depth: int = 0) -> list[dict[str, Any]]:
    """What a value may be: each of the alternatives, or where they are too many, one object with all their members."""
    found = alternatives(schema, root, _MAX_ALTERNATIVES)
    if found is not None or depth > _MAX_DEPTH:
        return found or []
    own = read_schema(schema, root)
    names, required = all_members(own, root)
    objects = [{**own, "properties": names, "required": required}] if names else []
    if "type" in own and objects:
        return objects
    branches = [each for keyword in ("allOf", "anyOf", "oneOf") for each in own.get(keyword, ())]
    apart = [each for branch in branches for each in _alternatives(branch, root, depth + 1)]
    return [*objects, *(each for each in apart if not objects or "object" not in suggested_types(each))]


def _members(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    required = set(schema.get("required", ()))
    shown = [
        f"{name}{'' if name in required else '?'}: {_type(value, root, depth + 1)}"
        for name, value in members(schema, root).items()
    ]
    for pattern, value in schema.get("patternProperties", {}).items():
        named = f"/{pattern}/" if len(pattern) <= _MAX_PATTERN_CHARACTERS else "*"
        shown.append(f"{named}: {_type(value, root, depth + 1)}")
    others = schema.get("additionalProperties")
    if isinstance(others, Mapping):
        shown.append(f"*: {_type(others, root, depth + 1)}")
    return ", ".join(shown)


def _type(schema: Any, root: Mapping[str, Any], depth: int) -> str:
    resolved = read_schema(schema, root)
    if not isinstance(resolved, Mapping) or (depth := depth if resolved is schema else depth + 1) > _MAX_DEPTH:
        return "any"
    options = [option for each in _alternatives(resolved, root) for option in _options(each, root, depth)]
    return "|".join(dict.fromkeys(options)) or "any"


def _options(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> list[str]:
    """The types, or the values, of a schema without alternatives."""
    values = listed_values(schema, root)
    if values is not None:
        return [_literal(value) for value in values]
    return [_one_type(name, schema, root, depth) for name in suggested_types(schema) or ["any"]]


def _one_type(name: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    if name == "object":
        members = _members(schema, root, depth)
        return f"{{{members}}}" if members else "object"
    if name == "array":
        items = [_type(item, root, depth + 1) for item in schema.get("prefixItems", ())]
        if isinstance(schema.get("items"), Mapping):
            items.append(_type(schema["items"], root, depth + 1))
        return f"[{', '.join(items) or 'any'}]"
    parts = [_TYPE_NAMES.get(name, "any")]
    if name == "string":
        pattern = schema.get("pattern", "")
        parts.append(str(schema.get("format", "")))
        parts.append(f"/{pattern}/" if 0 < len(pattern) <= _MAX_PATTERN_CHARACTERS else "")
    if name in ("integer", "number"):
        parts.append(_number_range(schema))
    return " ".join(part for part in parts if part)


def _number_range(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    parts = []
    if low is not None and high is not None:
        parts.append(f"{low}..{high}")
    elif low is not None:
        parts.append(f">={low}")
    elif high is not None:
        parts.append(f"<={high}")
    for key, sign in (("exclusiveMinimum", ">"), ("exclusiveMaximum", "<")):
        if key in schema:
            parts.append(f"{sign}{schema[key]}")
    if "multipleOf" in schema:
        parts.append(f"step {schema['multipleOf']}")
    return " ".join(parts)


def _literal(value: Any) -> str:
    """A value as it has to be written; words without quotes, unless they read like a value of another type."""
    if isinstance(value, str) and _PLAIN_WORD.fullmatch(value) and not _LIKE_OTHERS.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
