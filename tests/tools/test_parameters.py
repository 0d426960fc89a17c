"""Tests of `fcdistill.tools.parameters`."""

from typing import Any

import pytest

from fcdistill.tools.parameters import (
    optional_parameters,
    property_schema,
    required_parameters,
    resolve_schema,
    schemas_at,
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
