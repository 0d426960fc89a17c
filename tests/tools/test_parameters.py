"""Tests of `fcdistill.tools.parameters`."""

from typing import Any

import pytest

from fcdistill.tools.parameters import (
    alternatives,
    has_parameters,
    listed_values,
    members,
    optional_parameters,
    property_schema,
    required_parameters,
    resolve_schema,
    schemas_at,
    suggested_types,
)
from tests.generation.home import catalog, tool

NULL = {"type": "null"}
ROOT: dict[str, Any] = {
    "$defs": {"A": {"$ref": "#/$defs/a~1b"}, "a/b": {"type": "integer"}, "Loop": {"$ref": "#/$defs/Loop"}}
}


@pytest.mark.parametrize(
    ("schema", "resolved"),
    [
        ({"type": "string"}, {"type": "string"}),
        ({"$ref": "#/$defs/A"}, {"type": "integer"}),
        ({"$ref": "#/$defs/A", "description": "x"}, {"type": "integer", "description": "x"}),
        ({"anyOf": [{"type": "string"}, NULL], "default": None}, {"type": "string", "default": None}),
        ({"oneOf": [NULL, {"$ref": "#/$defs/A"}]}, {"type": "integer"}),
        ({"allOf": [{"$ref": "#/$defs/A"}]}, {"type": "integer"}),
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"$ref": "#/$defs/missing", "type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"$ref": "#/$defs/missing"}, {}),
        ({"$ref": "#/$defs/Loop"}, {}),
        (True, {}),
    ],
)
def test_references_and_wrappers_are_seen_through(schema: Any, resolved: dict[str, Any]) -> None:
    assert resolve_schema(schema, ROOT) == resolved


def test_a_real_choice_stays_one() -> None:
    schema = {"anyOf": [{"type": "string"}, {"type": "integer"}, NULL]}
    assert resolve_schema(schema, {}) == schema


def test_property_paths_step_through_arrays() -> None:
    parameters = catalog().by_name["add_shopping_items"].parameters
    assert (property_schema(parameters, ["items", "quantity"]) or {})["type"] == "integer"
    assert (property_schema(parameters, ["items"]) or {})["type"] == "array"
    assert property_schema(parameters, ["items", "colour"]) is None
    assert property_schema(parameters, ["nothing"]) is None


def test_an_array_of_itself_has_no_inner_parameters() -> None:
    loop = {"type": "array", "items": {"$ref": "#/$defs/L"}}
    parameters = {"type": "object", "properties": {"a": loop}, "$defs": {"L": loop}}
    assert property_schema(parameters, ["a", "b"]) is None


TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
DEEP = {"properties": {"a": TEXT}}
BRANCHING: dict[str, Any] = {
    "type": "object",
    "$defs": {"Loop": {"type": "array", "items": {"$ref": "#/$defs/Loop"}}},
    "properties": {
        "field": {
            "oneOf": [
                {"type": "object", "properties": {"label": TEXT, "text": TEXT}},
                {"type": "object", "properties": {"text": NUMBER, "deep": {"anyOf": [NULL, DEEP]}}},
            ]
        },
        "a.b": TEXT,
        "a": {"type": "object", "properties": {"b": NUMBER, "c.d": TEXT}},
        "open": {"type": "object", "required": ["key"], "additionalProperties": NUMBER},
        "rows": {"type": "array", "items": {"type": "array", "prefixItems": [{"properties": {"cell": TEXT}}]}},
        "loop": {"$ref": "#/$defs/Loop"},
    },
    "allOf": [{"anyOf": [{"properties": {"rooted": TEXT}}, {"properties": {"rooted": NUMBER}}]}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "schemas"),
    [
        ("field.label", [TEXT]),
        ("field.text", [TEXT, NUMBER]),
        ("field.deep.a", [TEXT]),
        ("field.number", []),
        ("a.b", [TEXT, NUMBER]),
        ("a.c.d", [TEXT]),
        ("open.key", [NUMBER]),
        ("open.other", []),
        ("rows.cell", [TEXT]),
        ("rooted", [TEXT, NUMBER]),
        ("loop.x", []),
        ("", []),
    ],
)
def test_paths_lead_through_all_alternatives(path: str, schemas: list[Any]) -> None:
    assert schemas_at(BRANCHING, path) == schemas


