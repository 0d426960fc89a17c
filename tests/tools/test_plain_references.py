"""Tests of `fcdistill.tools.plain_references`; that the result accepts the same values is tested in `test_refs`."""

from typing import Any

from fcdistill.tools.json_schema import Draft7Validator, Draft202012Validator
from fcdistill.tools.plain_references import with_plain_references
from fcdistill.tools.refs import Document

LEVEL = {"type": "integer", "maximum": 9}


def written(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    return with_plain_references(Document(schema, Draft202012Validator))


def test_a_document_without_references_stays_itself() -> None:
    schema = {"$id": "t", "properties": {"a": {"allOf": [LEVEL, {"minimum": 1}]}}, "$defs": {"unused": LEVEL}}
    assert written(schema)[0] is schema


def test_null_that_a_keyword_allows_is_a_type() -> None:
    name = {"type": "string", "nullable": True}
    schema = {"properties": {"a": name, "b": {"$ref": "#/$defs/N"}, "c": {"items": name}}, "$defs": {"N": name}}
    both = {"type": ["string", "null"]}
    without = {key: part for key, part in schema.items() if key != "$defs"} | {"properties": {"a": name}}
    assert written(without)[0] == {"properties": {"a": both}}
    assert written(schema)[0] == {
        "properties": {"a": both, "b": {"$ref": "#/$defs/N"}, "c": {"items": both}},
        "$defs": {"N": both},
    }


def test_plain_references_keep_their_definitions_and_others_get_one() -> None:
    schema = {
        "$id": "https://example.org/t",
        "properties": {
            "plain": {"$ref": "#/$defs/Level", "description": "x"},
            "named": {"$ref": "#level"},
            "inner": {"$ref": "#/properties/list/items"},
            "list": {"items": {"type": "boolean"}},
            "beside": {"items": {"$ref": "t#/$defs/Level", "minimum": 1}},
            "any": {"$ref": "#/$defs/yes"},
        },
        "$defs": {"Level": {"$anchor": "level", **LEVEL}, "unused": {"$ref": "#level"}, "r0": {}, "yes": True},
    }
    assert written(schema) == (
        {
            "properties": {
                "plain": {"$ref": "#/$defs/Level"},
                "named": {"$ref": "#/$defs/Level"},
                "inner": {"$ref": "#/$defs/r1"},
                "list": {"items": {"type": "boolean"}},
                "beside": {"items": {"$ref": "#/$defs/r2"}},
                "any": True,
            },
            "$defs": {"Level": LEVEL, "r1": {"type": "boolean"}, "r2": {"minimum": 1, **LEVEL}},
        },
        {"/$defs/r1": "#/properties/list/items", "/$defs/r2": "/properties/beside/items"},
    )


def test_a_root_that_refers_is_written_out_and_one_that_is_referred_to_defined() -> None:
    schema = {"type": "object", "$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#"}}}}}
    found = {"type": "object", "properties": {"a": {"$ref": "#/$defs/r0"}}}
    assert written(schema) == ({**found, "$defs": {"r0": found}}, {"/$defs/r0": "#"})


def test_a_root_that_comes_to_all_or_nothing_stays_an_object() -> None:
    for target, found in ((True, {}), (False, {"not": {}})):
        schema = {"type": "object", "$ref": "#/definitions/A", "definitions": {"A": target}}
        assert with_plain_references(Document(schema, Draft7Validator))[0] == {"type": "object", **found}


def test_members_of_what_holds_itself_twice_come_to_an_end() -> None:
    one, two = ({"properties": {"next": {"$ref": f"#/$defs/{name}"}, name: {}}} for name in ("one", "two"))
    schema = {
        "properties": {"v": {"$ref": "#/$defs/one", "allOf": [{"$ref": "#/$defs/two"}]}},
        "$defs": {"one": one, "two": two},
    }
    found, _ = written(schema)
    both = {"properties": {"next": {"$ref": "#/$defs/r1"}, "one": {}, "two": {}}}
    assert found == {"properties": {"v": {"$ref": "#/$defs/r0"}}, "$defs": {"r0": both, "r1": both}}
