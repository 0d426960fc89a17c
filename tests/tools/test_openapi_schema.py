from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.tools.openapi_schema import from_openapi, is_openapi, with_null_types


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "string"}, {"type": "string"}),
        ({"type": "TYPE_UNSPECIFIED", "description": "x"}, {"description": "x"}),
        ({"type": "NUMBER", "nullable": True}, {"type": ["number", "null"]}),
        ({"type": "NUMBER", "nullable": False}, {"type": "number"}),
        ({"type": "STRING", "format": "enum", "enum": ["A"]}, {"type": "string", "enum": ["A"]}),
        ({"type": "STRING", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        (
            {"type": "STRING", "enum": ["A"], "nullable": True},
            {"type": ["string", "null"], "enum": ["A", None]},
        ),
        (
            {"type": "ARRAY", "items": {"type": "BOOLEAN"}, "minItems": "1", "max_items": "3"},
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        ),
        (
            {"anyOf": [{"type": "INTEGER"}, {"type": "NULL"}]},
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        ),
        ({"anyOf": [{"type": "INTEGER"}], "nullable": True}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (
            {"type": "OBJECT", "properties": {"max_items": {"type": "INTEGER"}, "nullable": {"type": "BOOLEAN"}}},
            {"type": "object", "properties": {"max_items": {"type": "integer"}, "nullable": {"type": "boolean"}}},
        ),
        ({"type": "STRING", "default": "STRING", "example": {"type": "OBJECT"}},
         {"type": "string", "default": "STRING", "example": {"type": "OBJECT"}}),
        ({"type": "TEXT"}, {"type": "TEXT"}),
        ({"minItems": "few"}, {"minItems": "few"}),
        ("text", "text"),
    ],
)  # fmt: skip
def test_openapis_words_are_said_in_json_schema(schema: Any, expected: Any) -> None:
    assert from_openapi(schema) == expected


def test_a_schema_with_its_type_in_capitals_is_known() -> None:
    assert is_openapi({"type": "OBJECT"})
    assert not any(map(is_openapi, ({"type": "object"}, {}, [], None, {"type": ["OBJECT"]})))


plain = st.recursive(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "boolean"])}),
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.text(max_size=5), inner, max_size=3)}
        )
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)})
    ),
    max_leaves=10,
)


def in_capitals(schema: dict[str, Any]) -> dict[str, Any]:
    changed = {key: value.upper() if key == "type" else value for key, value in schema.items()}
    if "properties" in schema:
        changed["properties"] = {name: in_capitals(each) for name, each in schema["properties"].items()}
    if "items" in schema:
        changed["items"] = in_capitals(schema["items"])
    if "anyOf" in schema:
        changed["anyOf"] = [in_capitals(each) for each in schema["anyOf"]]
    return changed


@given(plain)
def test_capitals_say_the_same_schema_and_json_schema_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert from_openapi(in_capitals(schema)) == schema == from_openapi(schema) == with_null_types(schema)
