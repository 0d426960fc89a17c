"""Tools, calls and single mutations of calls for tests of scoring, all derived from JSON Schemas.

A mutation is a value that replaces the gold one, the one error code that it deserves, and the path below the value.
"""

import json
import string
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from fcdistill.records import ToolCall, ToolSpec

__all__ = ["Mutation", "calls", "catalogues", "object_mutations", "path_of", "values"]

Mutation = tuple[Any, str, str]
Schema = dict[str, Any]

_WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=5)
_NAMES = st.sampled_from(["room", "level", "a/b", "c~d", "größe", "when", "inner"])


def _strings() -> st.SearchStrategy[Schema]:
    return st.just({"type": "string", "minLength": 1}) | st.lists(_WORDS, min_size=2, max_size=4, unique=True).map(
        lambda words: {"type": "string", "enum": words}
    )


def _numbers() -> st.SearchStrategy[Schema]:
    return st.builds(
        lambda kind, low, width: {"type": kind, "minimum": low, "maximum": low + width},
        st.sampled_from(["integer", "number"]),
        st.integers(-50, 50),
        st.integers(3, 20),
    )


def _arrays(items: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.builds(
        lambda item, unique: {
            "type": "array",
            "items": item,
            "minItems": 1,
            **({"uniqueItems": True} if unique else {}),
        },
        items,
        st.booleans(),
    )


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.dictionaries(_NAMES, inner, min_size=1, max_size=3).flatmap(
        lambda properties: st.sets(st.sampled_from(sorted(properties))).map(
            lambda required: {
                "type": "object",
                "properties": properties,
                "required": sorted(required),
                "additionalProperties": False,
            }
        )
    )


_SCHEMAS = st.recursive(
    _strings() | _numbers() | st.just({"type": "boolean"}), lambda inner: _arrays(inner) | _objects(inner), max_leaves=5
)


def catalogues() -> st.SearchStrategy[list[ToolSpec]]:
    """One to three tools, each with up to three arguments of any depth."""
    schemas = st.lists(_objects(_SCHEMAS), min_size=1, max_size=3)
    return schemas.map(lambda found: [ToolSpec(name=f"tool_{i}", parameters=each) for i, each in enumerate(found)])


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that a schema allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "string":
        return _WORDS
    if schema["type"] == "boolean":
        return st.booleans()
    if schema["type"] == "integer":
        return st.integers(schema["minimum"], schema["maximum"])
    if schema["type"] == "number":
        return st.integers(4 * schema["minimum"], 4 * schema["maximum"]).map(lambda quarters: quarters / 4)
    if schema["type"] == "array":
        unique = _canonical if schema.get("uniqueItems") else None
        return st.lists(values(schema["items"]), min_size=1, max_size=3, unique_by=unique)
    required = {name: values(schema["properties"][name]) for name in schema["required"]}
    optional = {name: values(inner) for name, inner in schema["properties"].items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def calls(specs: list[ToolSpec], max_size: int = 4) -> st.SearchStrategy[list[ToolCall]]:
    """Answers of valid calls of these tools."""
    return st.lists(
        st.sampled_from(specs).flatmap(
            lambda spec: values(spec.parameters).map(lambda given: ToolCall(name=spec.name, arguments=given))
        ),
        min_size=1,
        max_size=max_size,
    )


def path_of(name: str, pointer: str) -> str:
    """Where a mutation of a call's arguments is reported."""
    return f"{name}.{pointer[1:]}" if pointer else name


def object_mutations(value: dict[str, Any], schema: Schema) -> Iterator[Mutation]:
    """Every kind of single mutation of an object that its schema allows, at every depth."""
    yield {**value, "zzz": 1}, "extra_arg", "/zzz"
    required = schema.get("required", [])
    for name, inner in schema["properties"].items():
        step = "/" + name.replace("~", "~0").replace("/", "~1")
        if name not in value:
            yield {**value, name: _sample(inner)}, "wrong_value", step
            continue
        if name in required or len(value) > schema.get("minProperties", 0):
            without = {key: item for key, item in value.items() if key != name}
            yield without, "missing_required" if name in required else "wrong_value", step
        for changed, code, path in _mutations(value[name], inner):
            yield {**value, name: changed}, code, f"{step}{path}"


def _mutations(value: Any, schema: Schema) -> Iterator[Mutation]:
    kind = schema["type"]
    others = {"string": 7, "integer": "7", "number": "7", "boolean": "yes", "object": "x", "array": {}}
    yield others[kind], "wrong_type", ""
    yield None, "wrong_type", ""
    if kind in ("integer", "number", "string"):
        yield True, "wrong_type", ""
    if "enum" in schema:
        yield "zzzzzz", "enum_violation", ""
        yield next(other for other in reversed(schema["enum"]) if other != value), "wrong_value", ""
    elif kind == "string":
        yield from _string_mutations(value, schema)
    if "maximum" in schema:
        yield schema["maximum"] + 1, "constraint_violation", ""
        yield schema["minimum"] - 1, "constraint_violation", ""
        yield value + 1 if value + 1 <= schema["maximum"] else value - 1, "wrong_value", ""
    if kind == "integer":
        yield value + 0.5, "wrong_type", ""
    if kind == "boolean":
        yield not value, "wrong_value", ""
    if kind == "object":
        yield from object_mutations(value, schema)
    if kind == "array":
        yield from _array_mutations(value, schema)


def _string_mutations(value: str, schema: Schema) -> Iterator[Mutation]:
    if "format" in schema:
        yield "2027-05-04T18:00:00Z", "wrong_value", ""
        yield "tomorrow", "constraint_violation", ""
    elif "pattern" in schema:
        yield "07:01", "wrong_value", ""
        yield "7 am", "constraint_violation", ""
    else:
        yield value + "x", "wrong_value", ""
        yield value.upper(), "wrong_value", ""
        yield "", "constraint_violation", ""


def _array_mutations(value: list[Any], schema: Schema) -> Iterator[Mutation]:
    unique = schema.get("uniqueItems", False)
    yield [], "constraint_violation", ""
    if len(value) > 1:
        yield value[1:], "wrong_value", ""
    if not unique:
        yield [*value, value[-1]], "wrong_value", f"/{len(value)}"
    else:
        yield [*value, value[0]], "constraint_violation", ""
        if (more := _sample(schema["items"])) not in value:
            yield [*value, more], "wrong_value", f"/{len(value)}"
    for index, item in enumerate(value):
        for changed, code, path in _mutations(item, schema["items"]):
            if not (unique and changed in value):
                yield [*value[:index], changed, *value[index + 1 :]], code, f"/{index}{path}"


def _sample(schema: Schema) -> Any:
    """One value that the schema allows."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {name: _sample(schema["properties"][name]) for name in schema.get("required", [])}
    if schema["type"] == "array":
        return [_sample(schema["items"])]
    return {"string": "jam", "boolean": True}.get(schema["type"], schema.get("minimum"))
