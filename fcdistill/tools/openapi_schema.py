"""Schemas in OpenAPI's older words, as Gemini and generators write them, said in JSON Schema.

Types in capitals become JSON Schema's, `nullable` a type, and a count that protobuf wrote as text a number. Which
sources write so is not known here.
"""

import re
from collections.abc import Callable
from typing import Any

__all__ = ["from_openapi", "is_openapi", "with_null_types"]

_TYPES = {name.upper(): name for name in ("array", "boolean", "integer", "null", "number", "object", "string")}
_UNSPECIFIED = "TYPE_UNSPECIFIED"
_COUNTS = frozenset("maxItems maxLength maxProperties minItems minLength minProperties".split())
"""Keywords whose values are int64, which protobuf's JSON writes as text."""
_ONE_BELOW = ("items", "additionalProperties")
_LISTED_BELOW = ("prefixItems", "anyOf")
_NAMED_BELOW = ("properties", "$defs")
_OLDER_NAMES = {
    "any_of": "anyOf",
    "defs": "$defs",
    "max_items": "maxItems",
    "max_length": "maxLength",
    "max_properties": "maxProperties",
    "min_items": "minItems",
    "min_length": "minLength",
    "min_properties": "minProperties",
    "property_ordering": "propertyOrdering",
    "ref": "$ref",
}
"""Names that Gemini's schemas have in Python, or in JSON that keeps `$` out of names."""


def is_openapi(schema: Any) -> bool:
    """Whether the schema of an arguments object has its type in capitals."""
    return isinstance(schema, dict) and schema.get("type") == "OBJECT"


def from_openapi(schema: Any) -> Any:
    """The schema in JSON Schema's words. What is no such schema is returned as it is, for a validator to judge."""
    return with_null_types(_renamed(schema))


def with_null_types(schema: Any) -> Any:
    """The schema with `nullable: true`, which JSON Schema does not know, said as a type."""
    if not isinstance(schema, dict):
        return schema
    result = _below({key: value for key, value in schema.items() if key != "nullable"}, with_null_types)
    if schema.get("nullable") is not True:
        return result
    if isinstance(result.get("anyOf"), list):
        result["anyOf"] = [*result["anyOf"], {"type": "null"}]
    if "type" in result:
        types = result["type"] if isinstance(result["type"], list) else [result["type"]]
        result["type"] = list(dict.fromkeys([*types, "null"]))
    if isinstance(result.get("enum"), list) and None not in result["enum"]:
        result["enum"] = [*result["enum"], None]
    return result


def _renamed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    named: dict[str, Any] = {_OLDER_NAMES.get(key) or key: value for key, value in schema.items()}
    if named.get("type") == _UNSPECIFIED:
        del named["type"]
    kinds = named.get("type")
    if isinstance(kinds, str):
        named["type"] = _TYPES.get(kinds, kinds)
    elif isinstance(kinds, list):
        named["type"] = [_TYPES.get(kind, kind) if isinstance(kind, str) else kind for kind in kinds]
    for key in _COUNTS & named.keys():
        if isinstance(named[key], str) and re.fullmatch("[0-9]{1,18}", named[key]):
            named[key] = int(named[key])
    if named.get("format") == "enum":
        del named["format"]  # says once more that there is a list of values
    return _below(named, _renamed)


def _below(schema: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The schema with the schemas directly below it changed."""
    for key in _ONE_BELOW:
        if key in schema:
            schema[key] = change(schema[key])
    for key in _LISTED_BELOW:
        if isinstance(schema.get(key), list):
            schema[key] = [change(each) for each in schema[key]]
    for key in _NAMED_BELOW:
        if isinstance(schema.get(key), dict):
            schema[key] = {name: change(each) for name, each in schema[key].items()}
    return schema
