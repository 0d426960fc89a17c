import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.errors import CatalogError
from fcdistill.records import CALL_ERRORS, ToolCall, ToolSpec
from fcdistill.tools.validation import MAX_SCHEMA_DEPTH, CallValidator, Violation, check_spec
from tests.paths import ROOT

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
SMART_HOME = [
    ToolSpec.model_validate(tool["function"]) for tool in json.loads((ROOT / "schemas" / "smart_home.json").read_text())
]
HOME = CallValidator(SMART_HOME)


def tool(**parameters: Any) -> ToolSpec:
    return ToolSpec(name="tool", parameters={"type": "object", **parameters})


def check(spec: ToolSpec, **arguments: Any) -> list[Violation]:
    return CallValidator([spec]).check_call(ToolCall(name=spec.name, arguments=arguments))


def codes(spec: ToolSpec, **arguments: Any) -> list[tuple[str, str]]:
    return [(violation.code, violation.pointer) for violation in check(spec, **arguments)]


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


# --- calls


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("set_light", {"room": "kitchen", "state": "on"}),
        ("set_light", {"room": "kitchen", "state": "on", "brightness": 5.0}),
        ("set_timer", {"duration": {"hours": 1, "minutes": 30}, "label": "tea"}),
        ("create_reminder", {"text": "call", "at": "2027-05-03T18:00:00Z"}),
        ("add_shopping_items", {"items": [{"name": "milk", "quantity": 2}, {"name": "eggs"}]}),
    ],
)
def test_right_calls(name: str, arguments: dict[str, Any]) -> None:
    assert HOME.check_call(ToolCall(name=name, arguments=arguments)) == []


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("set_light", {}, [("missing_required", "/room"), ("missing_required", "/state")]),
        ("set_light", {"room": "attic", "state": "on"}, [("enum_violation", "/room")]),
        ("set_light", {"room": "kitchen", "state": True}, [("wrong_type", "/state")]),
        ("set_light", {"room": "kitchen", "state": "on", "brightness": True}, [("wrong_type", "/brightness")]),
        ("set_light", {"room": "kitchen", "state": "on", "brightness": "5"}, [("wrong_type", "/brightness")]),
        ("set_light", {"room": "kitchen", "state": "on", "brightness": 5.5}, [("wrong_type", "/brightness")]),
        ("set_light", {"room": "kitchen", "state": "on", "brightness": 101}, [("constraint_violation", "/brightness")]),
        ("set_light", {"room": "kitchen", "state": "on", "brightness": None}, [("wrong_type", "/brightness")]),
        ("set_light", {"room": "kitchen", "state": "on", "a/b~": 1}, [("extra_arg", "/a~1b~0")]),
        ("set_timer", {"duration": {}}, [("constraint_violation", "/duration")]),
        ("set_timer", {"duration": {"days": 1}}, [("extra_arg", "/duration/days")]),
        ("set_timer", {"duration": "1h"}, [("wrong_type", "/duration")]),
        ("set_alarm", {"time": "7:00"}, [("constraint_violation", "/time")]),
        ("set_alarm", {"time": "07:00", "days": ["mon", "mon"]}, [("constraint_violation", "/days")]),
        ("set_alarm", {"time": "07:00", "days": ["mon", "may"]}, [("enum_violation", "/days/1")]),
        ("create_reminder", {"text": "a", "at": "tomorrow"}, [("constraint_violation", "/at")]),
        ("create_reminder", {"text": "a", "at": "2027-05-03T18:00:00"}, [("constraint_violation", "/at")]),
        (
            "add_shopping_items",
            {"items": [{"name": "milk"}, {"nmae": "eggs"}]},
            [("missing_required", "/items/1/name"), ("extra_arg", "/items/1/nmae")],
        ),
    ],
)
def test_wrong_calls(name: str, arguments: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = HOME.check_call(ToolCall(name=name, arguments=arguments))
    assert [(violation.code, violation.pointer) for violation in found] == expected


def test_an_unknown_tool_is_one_violation_with_suggestions() -> None:
    assert HOME.check_call(ToolCall(name="set_lihgt", arguments={"x": 1})) == [
        Violation("unknown_function", "", "name", "there is no tool 'set_lihgt'; did you mean set_light?")
    ]
    (violation,) = HOME.check_call(ToolCall(name="zzz", arguments={}))
    assert violation.detail == "there is no tool 'zzz'"


def test_a_misspelt_argument_gets_a_suggestion() -> None:
    (violation,) = check(tool(properties={"brightness": {}}), brightnes=1)
    assert violation.detail == "argument 'brightnes' is not declared; did you mean 'brightness'?"


def test_violations_come_in_order_of_primacy_and_a_wrong_type_implies_the_rest() -> None:
    spec = tool(properties={"a": {"type": "string", "enum": ["x"]}, "b": {"minimum": 1}, "c": {}}, required=["c"])
    assert codes(spec, a=5, b=0, d=1) == [
        ("missing_required", "/c"),
        ("extra_arg", "/d"),
        ("wrong_type", "/a"),
        ("constraint_violation", "/b"),
    ]


def test_details_stay_short_whatever_the_arguments_hold() -> None:
    for violation in check(tool(properties={"a": {"type": "integer"}}), a="x" * 10_000, **{"y" * 10_000: 1}):
        assert len(violation.detail) < 250


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_lacks_are_violations_wherever_they_stand(number: float) -> None:
    spec = tool(properties={"a": {"type": "number", "multipleOf": 0.5}, "free": {}})
    assert codes(spec, a=number) == [("wrong_type", "/a")]
    assert codes(spec, free=[{"b": number}]) == [("wrong_type", "/free/0/b")]


def test_const_is_an_enumeration_of_one_and_tells_true_from_1() -> None:
    spec = tool(properties={"a": {"const": 1}, "b": {"enum": [0, "x"]}})
    assert codes(spec, a=True, b=False) == [("enum_violation", "/a"), ("enum_violation", "/b")]
    assert codes(spec, a=1.0, b=0) == []


@pytest.mark.parametrize(
    ("format_name", "right", "wrong"),
    [
        ("date-time", "2027-05-03T18:00:00+02:00", "2027-13-03T18:00:00Z"),
        ("date", "2028-02-29", "2027-02-29"),
        ("time", "18:00:00Z", "25:00:00Z"),
        ("duration", "PT1H30M", "1 hour"),
        ("uri", "https://example.com/a?b=c", "example dot com"),
        ("uri-reference", "/a#b", "a b\\"),
        ("iri", "https://exämple.com/", "a b"),
        ("uri-template", "https://example.com/{id}", "https://example.com/{"),
        ("hostname", "a.example.com", "-a-.example.com"),
        ("idn-hostname", "exämple.com", "a..b"),
        ("email", "a@example.com", "example.com"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "::g"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("json-pointer", "/a/0", "a/0"),
        ("relative-json-pointer", "1/a", "/a"),
        ("regex", "^a+$", "("),
    ],
)
def test_formats_are_checked(format_name: str, right: str, wrong: str) -> None:
    spec = tool(properties={"a": {"type": "string", "format": format_name}})
    assert check(spec, a=right) == []
    (violation,) = check(spec, a=wrong)
    assert (violation.code, violation.pointer, violation.keyword) == ("constraint_violation", "/a", "format")


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string", "pattern": "^[a-z]+$"}, "amber", "amber\n"),
        ({"type": "string", "pattern": r"^\d{3}$"}, "407", "٤٠٧"),
        ({"type": "string", "pattern": r"^(?<year>\d{4})-\p{Lu}$"}, "2031-Å", "2031-å"),
        ({"type": "number", "multipleOf": 0.01}, 4.35, 4.355),
        ({"$ref": "#/$defs/Step", "maximum": 6}, 0.6, 5.9),
    ],
)
def test_a_broken_pattern_or_step_is_a_broken_constraint(schema: dict[str, Any], right: Any, wrong: Any) -> None:
    spec = tool(properties={"a": schema}, **{"$defs": {"Step": {"type": "number", "multipleOf": 0.2}}})
    assert codes(spec, a=right) == []
    assert codes(spec, a=wrong) == [("constraint_violation", "/a")]


