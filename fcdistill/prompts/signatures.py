"""Tools as one-line signatures: what a `compact` prompt shows in place of JSON Schemas.

A signature keeps names, types, closed sets and number ranges, and leaves out what the words of a request rarely decide
(lengths, defaults, descriptions of single arguments). Whether a schema is valid is not judged here (`validation`).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from fcdistill.records import ToolSpec
from fcdistill.tools.refs import read_schema

__all__ = ["compact_signature"]

_MAX_DEPTH = 8
_MAX_PATTERN_CHARACTERS = 48
_PLAIN_WORD = re.compile(r"[\w.+:/-]+")
_TYPE_NAMES = {"string": "str", "integer": "int", "number": "number", "boolean": "bool", "null": "null"}


def compact_signature(spec: ToolSpec) -> str:
    """One line: `name(required: type, optional?: type)  # description`.

    Types are `str`, `int 0..100`, `a|b|c`, `[item]`, `{key: type, optional?: type}`, `bool`, `null` and `any`.
    """
    root = read_schema(spec.parameters, spec.parameters)
    head = f"{spec.name}({_members(root, spec.parameters, 0) if isinstance(root, Mapping) else ''})"
    description = " ".join(spec.description.split())
    return f"{head}  # {description}" if description else head


def _members(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    required = set(schema.get("required", ()))
    members = [
        f"{name}{'' if name in required else '?'}: {_type(value, root, depth + 1)}"
        for name, value in schema.get("properties", {}).items()
    ]
    others = schema.get("additionalProperties")
    if isinstance(others, Mapping):
        members.append(f"*: {_type(others, root, depth + 1)}")
    return ", ".join(members)


def _type(schema: Any, root: Mapping[str, Any], depth: int) -> str:
    resolved = read_schema(schema, root)
    return _shown(resolved, root, depth if resolved is schema else depth + 1)


def _shown(schema: Any, root: Mapping[str, Any], depth: int) -> str:
    """The type of a schema that refers to nothing."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return "any"
    if "allOf" in schema:  # what no other keyword says exactly
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            merged.update(part if isinstance(part, Mapping) else {})
        return _shown(merged, root, depth + 1)
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        options = [_literal(value) for value in schema["enum"]]
    elif "anyOf" in schema or "oneOf" in schema:
        options = [_type(part, root, depth + 1) for part in schema.get("anyOf", schema.get("oneOf", ()))]
    else:
        types = schema.get("type", "object" if "properties" in schema else "any")
        options = [_one_type(name, schema, root, depth) for name in ([types] if isinstance(types, str) else types)]
    if schema.get("nullable") is True:
        options.append("null")
    return "|".join(dict.fromkeys(options))


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
    if isinstance(value, str) and _PLAIN_WORD.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