def test_required_and_optional_parameters_keep_the_schemas_order() -> None:
    spec = tool("t", {"c": {}, "a": {}, "b": {}}, ("b", "a"))
    assert (required_parameters(spec), optional_parameters(spec)) == (["b", "a"], ["c"])


def test_parameters_of_alternatives_are_required_where_each_requires_them() -> None:
    one = {"properties": {"a": {}, "b": {}}, "required": ["a", "b"]}
    other = {"properties": {"a": {}, "c": {}}, "required": ["a"]}
    spec = tool("t", {"own": {}}, ("own",), oneOf=[one, other, NULL], allOf=[{"required": ["also"]}])
    assert (required_parameters(spec), optional_parameters(spec)) == (["own", "also", "a"], ["b", "c"])


def test_what_stands_beside_alternatives_is_part_of_each() -> None:
    schema = {"type": "integer", "maximum": 9, "anyOf": [{"minimum": 5}, {"$ref": "#/$defs/A"}, {"type": "string"}]}
    assert alternatives(schema, ROOT, 9) == [
        {"type": "integer", "maximum": 9, "minimum": 5},
        {"type": "integer", "maximum": 9},
    ]
    both = {"anyOf": [{"minimum": 1}, {"minimum": 2}], "oneOf": [{"maximum": 3}, {"maximum": 4}]}
    assert alternatives(both, {}, 4) == [{"minimum": low, "maximum": high} for low in (1, 2) for high in (3, 4)]
    assert alternatives(both, {}, 3) is None
    assert alternatives(False, {}, 3) == [] and alternatives(True, {}, 3) == [{}]
    assert alternatives({"enum": [1, 2], "anyOf": [{"const": 2}, {"const": 3}]}, {}, 3) == [
        {"enum": [1, 2], "const": 2}
    ]


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"type": "string"}, None),
        ({"type": "string", "enum": ["a", None, 3]}, ["a"]),
        ({"type": ["string", "null"], "enum": ["a", None]}, ["a", None]),
        ({"enum": ["a", None]}, ["a", None]),
        ({"const": "a", "enum": ["b"]}, []),
        ({"enum": ["a", "ab", "b"], "pattern": "^a", "maxLength": 1}, ["a"]),
        ({"enum": [0.1, 0.3, 0.35], "multipleOf": 0.1}, [0.1, 0.3]),
    ],
)
def test_of_a_closed_set_only_what_is_valid_is_offered(schema: dict[str, Any], values: list[Any] | None) -> None:
    assert listed_values(schema, {}) == values


def test_a_bound_of_draft_04_is_read_as_such() -> None:
    root = {"$schema": "http://json-schema.org/draft-04/schema#"}
    assert listed_values({"enum": [1, 2], "minimum": 1, "exclusiveMinimum": True}, root) == [2]


def test_what_keywords_speak_of_is_the_type_where_none_is_named() -> None:
    assert suggested_types({"type": ["string", "null"]}) == ["string", "null"]
    assert suggested_types({"minimum": 1}) == ["number"] and suggested_types({"items": {}}) == ["array"]
    assert suggested_types({"maxLength": 1}) == ["string"] and suggested_types({"required": ["a"]}) == ["object"]
    assert suggested_types({"description": "anything"}) == []


def test_members_are_what_may_be_given_and_what_must_be() -> None:
    number = {"type": "number"}
    schema = {"properties": {"a": {}, "b": False}, "required": ["c", "a"], "additionalProperties": number}
    assert members(schema, {}) == {"a": {}, "c": number}
    yes, no = {"properties": {"a": {"minimum": 1}, "d": {}}, "required": ["e"]}, {"$ref": "#/$defs/No"}
    root = {"$defs": {"No": {"properties": {"f": number, "b": {}}}}}
    found = members({**schema, "if": {}, "then": yes, "else": no, "dependentSchemas": {"a": {"required": ["g"]}}}, root)
    assert {name: found[name] for name in "acf"} == {"a": {}, "c": number, "f": number}
    assert list(found)[:2] == ["a", "c"] and found.keys() == set("acdefg")


def test_a_tool_has_parameters_where_any_alternative_names_one() -> None:
    only = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert not has_parameters(tool("hello", {}))
    assert has_parameters(tool("go", {"a": {}}))
    assert has_parameters(tool("go", {}, oneOf=[{"type": "object"}, only]))
