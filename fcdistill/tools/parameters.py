"""Parameters of a tool: the schemas behind references and wrappers, and which are required.

It reads schemas; whether they are right, and what values they allow, is the business of `validation`.
"""

from collections.abc import Mapping
from typing import Any

from fcdistill.records import ToolSpec

__all__ = ["optional_parameters", "property_schema", "required_parameters", "resolve_schema"]

_MAX_REFERENCES = 64


def resolve_schema(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """The schema behind local `$ref`s and behind wrappers with one alternative besides null.

    `{"anyOf": [X, {"type": "null"}]}`, as generated schemas write an optional X, reads as X with the wrapper's other
    keywords; so does an `allOf` of one. A schema that is no object counts as `{}`.
    """
    for _ in range(_MAX_REFERENCES):
        if not isinstance(schema, dict):
            return {}
        inner = _referenced(schema["$ref"], root) if isinstance(schema.get("$ref"), str) else _only_branch(schema)
        if inner is None:
            return schema
        wrapper = {key: part for key, part in schema.items() if key not in ("$ref", "anyOf", "oneOf", "allOf")}
        schema = {**wrapper, **inner} if isinstance(inner, dict) else inner
    return {}


def property_schema(parameters: Mapping[str, Any], steps: list[str]) -> dict[str, Any] | None:
    """The schema at a parameter path; arrays are stepped through. None where there is no such parameter."""
    schema = resolve_schema(dict(parameters), parameters)
    for step in steps:
        for _ in range(_MAX_REFERENCES):
            if "items" not in schema:
                break
            schema = resolve_schema(schema["items"], parameters)
        if step not in schema.get("properties", {}):
            return None
        schema = resolve_schema(schema["properties"][step], parameters)
    return schema


def required_parameters(spec: ToolSpec) -> list[str]:
    """Names of the required parameters, in the schema's order."""
    return list(resolve_schema(spec.parameters, spec.parameters).get("required", []))


def optional_parameters(spec: ToolSpec) -> list[str]:
    """Names of the optional parameters, in the schema's order."""
    root = resolve_schema(spec.parameters, spec.parameters)
    return [name for name in root.get("properties", {}) if name not in root.get("required", [])]


def _referenced(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        found = found.get(step, {}) if isinstance(found, dict) else {}
    return found


def _only_branch(schema: Mapping[str, Any]) -> Any | None:
    for keyword in ("anyOf", "oneOf", "allOf"):
        branches = [branch for branch in schema.get(keyword, ()) if branch != {"type": "null"}]
        if len(branches) == 1:
            return branches[0]
    return None