@pytest.mark.parametrize("dialect", [DRAFT_4, DRAFT_7, None])
def test_nullable_beside_a_type_allows_null(dialect: str | None) -> None:
    named = {} if dialect is None else {"$schema": dialect}
    spec = tool(properties={"a": {"type": "string", "nullable": True}, "b": {"type": "array"}}, **named)
    assert codes(spec, a=None) == []
    assert codes(spec, a=3, b=None) == [("wrong_type", "/a"), ("wrong_type", "/b")]


@pytest.mark.parametrize("dialect", [DRAFT_7, "https://json-schema.org/draft/2020-12/schema"])
def test_a_reference_to_the_root_leads_to_the_same_rules(dialect: str) -> None:
    step = {"type": "number", "multipleOf": 0.1}
    spec = tool(properties={"a": step, "inner": {"$ref": "#"}}, **{"$schema": dialect})
    assert codes(spec, inner={"a": 0.3}) == []
    assert codes(spec, inner={"a": 0.35}) == [("constraint_violation", "/inner/a")]


def test_patterns_of_names_are_read_like_patterns_of_values() -> None:
    spec = tool(
        patternProperties={r"^\p{L}\d$": {"type": "integer"}},
        properties={"like": {"$ref": r"#/patternProperties/%5E%5Cp%7BL%7D%5Cd$"}},
        additionalProperties=False,
    )
    assert codes(spec, Ä1=1, like=2) == []
    assert codes(spec, Ä1="x", like="x") == [("wrong_type", "/like"), ("wrong_type", "/Ä1")]
    assert codes(spec, **{"Ä٤": 1}) == [("extra_arg", "/Ä٤")]


