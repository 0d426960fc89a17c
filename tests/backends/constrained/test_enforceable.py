"""Tests of `enforceable`: what is refused, and that what is not obeys the validator's verdicts."""

from typing import Any

import pytest

from fcdistill.backends.constrained.enforceable import enforceable_schema
from fcdistill.records import ToolSpec
from fcdistill.toolcalls.parsing import parse_output
from fcdistill.tools.validation import CallValidator, check_spec
from tests.backends.constrained.walker import Walker, spec

POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "next": {"$ref": "#/$defs/Point"}},
    "required": ["x"],
}
DAYS = {"type": "array", "items": {"type": "string", "enum": ["mon", "tue", "wed"]}, "uniqueItems": True}


def declaring(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


ENFORCED: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "short string": {"type": "string", "minLength": 2, "maxLength": 4},
    "pattern": {"type": "string", "pattern": r"^[a-c]+\d{2}$"},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "multiple": {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100},
    "number": {"type": "number"},
    "number or text": {"type": ["number", "string", "null"]},
    "range": {"type": "number", "minimum": -2.5, "exclusiveMaximum": 7},
    "enum": {"enum": ["a", "b b", 1, None, True, {"k": 1}]},
    "const": {"const": "é"},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "hostname": {"type": "string", "format": "hostname"},
    "ipv6": {"type": "string", "format": "ipv6"},
    "a format that nobody checks": {"type": "string", "format": "password"},
    "any object": {"type": "object"},
    "any value": {"description": "whatever"},
    "any element": {"type": "array"},
    "open object": {**declaring(a={"type": "null"}), "additionalProperties": True},
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
    "names of a pattern": {"type": "object", "patternProperties": {"^a": {"type": "null"}}},
    "undeclared": {**declaring(), "required": ["b"]},
    "untyped object": {"properties": {"step": {"type": "string"}}, "additionalProperties": False},
    "a set deeper down": declaring(d=DAYS),
    "in a union": {"anyOf": [{"type": "null"}, {"type": "object"}]},
    "list": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3, "uniqueItems": False},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "boolean"}],
        "items": False,
        "minItems": 2,
    },
    "set": {**DAYS, "minItems": 1, "maxItems": 2},
    "set that may be empty": DAYS,
    "object": {**declaring(x={"type": "integer"}, y=declaring(z={"type": "boolean"})), "required": ["x"]},
    "unevaluated": {**declaring(x={"type": "integer"}), "unevaluatedProperties": False},
    "union": {"anyOf": [{"type": "string", "maxLength": 2}, declaring(k={"type": "integer"}), {"type": "null"}]},
    "tagged union": {
        "oneOf": [
            {**declaring(kind={"const": "a"}, v={"type": "integer"}), "required": ["kind"]},
            {**declaring(kind={"const": "b"}, w={"type": "integer"}), "required": ["kind"]},
        ]
    },
    "joined": {"allOf": [declaring(a={"type": "integer"}), {**declaring(b={"type": "boolean"}), "required": ["b"]}]},
    "one of two arguments": {
        **declaring(a={"type": "integer"}, b={"type": "integer"}),
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "reference": {"$ref": "#/$defs/Point"},
    "reference with a default": {"allOf": [{"$ref": "#/$defs/Point"}], "default": {"x": 1}},
    "reference or null": {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]},
}


@pytest.mark.parametrize("schema", ENFORCED.values(), ids=ENFORCED)
def test_whatever_may_be_written_is_a_valid_call(schema: dict[str, Any]) -> None:
    tool = spec(properties={"v": schema, "other": {"type": "boolean"}}, required=["v"], **{"$defs": {"Point": POINT}})
    assert not check_spec(tool)
    walker, validator = Walker([tool]), CallValidator([tool])
    written = walker.walks(16)
    assert len(written) >= 12
    for text in written:
        output = parse_output(text)
        assert output.calls and not output.errors, text
        assert [validator.check_call(call) for call in output.calls] == [[]] * len(output.calls), text


