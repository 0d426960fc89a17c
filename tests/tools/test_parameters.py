"""Tests of `fcdistill.tools.parameters`."""

from typing import Any

import pytest

from fcdistill.tools.parameters import optional_parameters, property_schema, required_parameters, resolve_schema
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


def test_required_and_optional_parameters_keep_the_schemas_order() -> None:
    spec = tool("t", {"c": {}, "a": {}, "b": {}}, ("b", "a"))
    assert (required_parameters(spec), optional_parameters(spec)) == (["b", "a"], ["c"])
