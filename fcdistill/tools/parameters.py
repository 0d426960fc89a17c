"""Parameters of a tool: the schemas behind references, wrappers and alternatives, and which are required.

What a prompt shows and what is sampled are read here alike. Whether schemas are right, and whether a call is, is the
business of `validation`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fcdistill.records import ToolSpec
from fcdistill.tools.intersection import intersect, join_schemas
from fcdistill.tools.json_schema import Draft202012Validator, dialect_of
from fcdistill.tools.refs import read_schema

__all__ = [
    "all_members",
    "alternatives",
    "has_parameters",
    "listed_values",
    "members",
    "optional_parameters",
    "property_schema",
    "required_parameters",
    "resolve_schema",
    "schemas_at",
    "suggested_types",
    "together",
]

_MAX_WRAPPERS = 64
_MOST_IN_PLACE = 1000
_MAX_CHOICES = 8
"""Alternatives inside of alternatives; what is deeper holds itself."""
_NULL = {"type": "null"}
_CHOICES = ("anyOf", "oneOf")
_SPEAKING_OF = {
    "object": "properties required additionalProperties patternProperties propertyNames minProperties maxProperties "
    "dependentRequired dependentSchemas unevaluatedProperties",
    "array": "items prefixItems additionalItems contains minItems maxItems uniqueItems unevaluatedItems",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
    "string": "pattern format minLength maxLength",
}
_JUDGING_LISTED = frozenset(
    "type enum const minimum maximum exclusiveMinimum exclusiveMaximum multipleOf pattern format minLength maxLength "
    "minItems maxItems uniqueItems minProperties maxProperties required".split()
)
"""Keywords that judge a listed value without any other schema."""


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


def has_parameters(spec: ToolSpec) -> bool:
    """Whether a call of the tool can have arguments that the schema names."""
    return bool(all_members(spec.parameters, spec.parameters)[0])


def required_parameters(spec: ToolSpec) -> list[str]:
    """Names of the parameters that are required in each alternative, in the schema's order."""
    return all_members(spec.parameters, spec.parameters)[1]


def optional_parameters(spec: ToolSpec) -> list[str]:
    """Names of the other parameters, in the schema's order."""
    names, required = all_members(spec.parameters, spec.parameters)
    return [name for name in names if name not in required]


def suggested_types(schema: Mapping[str, Any]) -> list[str]:
    """The types that a schema names; where it names none, what its keywords speak of, if anything."""
    if "type" in schema:
        return [schema["type"]] if isinstance(schema["type"], str) else list(schema["type"])
    return [kind for kind, keywords in _SPEAKING_OF.items() if not schema.keys().isdisjoint(keywords.split())][:1]


def listed_values(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Any] | None:
    """The values of a closed set that the schema's other keywords allow too; None where there is no closed set.

    Args:
        schema: one without references.
        root: the document, for its dialect.
    """
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if listed is None:
        return None
    limits = {keyword: value for keyword, value in schema.items() if keyword in _JUDGING_LISTED}
    dialect = dialect_of(root) or Draft202012Validator
    judge = dialect(limits, format_checker=dialect.FORMAT_CHECKER)
    return [value for value in listed if judge.is_valid(value)]


def members(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """The properties that an object may have, and those that it must have though nothing describes them.

    What it may have on a condition (`then`, `else`, `dependentSchemas`) comes last.

    Args:
        schema: one without references.
        root: the document.
        depth: as of `all_members`.
    """
    further = schema.get("additionalProperties")
    undescribed = dict.fromkeys(schema.get("required", ()), further if isinstance(further, dict) else {})
    described = schema.get("properties", {})
    found = {**described, **undescribed, **described}
    conditional = [schema[keyword] for keyword in ("then", "else") if keyword in schema]
    for keyword in ("dependentSchemas", "dependencies"):
        conditional += [part for part in schema.get(keyword, {}).values() if isinstance(part, dict)]
    for part in conditional:
        found = {**all_members(part, root, depth + 1)[0], **found}
    order = dict.fromkeys([*described, *undescribed, *found])
    return {name: found[name] for name in order if found[name] is not False}


def all_members(schema: Any, root: Mapping[str, Any], depth: int = 0) -> tuple[dict[str, Any], list[str]]:
    """The members of an object over all alternatives, each with a schema of one, and the names required in each.

    Args:
        schema: of the document.
        root: the document.
        depth: in how many alternatives, one inside the other, the schema stands; of deep ones there are no members.
    """
    schema = read_schema(schema, root)
    if not isinstance(schema, dict) or depth > _MAX_CHOICES:
        return {}, []
    found = members(schema, root, depth)
    required = list(schema.get("required", ()))
    for part in schema.get("allOf", ()):
        names, always = all_members(part, root, depth + 1)
        found = {**names, **found}
        required += always
    for keyword in _CHOICES:
        branches = [all_members(each, root, depth + 1) for each in schema.get(keyword, ()) if each != _NULL]
        for names, _ in branches:
            found = {**found, **{name: part for name, part in names.items() if name not in found}}
        required += (
            [name for name in branches[0][1] if all(name in needed for _, needed in branches)] if branches else []
        )
    return found, list(dict.fromkeys(required))


def alternatives(schema: Any, root: Mapping[str, Any], most: int) -> list[dict[str, Any]] | None:
    """Schemas without alternatives, of which a value satisfies at least one; none where no value is allowed.

    What stands beside alternatives is part of each. What can't be said exactly is the later one's (see `together`).

    Args:
        schema: of the document.
        root: the document.
        most: how many may be worked out.

    Returns:
        The alternatives in their order, or None where there are more.
    """
    pending = [read_schema(schema, root)]
    found: list[dict[str, Any]] = []
    taken = 0
    while pending:
        taken += 1
        if len(pending) + len(found) > most or taken > most * _MAX_CHOICES:
            return None
        current = pending.pop(0)
        if not isinstance(current, dict):
            found += [] if current is False else [{}]
            continue
        keyword = next((each for each in ("allOf", *_CHOICES) if current.get(each)), None)
        if keyword is None:
            found.append(current)
            continue
        rest = {key: value for key, value in current.items() if key != keyword}
        if keyword == "allOf":
            first, *others = current["allOf"]
            rest |= {"allOf": others} if others else {}
        branches = [first] if keyword == "allOf" else current[keyword]
        pending[:0] = [together(rest, read_schema(branch, root)) for branch in branches]
    return [each for each in found if listed_values(each, root) != []]


def together(one: Mapping[str, Any], other: Any) -> Any:
    """A schema for values that satisfy both, or false where no value does; one without references.

    Alternatives of both are left to be chosen one after the other. Of what else no schema says exactly, such as two
    patterns, it says the other one's: who needs to know asks `validation`.
    """
    if not isinstance(other, dict):
        return False if other is False else dict(one)
    left = [*one.get("allOf", ()), *other.get("allOf", ())]
    merged, rest = intersect(_without_all_of(one), _without_all_of(other), join_schemas)
    if {"type", "enum", "const"} & rest.keys():
        return False
    left += [{keyword: rest.pop(keyword)} for keyword in _CHOICES if keyword in rest]
    return {**merged, **rest, **({"allOf": left} if left else {})}


def _without_all_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {keyword: value for keyword, value in schema.items() if keyword != "allOf"}


def _schemas_at(schema: Any, path: str, root: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part in _in_place(schema, root):
        for name, inner in members(part, root).items():
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
    for keyword in _CHOICES:
        if len([branch for branch in schema.get(keyword, ()) if branch != _NULL]) == 1:
            return keyword
    return None