@pytest.mark.parametrize(
    ("schema", "value", "allowed"),
    [
        (ENFORCED["date"], '"2028-02-29"', True),
        (ENFORCED["date"], '"2027-02-29"', False),
        (ENFORCED["date"], '"1900-02-29"', False),
        (ENFORCED["date"], '"0000-01-01"', False),
        (ENFORCED["date-time"], '"2027-12-31T23:59:59.5+02:00"', True),
        (ENFORCED["date-time"], '"2027-12-31T23:59:60Z"', False),
        (ENFORCED["time"], '"23:59:60Z"', False),
        (ENFORCED["hostname"], f'"{"a" * 60}.{"b" * 60}.de"', True),
        (ENFORCED["hostname"], f'"{".".join("ab" for _ in range(90))}"', False),
        (ENFORCED["number"], "-0.25", True),
        (ENFORCED["number"], "1e999", False),
        (ENFORCED["set that may be empty"], '["wed", "mon", "tue"]', True),
        (ENFORCED["set that may be empty"], '["wed","mon","wed"]', False),
        (ENFORCED["set"], "[]", False),
        (ENFORCED["set"], '["mon","tue","wed"]', False),
        (ENFORCED["string"], '"caf\\u00e9 \\n"', True),
        (ENFORCED["string"], '"\\ud83d"', False),
        (ENFORCED["object"], '{"y": {}, "x": 1}', False),  # the order of the schema
        (ENFORCED["object"], '{"x" : 1,\n "y": {"z": true}}', True),
        (ENFORCED["object"], '{"x": 1, "x": 1}', False),
        (ENFORCED["object"], '{"x": 1, "w": 1}', False),
    ],
)
def test_single_values(schema: dict[str, Any], value: str, allowed: bool) -> None:
    walker = Walker([spec(properties={"v": schema}, required=["v"])])
    text = f'<tool_call>\n{{"name": "tool", "arguments": {{"v": {value}}}}}\n</tool_call>'
    assert walker.allows(text) is allowed


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("values of a list", {"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "", "uniqueItems"),
    ("not", {"type": "string", "not": {"const": "a"}}, "", "not"),
    ("if", {"type": "string", "if": {"minLength": 1}, "then": {"maxLength": 3}}, "", "if"),
    ("contains", {"type": "array", "items": {"type": "string"}, "contains": {"const": "a"}}, "", "contains"),
    ("depends", {**declaring(a={"type": "null"}), "dependentRequired": {"a": ["a"]}}, "", "dependentRequired"),
    ("unevaluated", {**declaring(), "allOf": [{}], "unevaluatedProperties": False}, "", "unevaluatedProperties"),
    ("format", {"type": "string", "format": "regex"}, "", "format"),
    ("fraction", {"type": "number", "multipleOf": 0.1}, "", "multipleOf"),
    ("two patterns", {"type": "object", "patternProperties": {"^a": {}, "b$": {}}}, "", "patternProperties"),
    (
        "short names",
        {"type": "object", "propertyNames": {"maxLength": 3}, "additionalProperties": {}},
        "",
        "propertyNames",
    ),
    ("few names", {"type": "object", "patternProperties": {"^[ab]$": {}}}, "", "patternProperties"),
    ("open and joined", {**declaring(), "allOf": [{"additionalProperties": True}]}, "", "additionalProperties"),
    ("joined reference", {**declaring(), "allOf": [{"$ref": "#/$defs/Point"}]}, "/allOf/0", "$ref"),
]


@pytest.mark.parametrize(
    ("schema", "pointer", "keyword"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_a_grammar_would_leave_out_is_named(schema: dict[str, Any], pointer: str, keyword: str) -> None:
    tool = spec("book", properties={"a/b": schema}, **{"$defs": {"Point": POINT}})
    assert not check_spec(tool)
    _, problems = enforceable_schema(tool)
    assert [(each.tool, each.pointer, each.keyword) for each in problems] == [
        ("book", f"/properties/a~1b{pointer}", keyword)
    ]
    assert str(problems[0]).startswith(f"tool 'book', /properties/a~1b{pointer}: {keyword} ")


def test_a_tool_takes_no_argument_that_it_does_not_declare() -> None:
    for tool in (spec(), spec(properties={})):
        assert Walker([tool]).allows('<tool_call>\n{"name": "tool", "arguments": {}}\n</tool_call>')
        assert not Walker([tool]).allows('<tool_call>\n{"name": "tool", "arguments": {"a": 1}}\n</tool_call>')


def test_a_tool_that_takes_arguments_of_any_names() -> None:
    walker = Walker([spec(additionalProperties={"type": "string"})])
    before, after = '<tool_call>\n{"name": "tool", "arguments": {', "}}\n</tool_call>"
    assert walker.allows(f'{before}"a": "x", "b": "a"{after}')
    assert not walker.allows(f'{before}"a": 1{after}') and not walker.allows(f'{before}"a": "x", "a": "y"{after}')


@pytest.mark.parametrize(
    ("definitions", "dialect"), [("$defs", None), ("definitions", "http://json-schema.org/draft-07/schema#")]
)
def test_definitions_that_nothing_refers_to_ask_for_nothing(definitions: str, dialect: str | None) -> None:
    unused = {"Old": {"not": {"type": "string"}}, "Map": {"patternProperties": {"^a": {}, "b$": {}}}}
    named = {"$schema": dialect} if dialect else {}
    schema, problems = enforceable_schema(spec(properties={"a": {"type": "string"}}, **named, **{definitions: unused}))
    assert not problems and definitions not in schema


@pytest.mark.parametrize("others", [True, False, {"type": "integer"}])
def test_what_follows_a_tuple_says_nothing_beside_items_for_all_places(others: Any) -> None:
    spots = {"type": "array", "items": {"type": "string"}, "additionalItems": others}
    schema, problems = enforceable_schema(
        spec(properties={"v": spots}, **{"$schema": "http://json-schema.org/draft-04/schema#"})
    )
    assert not problems and schema["properties"]["v"] == {"type": "array", "items": {"type": "string"}}


def test_objects_keep_their_names_apart() -> None:
    walker = Walker([spec(properties={"v": {"type": "object"}}, required=["v"])])
    before, after = '<tool_call>\n{"name": "tool", "arguments": {"v": ', "}}\n</tool_call>"
    assert walker.allows(f'{before}{{"a": {{"a": 1, "ab": 2}}, "ab": ["a", {{"a": "a"}}]}}{after}')
    assert not walker.allows(f'{before}{{"a": 1, "ab": 2, "a": 3}}{after}')
    assert not walker.allows(f'{before}{{"a": {{"b": 1, "b": 2}}}}{after}')
    assert not walker.allows(f'{before}{{"a": 1e999}}{after}')


@pytest.mark.parametrize(
    "dialect", ["http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#"]
)
def test_older_dialects(dialect: str) -> None:
    pair = {
        "type": "array",
        "items": [{"type": "integer"}, {"type": "boolean"}],
        "additionalItems": False,
        "minItems": 2,
    }
    above = {
        "type": "number",
        "minimum": 0,
        **({"exclusiveMinimum": True} if "04" in dialect else {"exclusiveMinimum": 0}),
    }
    parameters = {"$schema": dialect, **declaring(v=pair, w=above, x={"$ref": "#/definitions/Day"})}
    parameters |= {"required": ["v"], "definitions": {"Day": {"enum": ["mon"]}}}
    tool = ToolSpec(name="tool", parameters=parameters)
    assert not check_spec(tool)
    walker = Walker([tool])
    before, after = '<tool_call>\n{"name": "tool", "arguments": {"v": [1, true], ', "}}\n</tool_call>"
    assert walker.allows(f'{before}"w": 0.5, "x": "mon"{after}')
    assert not walker.allows(f'{before}"w": 0{after}')
    assert not walker.allows(f'{before}"x": "tue"{after}')