def test_a_pattern_that_nobody_can_read_judges_nothing_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    spec = tool(properties={"a": {"type": "string", "pattern": "(["}, "b": {"type": "integer", "minimum": 1}})
    assert check_spec(spec) == []
    assert codes(spec, a="anything") == []
    assert codes(spec, a=1, b=0) == [("wrong_type", "/a"), ("constraint_violation", "/b")]
    assert [record.getMessage() for record in caplog.records] == [
        "tool 'tool': the pattern '([' is not checked, since it is no regular expression of ECMA-262 that could be read"
    ]


@pytest.mark.parametrize("rest", [{}, {"additionalProperties": False}, {"unevaluatedProperties": False}])
def test_names_of_a_pattern_that_nobody_can_read_may_be_any(rest: dict[str, Any]) -> None:
    spec = tool(properties={"a": {"type": "integer"}}, patternProperties={"(": {"type": "integer"}}, **rest)
    assert codes(spec, a=1, other="x") == []
    assert codes(spec, a="x") == [("wrong_type", "/a")]


# --- alternatives


ALTERNATIVES = tool(
    properties={
        "text": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "level": {"oneOf": [{"type": "string", "enum": ["auto"]}, {"type": "integer", "minimum": 0}]},
        "where": {
            "anyOf": [
                {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
                {"type": "array", "items": {"type": "number"}},
            ]
        },
        "both": {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    }
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"text": None, "level": "auto", "where": {"city": "Rome"}}, []),
        ({"text": 5}, [("wrong_type", "/text")]),
        ({"level": "atuo"}, [("enum_violation", "/level")]),
        ({"level": -1}, [("constraint_violation", "/level")]),
        ({"level": []}, [("wrong_type", "/level")]),
        ({"where": {}}, [("missing_required", "/where/city")]),
        ({"where": {"city": 5}}, [("wrong_type", "/where/city")]),
        ({"where": [1, "x"]}, [("wrong_type", "/where/1")]),
        ({"where": {"city": "Rome", "zip": 1}}, [("extra_arg", "/where/zip")]),
        ({"both": 1}, [("constraint_violation", "/both")]),
    ],
)
def test_of_alternatives_the_nearest_is_reported(arguments: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert codes(ALTERNATIVES, **arguments) == expected


# --- undeclared arguments

X = {"properties": {"x": {}}}


@pytest.mark.parametrize(
    "spec",
    [
        tool(),
        tool(properties={}),
        tool(properties={"a": {}}),
        tool(properties={"a": {}}, additionalProperties=False),
        tool(properties={"a": {}}, unevaluatedProperties=False),
        tool(patternProperties={"^a": {}}),
        tool(allOf=[X, {"properties": {"a": {}}}]),
        tool(anyOf=[X, {"properties": {"a": {}}}]),
        tool(oneOf=[{**X, "required": ["x"]}, {"properties": {"a": {}}, "required": ["a"]}]),
        tool(properties={"a": {}}, anyOf=[{"required": ["a"]}, {"required": ["x"]}]),
        tool(**{"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"a": {}}}}}),
        tool(**{"$schema": DRAFT_7, "$ref": "#/definitions/a", "definitions": {"a": {"properties": {"a": {}}}}}),
        tool(properties={"a": {}}, **{"if": {"required": ["a"]}, "then": X, "else": {"properties": {"y": {}}}}),
        tool(properties={"a": {}}, dependentSchemas={"a": X}),
        tool(**{"$schema": DRAFT_7, "properties": {"a": {}}, "dependencies": {"a": X, "b": ["a"]}}),
        tool(required=["a"]),
    ],
    ids=lambda spec: json.dumps(spec.parameters),
)
def test_an_undeclared_argument_is_a_violation(spec: ToolSpec) -> None:
    arguments = {"a": 1, "undeclared": 2} if "a" in json.dumps(spec.parameters.get("properties", "a")) else {}
    assert ("extra_arg", "/undeclared") in codes(spec, **{**arguments, "undeclared": 2})


def test_what_alternatives_and_conditions_declare_is_declared() -> None:
    spec = tool(
        properties={"a": {}},
        allOf=[{"properties": {"b": {}}}],
        anyOf=[{"properties": {"c": {}}}, {"properties": {"d": {}}}],
        **{"if": {"required": ["a"]}, "then": {"properties": {"e": {}}}, "else": {"properties": {"f": {}}}},
        dependentSchemas={"a": {"properties": {"g": {}}}},
        patternProperties={"^x-": {}},
        required=["h"],
    )
    assert codes(spec, **dict.fromkeys(["a", "b", "c", "d", "e", "f", "g", "x-1", "h"], 1)) == []


@pytest.mark.parametrize(
    "freedom",
    [{"additionalProperties": True}, {"additionalProperties": {"type": "integer"}}, {"unevaluatedProperties": True}],
)
def test_others_are_allowed_where_a_schema_says_so(freedom: dict[str, Any]) -> None:
    assert codes(tool(properties={"a": {}}, **freedom), a=1, other=2) == []
    assert codes(tool(properties={"a": {"type": "object", **X, **freedom}}), a={"other": 2}) == []


def test_a_schema_of_other_arguments_is_itself_closed() -> None:
    spec = tool(additionalProperties={"type": "object", **X})
    assert codes(spec, any={"x": 1}) == []
    assert codes(spec, any={"y": 1}) == [("extra_arg", "/any/y")]


def test_objects_that_declare_nothing_are_free() -> None:
    spec = tool(properties={"meta": {"type": "object"}, "any": {}, "true": True})
    assert codes(spec, meta={"a": {"b": 1}}, any={"c": [{"d": 1}]}, true={"e": 1}) == []


@pytest.mark.parametrize(
    ("schema", "value", "pointer"),
    [
        ({"type": "object", **X}, {"y": 1}, "/a/y"),
        ({"type": ["object", "null"], **X}, {"y": 1}, "/a/y"),
        ({"items": {"items": {**X}}}, [[], [{"x": 1}, {"y": 1}]], "/a/1/1/y"),
        ({"prefixItems": [{}, X], "items": {"properties": {"z": {}}}}, [{"q": 1}, {"x": 1}, {"y": 1}], "/a/2/y"),
        ({"prefixItems": [{}, X]}, [{"q": 1}, {"y": 1}, {"q": 1}], "/a/1/y"),
        ({"additionalProperties": {"properties": {"x": X}}}, {"any": {"x": {"y": 1}}}, "/a/any/x/y"),
        ({"patternProperties": {"^k": X}}, {"k1": {"y": 1}}, "/a/k1/y"),
        ({"anyOf": [{"type": "null"}, {"type": "object", **X}]}, {"y": 1}, "/a/y"),
        ({"$ref": "#/$defs/node"}, {"next": {"next": {"y": 1}}}, "/a/next/next/y"),
        ({"allOf": [X, {"properties": {"x": {"properties": {"z": {}}}}}]}, {"x": {"y": 1}}, "/a/x/y"),
    ],
)
def test_undeclared_arguments_are_found_at_every_level(schema: dict[str, Any], value: Any, pointer: str) -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    assert codes(tool(properties={"a": schema}, **{"$defs": {"node": node}}), a=value) == [("extra_arg", pointer)]


def test_tuples_of_the_older_drafts() -> None:
    old = {"$schema": DRAFT_7, "properties": {"a": {"items": [{}, X], "additionalItems": {"properties": {"z": {}}}}}}
    assert codes(tool(**old), a=[{"q": 1}, {"y": 1}, {"x": 1}]) == [("extra_arg", "/a/1/y"), ("extra_arg", "/a/2/x")]


def test_a_branch_that_takes_any_object_leaves_the_place_open() -> None:
    spec = tool(properties={"a": {"anyOf": [{"type": "object", **X}, {"type": "object"}]}})
    assert codes(spec, a={"y": 1}) == []
    by_kind = [
        {"properties": {"kind": {"const": "closed"}, "data": {"type": "object", **X}}},
        {"properties": {"kind": {"const": "free"}, "data": {"type": "object"}}},
    ]
    assert codes(tool(oneOf=by_kind), kind="free", data={"y": 1}) == []


def test_what_applies_on_a_condition_closes_nothing_by_itself() -> None:
    conditional = {"type": "object", "if": {"required": ["x"]}, "then": X, "dependentSchemas": {"x": X}}
    assert codes(tool(properties={"a": conditional}), a={"y": 1}) == []


def test_siblings_of_a_reference_count_only_from_2019_on() -> None:
    parts = {"definitions": {"a": {"type": "object", **X}}}
    schema = {"$ref": "#/definitions/a", "properties": {"b": {}}}
    assert codes(tool(properties={"a": schema}, **parts), a={"b": 1}) == []
    assert codes(tool(properties={"a": schema}, **{"$schema": DRAFT_7, **parts}), a={"b": 1}) == [("extra_arg", "/a/b")]


def test_a_property_that_must_not_be_there_is_an_extra_argument() -> None:
    assert codes(tool(properties={"a": False, "b": {}}), a=1, b=2) == [("extra_arg", "/a")]
    assert codes(tool(properties={"a": False}, additionalProperties=True), a=1) == [("constraint_violation", "")]


def test_an_undeclared_argument_is_reported_once() -> None:
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        assert codes(tool(properties={"a": {}}, **{keyword: False}), b=1, c=2) == [
            ("extra_arg", "/b"),
            ("extra_arg", "/c"),
        ]


def test_additional_properties_that_only_json_schema_refuses() -> None:
    """Each branch of `allOf` closes itself: an old trap of JSON Schema, which stays a violation."""
    spec = tool(allOf=[{**X, "additionalProperties": False}, {"properties": {"y": {}}}])
    assert codes(spec, x=1, y=1) == [("extra_arg", "/y")]
    unevaluated = tool(properties={"a": {}}, anyOf=[{**X, "required": ["q"]}, {}], unevaluatedProperties=False)
    assert codes(unevaluated, a=1, x=1) == [("extra_arg", "")]


# --- dialects and schemas


def test_the_dialect_of_the_schema_is_honoured() -> None:
    boundary = {"properties": {"a": {"minimum": 0, "exclusiveMinimum": True}}}
    assert codes(tool(**{"$schema": DRAFT_4, **boundary}), a=0) == [("constraint_violation", "/a")]
    assert check_spec(tool(**boundary)) == ["/properties/a/exclusiveMinimum: True is not of type 'number'"]


@pytest.mark.parametrize(
    "dialect",
    [
        DRAFT_4,
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2020-12/schema#",
    ],
)
def test_known_dialects(dialect: str) -> None:
    assert check_spec(tool(**{"$schema": dialect})) == []
    assert (
        codes(
            tool(**{"$schema": dialect, "properties": {"a": {"type": "integer"}}}), a=2.0 if "04" not in dialect else 2
        )
        == []
    )


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({}, "/type: the root must have type 'object', found None"),
        ({"type": "string"}, "/type: the root must have type 'object', found 'string'"),
        ({"type": ["object"]}, "/type: the root must have type 'object', found ['object']"),
        ({"type": "object", "properties": {"a": {"type": "int"}}}, "/properties/a/type: 'int' is not one of"),
        ({"type": "object", "properties": []}, "/properties: [] is not of type 'object'"),
        ({"type": "object", "required": "a"}, "/required: 'a' is not of type 'array'"),
        ({"type": "object", "properties": {"a/b": {"minLength": -1}}}, "/properties/a~1b/minLength: -1 is less than"),
        ({"type": "object", "properties": {"a": {"description": 5}}}, "/properties/a/description: 5 is not of type"),
        ({"type": "object", "$schema": "http://json-schema.org/draft-03/schema#"}, "/$schema: unknown dialect"),
        ({"type": "object", "$schema": "http://["}, "/$schema: unknown dialect 'http://['"),
        ({"type": "object", "$schema": 5}, "/$schema: unknown dialect 5"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.com/a"}}}, "leads out of the schema"),
        ({"type": "object", "properties": {"a": {"$ref": "other.json#/a"}}}, "leads out of the schema"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}, "$ref '#/$defs/a' leads nowhere"),
        ({"type": "object", "allOf": [{"$ref": "#/allOf/x"}]}, "$ref '#/allOf/x' leads nowhere"),
        ({"type": "object", "properties": {"a": {"$ref": "#anchor"}}}, "$ref '#anchor' leads nowhere"),
        ({"type": "object", "properties": {"a": {"$ref": "#/type"}}}, "behind $ref '#/type', /: 'object' is not of"),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/x/a"}}, "x": {"a": {"type": "int"}}},
            "behind $ref '#/x/a', /type: 'int' is not one of",
        ),
        (
            {"type": "object", "properties": {"a": {"$ref": "#/x/a"}}, "x": {"a": {"items": {"$ref": "http://b"}}}},
            "$ref 'http://b' leads out of the schema",
        ),
        ({"type": "object", "$ref": "#"}, "it never ends"),
        ({"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}]}}}, "it never ends"),
        ({"type": "object", "not": {"$ref": "#"}}, "it never ends"),
        ({"type": "object", "properties": {"a": nested(MAX_SCHEMA_DEPTH - 2)}}, "nested more than 64 levels"),
        ({"type": "object", "default": json.loads("[" * 65 + "]" * 65)}, "nested more than 64 levels"),
    ],
)
def test_unusable_schemas(parameters: dict[str, Any], problem: str) -> None:
    spec = ToolSpec(name="dim", parameters=parameters)
    problems = check_spec(spec)
    assert any(problem in each for each in problems), problems
    with pytest.raises(CatalogError, match="tool 'dim': "):
        CallValidator([spec])


@pytest.mark.parametrize("length", [65, 350])
def test_a_chain_of_references_that_is_too_long(length: int) -> None:
    chain: dict[str, Any] = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(length)}
    spec = tool(properties={"a": {"$ref": "#/$defs/d0"}}, **{"$defs": {**chain, f"d{length}": {}}})
    assert check_spec(spec) == ["more than 64 references lead from one to the next"]


def test_usable_schemas() -> None:
    assert [check_spec(spec) for spec in SMART_HOME] == [[]] * len(SMART_HOME)
    assert check_spec(tool(properties={"a": nested(MAX_SCHEMA_DEPTH - 3)})) == []
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}}
    assert check_spec(ToolSpec(name="tree", parameters=tree)) == []
    named = {"$id": "https://example.com/tool", "properties": {"a": {"$ref": "#a"}}, "$defs": {"a": {"$anchor": "a"}}}
    assert check_spec(tool(**named)) == []


