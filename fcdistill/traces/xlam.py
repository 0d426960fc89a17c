"""Flat parameter maps, as xLAM's data sets have them, to JSON Schema: `{"city": {"type": "str, optional", ...}}`.

Types are Python's, written as text. A parameter is optional where its type says so or a default is given.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any

from fcdistill.tools.json_schema import Draft202012Validator

__all__ = ["FlatParametersError", "schema_of_flat"]

_SIMPLE: dict[str, dict[str, Any]] = {
    "any": {},
    "array": {"type": "array"},
    "bool": {"type": "boolean"},
    "boolean": {"type": "boolean"},
    "dict": {"type": "object", "additionalProperties": {}},
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "integer": {"type": "integer"},
    "list": {"type": "array"},
    "none": {"type": "null"},
    "number": {"type": "number"},
    "object": {"type": "object", "additionalProperties": {}},
    "set": {"type": "array", "uniqueItems": True},
    "str": {"type": "string"},
    "string": {"type": "string"},
    "tuple": {"type": "array"},
}
_REMARK = re.compile(r",\s*(optional|required|default\b.*)\s*$", re.IGNORECASE)


class FlatParametersError(ValueError):
    """A parameter map that can't be understood; the message says why."""


def schema_of_flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an arguments object.

    Args:
        parameters: parameter name to `{type, description, default, enum, required}`, all but `type` optional; a map
            that is a JSON Schema of an object already is returned as it stands.

    Raises:
        FlatParametersError: a parameter is no object, or its type is none that JSON can hold.
    """
    if parameters.get("type") == "object" and isinstance(parameters.get("properties"), Mapping):
        return dict(parameters)
    properties: dict[str, Any] = {}
    required = []
    for name, given in parameters.items():
        if not isinstance(given, Mapping) or not isinstance(given.get("type"), str):
            raise FlatParametersError(f"parameter {name!r} has no type")
        text, remark = given["type"].strip(), ""
        while found := _REMARK.search(text):
            text, remark = text[: found.start()].strip(), found.group(1).lower()
        try:
            schema = _schema(ast.parse(text, mode="eval").body)
        except (SyntaxError, ValueError, RecursionError):
            raise FlatParametersError(f"parameter {name!r} has the unknown type {given['type']!r}") from None
        optional = remark == "optional" or remark.startswith("default") or given.get("default") is not None
        if given.get("required", not optional) is True:
            required.append(name)
        properties[name] = schema | _annotations(given, schema)
    return {"type": "object", "properties": properties, "required": required}


def _annotations(given: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a parameter's map says beside its type. A default of another type, such as "5" for a number, is none."""
    found: dict[str, Any] = {}
    if isinstance(given.get("description"), str) and given["description"]:
        found["description"] = given["description"]
    if isinstance(given.get("enum"), list):
        found["enum"] = given["enum"]
    default = given.get("default")
    if default not in (None, "") and Draft202012Validator(schema).is_valid(default):
        found["default"] = default
    return found


def _schema(node: ast.expr) -> dict[str, Any]:
    """The schema of a type's syntax tree. Raises `ValueError` for what is no type."""
    match node:
        case ast.Constant(value=None):
            return dict(_SIMPLE["none"])
        case ast.Name(id=name) | ast.Attribute(attr=name) if name.lower() in _SIMPLE:
            return dict(_SIMPLE[name.lower()])
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return {"anyOf": [_schema(left), _schema(right)]}
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            return _generic(name.lower(), inner.elts if isinstance(inner, ast.Tuple) else [inner])
    raise ValueError(ast.dump(node))


def _generic(name: str, inner: list[ast.expr]) -> dict[str, Any]:
    if not inner:
        raise ValueError(name)
    if name == "literal":
        return {"enum": [_json_literal(each) for each in inner]}
    if name == "tuple" and isinstance(inner[-1], ast.Constant) and inner[-1].value is Ellipsis:
        return {"type": "array", "items": _schema(inner[0])}
    parts = [_schema(each) for each in inner]
    if name == "union":
        return {"anyOf": parts}
    if name == "tuple":
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
    if name == "optional" and len(parts) == 1:
        return {"anyOf": [*parts, {"type": "null"}]}
    if name in ("list", "set", "array", "sequence", "iterable") and len(parts) == 1:
        return {"type": "array", "items": parts[0], **({"uniqueItems": True} if name == "set" else {})}
    if name in ("dict", "mapping") and len(parts) == 2:
        return {"type": "object", "additionalProperties": parts[1]}
    raise ValueError(name)


def _json_literal(node: ast.expr) -> Any:
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(ast.dump(node))
    return value
