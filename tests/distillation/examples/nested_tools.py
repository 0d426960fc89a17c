"""Tools whose schemas mention names in every place where a schema can."""

from typing import Any

from fcdistill.records import ToolSpec, WorkedExample
from fcdistill.storage import iter_jsonl
from fcdistill.tools.catalog import read_catalog
from tests.paths import ROOT

HOME = read_catalog(ROOT / "schemas" / "smart_home.json").specs
HOME_CALLS = [
    call
    for example in iter_jsonl(ROOT / "data" / "examples" / "smart_home.jsonl", WorkedExample)
    for call in example.calls
]
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def tool(name: str, **parameters: Any) -> ToolSpec:
    return ToolSpec(name=name, description="Does it.", parameters={"type": "object", **parameters})


BOOK = tool(
    "book",
    properties={
        "trip": {"$ref": "#/$defs/trip"},
        "back": {"$ref": "#/properties/trip"},
        "payer": {"type": "object", "properties": {"name": {"type": "string"}, "card": {"type": "string"}}},
        "guest": {"$ref": "#/properties/payer/properties/name"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "seat": {"enum": [{"row": 1, "name": "aisle"}, {"row": 2}, "any"], "default": {"row": 1, "name": "aisle"}},
        "tree": {"$ref": "#/$defs/tree"},
        "a/b%~": {"type": "integer", "const": 3},
        "copy": {"$ref": "#/properties/a~1b%25~0"},
    },
    required=["trip"],
    dependentRequired={"back": ["payer"]},
    dependentSchemas={"guest": {"required": ["seat"], "properties": {"seat": {"const": "any"}}}},
    **{
        "not": {"required": ["labels", "tree"]},
        "if": {"required": ["copy"]},
        "then": {"properties": {"trip": {"required": ["stops"]}}},
        "else": {"maxProperties": 5},
        "$defs": {
            "trip": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "minLength": 2},
                    "stops": {"type": "array", "items": {"type": "object", "properties": {"city": {}}}},
                },
                "required": ["city"],
                "unevaluatedProperties": False,
            },
            "tree": {
                "type": "object",
                "properties": {"name": {}, "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "uniqueItems": True,
            },
        },
    },
)
"""Names in every place where a schema can mention them."""
OLD = tool(
    "old",
    **{"$schema": DRAFT_7},
    properties={
        "a": {"type": "integer"},
        "b": {"$ref": "#/definitions/c"},
        "d": {"items": [{"properties": {"a": {}}}]},
    },
    dependencies={"a": ["b"], "d": {"required": ["a"]}},
    definitions={"c": {"properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}},
)
NAMED = tool(
    "named",
    **{"$id": "https://example.org/named"},
    properties={
        "a": {"type": "object", "properties": {"b": {"type": "integer"}}},
        "c": {"$ref": "https://example.org/named#/properties/a"},
        "d": {"$ref": "named#/properties%2Fa/properties/b"},
    },
)
TESTS_NAMES = tool("tests", properties={"x_a": {}, "b": {"propertyNames": {"maxLength": 2}, "properties": {"c": {}}}})
SAID = tool(
    "say",
    properties={
        "text": {"type": "string", "description": "What is said; a text."},
        "voice": {"type": "string"},
        "options": {
            "type": "object",
            "properties": {"text": {"description": "Another."}, "voice": {"description": "Only here."}},
        },
        "headers": {"type": "object", "description": "Any keys.", "additionalProperties": {"type": "string"}},
        "empty": {"description": " "},
    },
)