def test_properties_named_like_keywords_are_properties() -> None:
    spec = tool(
        properties={"$ref": {"type": "string"}, "required": {"type": "boolean"}, "enum": {"const": {"$ref": "x"}}}
    )
    assert check_spec(spec) == []
    assert codes(spec, **{"$ref": "http://a", "required": True}) == []


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a schema was fetched")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    assert check_spec(tool(properties={"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}))


def test_a_validator_keeps_the_schema_that_it_was_made_from() -> None:
    spec = tool(properties={"a": {"type": "string"}})
    validator = CallValidator([spec])
    spec.parameters["properties"]["a"]["type"] = "integer"
    assert validator.check_call(ToolCall(name="tool", arguments={"a": "x"})) == []


# --- anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)
EVERYTHING = tool(
    properties={
        "tree": {"$ref": "#/$defs/tree"},
        "number": {"type": "number", "multipleOf": 0.1, "exclusiveMinimum": -5},
        "step": {"type": "integer", "multipleOf": 7},
        "text": {"type": "string", "format": "date-time", "pattern": "^2", "maxLength": 5},
        "host": {"format": "hostname"},
        "tuple": {"prefixItems": [{"type": "string"}], "items": {"const": 1}, "contains": {"const": 1}},
        "set": {"uniqueItems": True, "minItems": 1},
        "either": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/tree"}, {"enum": [1, None, [2]]}]},
        "names": {"propertyNames": {"maxLength": 2}, "minProperties": 1, "not": {"required": ["a"]}},
    },
    dependentRequired={"tree": ["text"]},
    **{
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "unevaluatedProperties": False,
            }
        }
    },
)
LIKELY = st.dictionaries(st.sampled_from([*EVERYTHING.parameters["properties"], "kids", "a"]), json_values, max_size=5)
ANYTHING = CallValidator([EVERYTHING, *SMART_HOME])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["tool", "set_light", "set_timer", "?"]), LIKELY | st.dictionaries(st.text(), json_values))
def test_no_arguments_make_it_raise(name: str, arguments: dict[str, Any]) -> None:
    found = ANYTHING.check_call(ToolCall(name=name, arguments=arguments))
    primacies = [CALL_ERRORS.index(violation.code) for violation in found]
    assert primacies == sorted(primacies)
    for violation in found:
        assert violation.pointer == "" or violation.pointer.startswith("/")


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_no_schema_makes_it_raise(schema: Any) -> None:
    for parameters in ({"type": "object", "properties": {"a": schema}}, {"type": "object", "allOf": [schema]}):
        spec = ToolSpec(name="tool", parameters=parameters)
        if not check_spec(spec):
            check(spec, a={"b": [1]})


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**400 + 1])
def test_integers_beyond_a_double(value: int) -> None:
    for code, _ in codes(EVERYTHING, number=value, step=value):
        assert code == "constraint_violation"


def test_arguments_nested_too_deeply_are_a_violation() -> None:
    tree: dict[str, Any] = {}
    for _ in range(600):
        tree = {"kids": [tree]}
    assert [violation.code for violation in check(EVERYTHING, tree=tree, text="2")] == ["constraint_violation"]


def test_a_verdict_takes_well_under_a_millisecond() -> None:
    call = ToolCall(name="add_shopping_items", arguments={"items": [{"name": "milk", "quantity": 2}, {"name": "eggs"}]})
    HOME.check_call(call)

    def seconds_each() -> float:
        start = time.perf_counter()
        for _ in range(200):
            HOME.check_call(call)
        return (time.perf_counter() - start) / 200

    assert min(seconds_each() for _ in range(5)) < 500e-6
