"""Tests of `fcdistill.tools.intersection`."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.tools.intersection import intersect, join_schemas
from fcdistill.tools.json_schema import Draft4Validator, Draft202012Validator

INT, TEXT = {"type": "integer"}, {"type": "string"}


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        ({"maximum": 100}, {"maximum": 50}, {"maximum": 50}),
        ({"minimum": 3, "exclusiveMinimum": 1}, {"minimum": 2, "exclusiveMinimum": 4},
         {"minimum": 3, "exclusiveMinimum": 4}),
        ({"minimum": 1, "exclusiveMinimum": True}, {"minimum": 3}, {"minimum": 3}),
        ({"minimum": 3, "exclusiveMinimum": True}, {"minimum": 3}, {"minimum": 3, "exclusiveMinimum": True}),
        ({"maximum": 3, "exclusiveMaximum": False}, {"maximum": 3, "exclusiveMaximum": True},
         {"maximum": 3, "exclusiveMaximum": True}),
        ({"minLength": 2, "maxLength": 9}, {"minLength": 3, "maxLength": 8}, {"minLength": 3, "maxLength": 8}),
        ({"enum": [1, "a", True]}, {"enum": [True, 1.0]}, {"enum": [1, True]}),
        ({"type": ["number", "null"]}, {"type": ["null", "integer"]}, {"type": ["integer", "null"]}),
        ({"type": ["string", "null"]}, {"type": "string"}, {"type": "string"}),
        ({"multipleOf": 4}, {"multipleOf": 6}, {"multipleOf": 12}),
        ({"uniqueItems": False}, {"uniqueItems": True}, {"uniqueItems": True}),
        ({"required": ["a", "b"]}, {"required": ["c", "a"]}, {"required": ["a", "b", "c"]}),
        ({"dependentRequired": {"a": ["b"]}}, {"dependentRequired": {"a": ["c"], "d": ["b"]}},
         {"dependentRequired": {"a": ["b", "c"], "d": ["b"]}}),
        ({"properties": {"a": INT}}, {"properties": {"a": {"minimum": 1}, "b": TEXT}},
         {"properties": {"a": {"allOf": [INT, {"minimum": 1}]}, "b": TEXT}}),
        ({"properties": {"a": INT}, "additionalProperties": False}, {"properties": {"b": TEXT}},
         {"properties": {"a": INT}, "additionalProperties": False}),
        ({"properties": {"a": INT}, "additionalProperties": TEXT}, {"properties": {"b": {"minLength": 1}}},
         {"properties": {"a": INT, "b": {"allOf": [TEXT, {"minLength": 1}]}}, "additionalProperties": TEXT}),
        ({"items": INT}, {"items": {"minimum": 1}}, {"items": {"allOf": [INT, {"minimum": 1}]}}),
        ({"description": "mine", "title": "x"}, {"description": "theirs", "default": 1, "$id": "a"},
         {"description": "mine", "title": "x", "default": 1}),
    ],
)  # fmt: skip
def test_the_tighter_holds(one: dict[str, Any], other: dict[str, Any], merged: dict[str, Any]) -> None:
    assert intersect(one, other, join_schemas) == (merged, {})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"pattern": "^a"}, {"pattern": "b$"}),
        ({"format": "date"}, {"format": "time"}),
        ({"const": 1}, {"const": True}),
        ({"enum": ["a"]}, {"enum": ["b"]}),
        ({"type": "string"}, {"type": "integer"}),
        ({"multipleOf": 0.5}, {"multipleOf": 0.2}),
        ({"items": INT}, {"prefixItems": [TEXT], "items": INT}),
        ({"contains": INT}, {"contains": TEXT}),
        ({"if": INT, "then": {"minimum": 1}}, {"if": TEXT, "then": {"minLength": 1}}),
        ({"anyOf": [INT, TEXT]}, {"anyOf": [TEXT, {"type": "null"}]}),
        ({"additionalProperties": False}, {"patternProperties": {"^a": INT}}),
        ({"dependencies": {"a": ["b"]}}, {"dependencies": {"a": INT}}),
    ],
)
def test_what_no_keyword_says_exactly_is_left_over(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert intersect(one, other, join_schemas) == (one, other)
    assert intersect({**one, "maximum": 9}, {**other, "maximum": 7}, join_schemas) == ({**one, "maximum": 7}, other)


@pytest.mark.parametrize(
    ("schemas", "joined"),
    [([], True), ([True, INT], INT), ([INT, INT], INT), ([INT, False], False), ([INT, TEXT], {"allOf": [INT, TEXT]})],
)
def test_schemas_of_one_place_are_joined(schemas: list[Any], joined: Any) -> None:
    assert join_schemas(schemas) == joined


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([0.5, 2.0, "", "a", "ab", "b"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "ab"]), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.lists(
        st.sampled_from(["integer", "number", "string", "null", "boolean", "object", "array"]),
        min_size=1, max_size=4, unique=True,
    ).map(lambda kinds: kinds if len(kinds) > 1 else kinds[0]),
    "enum": st.lists(VALUES, min_size=1, max_size=4),
    "const": VALUES,
    "minimum": st.integers(-2, 5),
    "maximum": st.integers(0, 8),
    "multipleOf": st.sampled_from([1, 2, 3, 0.5]),
    "minLength": st.integers(0, 2),
    "maxLength": st.integers(0, 2),
    "pattern": st.sampled_from(["^a", "b$"]),
    "minItems": st.integers(0, 2),
    "maxItems": st.integers(0, 3),
    "uniqueItems": st.booleans(),
    "required": st.lists(st.sampled_from(["a", "b"]), unique=True),
    "minProperties": st.integers(0, 2),
    "dependentRequired": st.dictionaries(st.sampled_from(["a", "b"]), st.lists(st.just("ab"), max_size=1)),
}  # fmt: skip
NUMERIC_4 = {
    "minimum": KEYWORDS["minimum"],
    "exclusiveMinimum": st.booleans(),
    "maximum": KEYWORDS["maximum"],
    "exclusiveMaximum": st.booleans(),
}


def _with_members(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            **KEYWORDS,
            "exclusiveMinimum": st.integers(-2, 5),
            "exclusiveMaximum": st.integers(0, 8),
            "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
            "additionalProperties": inner,
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "contains": inner,
            "not": inner,
            "propertyNames": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "if": inner,
            "then": inner,
        },
    )


SCHEMAS = st.recursive(st.one_of(st.booleans(), _with_members(st.booleans())), _with_members, max_leaves=4)
OBJECTS = SCHEMAS.filter(lambda schema: isinstance(schema, dict))


@settings(max_examples=150, deadline=None)
@given(OBJECTS, OBJECTS, st.lists(VALUES, min_size=4, max_size=8))
def test_the_intersection_is_exact(one: dict[str, Any], other: dict[str, Any], values: list[Any]) -> None:
    merged, rest = intersect(one, other, join_schemas)
    assert rest == {keyword: other[keyword] for keyword in rest}
    for value in values:
        both = all(Draft202012Validator(schema).is_valid(value) for schema in (one, other))
        assert both == all(Draft202012Validator(schema).is_valid(value) for schema in (merged, rest))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(-3, 9))
def test_bounds_of_draft_04_are_exact(data: st.DataObject, value: int) -> None:
    one, other = (data.draw(st.fixed_dictionaries({}, optional=NUMERIC_4)) for _ in range(2))
    for schema in (one, other):
        for bound in ("Minimum", "Maximum"):
            if bound.lower() not in schema:
                schema.pop(f"exclusive{bound}", None)
    merged, rest = intersect(one, other, join_schemas)
    assert not rest
    assert Draft4Validator(merged).is_valid(value) == all(
        Draft4Validator(schema).is_valid(value) for schema in (one, other)
    )
