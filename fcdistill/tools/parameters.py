"""Parameters of a tool: the schemas behind references, wrappers and alternatives, and which are required.

It reads schemas; whether they are right, and what values they allow, is the business of `validation`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fcdistill.records import ToolSpec
from fcdistill.tools.intersection import intersect, join_schemas
from fcdistill.tools.refs import read_schema

__all__ = [
    "named_parts",
    "optional_parameters",
    "property_schema",
    "required_parameters",
    "resolve_schema",
    "schemas_at",
]

_MAX_WRAPPERS = 64
_MOST_IN_PLACE = 1000
_NULL = {"type": "null"}


def resolve_schema(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """The schema behind references and behind wrappers with one alternative besides null.

    `{"anyOf": [X, {"type": "null"}]}`, as generated schemas write an optional X, reads as X with the wrapper's other
    keywords. A schema that is no object counts as `{}`.
    """
    for _ in range(_MAX_WRAPPERS):
        schema = read_schema(schema, root)
        keyword = _wrapping_keyword(schema) if isinstance(schema, dict) else None
        if keyword is None:
            return schema if isinstance(schema, dict) else {}
        inner = read_schema(next(branch for branch in schema[keyword] if branch != _NULL), root)
        if not isinstance(inner, dict):
            return {}
        wrapper = {key: part for key, part in schema.items() if key not in (keyword, "allOf")}
        own = {key: part for key, part in inner.items() if key != "allOf"}
        merged, rest = intersect(own, wrapper, join_schemas)
        left = [*schema.get("allOf", ()), *inner.get("allOf", ()), *([rest] if rest else [])]
        schema = {**merged, "allOf": left} if left else merged
    return {}


def property_schema(parameters: Mapping[str, Any], steps: list[str]) -> dict[str, Any] | None:
    """The schema at a parameter path; arrays are stepped through. None where there is no such parameter."""
    schema = resolve_schema(dict(parameters), parameters)
    for step in steps:
        for _ in range(_MAX_WRAPPERS):
            if "items" not in schema:
                break
            schema = resolve_schema(schema["items"], parameters)
        if step not in schema.get("properties", {}):
            return None
        schema = resolve_schema(schema["properties"][step], parameters)
    return schema


def named_parts(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas of an object's properties by name, also of those that are required without being declared."""
    properties: dict[str, Any] = schema.get("properties", {})
    further = schema.get("additionalProperties")
    undeclared = further if isinstance(further, dict) else {}
    return properties | {name: undeclared for name in schema.get("required", ()) if name not in properties}


def schemas_at(parameters: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    """The different schemas that alternatives say of what stands at a path; none where there is no such place.

    Args:
        parameters: of the tool.
        path: names of properties, joined by dots, which a name may hold too. Items have their array's path.
    """
    found: list[dict[str, Any]] = []
    for schema in _schemas_at(parameters, path, parameters):
        if schema not in found:
            found.append(schema)
    return found


def required_parameters(spec: ToolSpec) -> list[str]:
    """Names of the required parameters, in the schema's order."""
    return list(resolve_schema(spec.parameters, spec.parameters).get("required", []))


def optional_parameters(spec: ToolSpec) -> list[str]:
    """Names of the optional parameters, in the schema's order."""
    root = resolve_schema(spec.parameters, spec.parameters)
    return [name for name in root.get("properties", {}) if name not in root.get("required", [])]


def _schemas_at(schema: Any, path: str, root: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part in _in_place(schema, root):
        for name, inner in named_parts(part).items():
            if path == name:
                yield resolve_schema(inner, root)
            elif path.startswith(f"{name}."):
                yield from _schemas_at(inner, path[len(name) + 1 :], root)


def _in_place(schema: Any, root: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema, its alternatives, and those of its items if it is an array's."""
    pending: list[Any] = [schema]
    met: list[Any] = []
    while pending and len(met) < _MOST_IN_PLACE:
        raw = pending.pop(0)
        if any(raw is other for other in met):
            continue
        met.append(raw)
        found = resolve_schema(raw, root)
        yield found
        for keyword in ("allOf", "anyOf", "oneOf", "prefixItems"):
            pending += found.get(keyword, ())
        items = found.get("items", ())
        pending += items if isinstance(items, list | tuple) else [items]
        pending += [found[keyword] for keyword in ("additionalItems", "contains") if keyword in found]


def _wrapping_keyword(schema: Mapping[str, Any]) -> str | None:
    for keyword in ("anyOf", "oneOf"):
        if len([branch for branch in schema.get(keyword, ()) if branch != _NULL]) == 1:
            return keyword
    return None
