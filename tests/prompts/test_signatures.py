import json

import pytest

from fcdistill.prompts.signatures import compact_signature
from fcdistill.records import FunctionTool, ToolSpec
from tests.paths import ROOT


def signature_of(schema: object, **root: object) -> str:
    """The type that a required argument `x` of this schema shows."""
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"], **root}
    return compact_signature(ToolSpec(name="f", parameters=parameters)).removeprefix("f(x: ").removesuffix(")")


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "string"}, "str"),
        ({"type": "string", "format": "date-time"}, "str date-time"),
        ({"type": "string", "pattern": "^[0-9]{2}$"}, "str /^[0-9]{2}$/"),
        ({"type": "string", "pattern": "a" * 100}, "str"),
        ({"type": "integer", "minimum": 0, "maximum": 100}, "int 0..100"),
        ({"type": "integer", "minimum": 1}, "int >=1"),
        ({"type": "number", "maximum": 2.5}, "number <=2.5"),
        ({"type": "number", "exclusiveMinimum": 0, "multipleOf": 5}, "number >0 step 5"),
        ({"type": "boolean"}, "bool"),
        ({"type": ["string", "null"]}, "str|null"),
        ({"type": "string", "nullable": True}, "str|null"),
        ({"enum": ["on", "off", "half on", "a|b", 3, None]}, 'on|off|"half on"|"a|b"|3|null'),
        ({"const": "fixed"}, "fixed"),
        ({"anyOf": [{"type": "integer"}, {"const": "max"}]}, "int|max"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "minLength": 2}]}, "str"),
        ({"allOf": [{"type": "integer"}, {"minimum": 1}]}, "int >=1"),
        ({"type": "array", "items": {"enum": ["mon", "tue"]}}, "[mon|tue]"),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]}, "[number, str]"),
        ({"type": "array"}, "[any]"),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "{*: int}"),
        (
            {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]},
            "{a: int, b?: any}",
        ),
        ({"type": "string", "enum": ["inner", "outer", None]}, "inner|outer"),
        ({"type": "string", "nullable": True, "enum": ["inner", None]}, "inner|null"),
        ({"type": "string", "nullable": True, "enum": ["inner"]}, "inner"),
        ({"type": "integer", "enum": [1, 5, 9, "x"], "maximum": 5}, "1|5"),
        ({"enum": ["5", "true", "null", "half"]}, '"5"|"true"|"null"|half'),
        (
            {"enum": ["1.5", "-3", "+4", ".5", "1e3", "False", "NaN", "str", "10:30", "v2", "3d"]},
            '"1.5"|"-3"|"+4"|".5"|"1e3"|"False"|"NaN"|"str"|10:30|v2|3d',
        ),
        ({"type": "array", "items": {"enum": ["1", "large"]}}, '["1"|large]'),
        ({"minimum": 1, "maximum": 5}, "number 1..5"),
        ({"pattern": "^a"}, "str /^a/"),
        ({"items": {"type": "boolean"}}, "[bool]"),
        ({"required": ["a"]}, "{a: any}"),
        ({"type": "number", "nullable": True, "multipleOf": 0.01}, "number step 0.01|null"),
        (
            {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "integer"}}}]},
            "{a?: str, b?: int}",
        ),
        (
            {
                "type": "object",
                "properties": {"own": {"type": "string"}},
                "required": ["own"],
                "anyOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["b"]}],
            },
            "{own: str, a?: int}|{own: str, b: any}",
        ),
        ({"type": "integer", "anyOf": [{"minimum": 5}, {"type": "string"}, {"enum": [1, "a"]}]}, "int >=5|1"),
        ({"anyOf": [{"const": each} for each in range(20)]}, "|".join(map(str, range(20)))),
        (
            {"anyOf": [{"type": "string"}, *({"properties": {name: {}}} for name in "abcdefghijklmnopqr")]},
            "{" + ", ".join(f"{name}?: any" for name in "abcdefghijklmnopqr") + "}|str",
        ),
        ({"properties": {"a": {"type": "integer"}, "b": False}}, "{a?: int}"),
        (
            {"patternProperties": {"^x-": {"type": "integer"}, "a" * 99: {}}, "additionalProperties": {"type": "null"}},
            "{/^x-/: int, *: any, *: null}",
        ),
        (True, "any"),
        ({"$ref": "http://elsewhere/schema"}, "any"),
        ({"$ref": "#/$defs/missing"}, "any"),
    ],
)
def test_types(schema: object, shown: str) -> None:
    assert signature_of(schema) == shown


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        (
            {"oneOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"required": ["b"]}]},
            "f(a: str) | f(b: any)",
        ),
        (
            {
                "properties": {"own": {"type": "boolean"}},
                "anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}],
            },
            "f(own?: bool, a: any) | f(own?: bool, b?: any)",
        ),
        (
            {"properties": {"a": {}, "b": {}}, "anyOf": [{"required": [name]} for name in "ab"]},
            "f(a: any, b?: any) | f(a?: any, b: any)",
        ),
        ({"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}]}, "f(a: any, b?: any)"),
        ({"$ref": "#/$defs/L", "$defs": {"L": {"properties": {"a": {}}}}}, "f(a?: any)"),
        ({"anyOf": [{"type": "null"}, {"properties": {"a": {}}}]}, "f(a?: any)"),
        ({"anyOf": [{"$ref": "#"}]}, "f()"),
        ({"properties": {"a": {}}, "then": {"required": ["b"]}, "else": {"$ref": "#"}}, "f(a?: any, b?: any)"),
    ],
)  # fmt: skip
def test_all_ways_of_calling_are_shown(parameters: dict[str, object], shown: str) -> None:
    assert compact_signature(ToolSpec(name="f", parameters={"type": "object", **parameters})) == shown


def test_of_very_many_ways_all_members_are_shown() -> None:
    ways = [{"properties": {name: {}}, "required": [name, "all"]} for name in "abcdefghijklmnopqrst"]
    shown = compact_signature(ToolSpec(name="f", parameters={"type": "object", "oneOf": ways}))
    assert shown == "f(a?: any, all: any, " + ", ".join(f"{name}?: any" for name in "bcdefghijklmnopqrst") + ")"


def test_local_references_are_followed() -> None:
    definitions = {"room/1": {"enum": ["hall", "attic"]}, "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}}
    assert signature_of({"$ref": "#/$defs/room~11"}, **{"$defs": definitions}) == "hall|attic"
    assert signature_of({"$ref": "#/$defs/either/anyOf/0"}, **{"$defs": definitions}) == "bool"
    assert signature_of({"$ref": "#/elsewhere/0"}, elsewhere=[{"type": "boolean"}]) == "bool"


def test_a_schema_that_contains_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    shown = signature_of({"$ref": "#/$defs/node"}, **{"$defs": {"node": node}})
    assert shown.startswith("{next?: {next?: ") and "any" in shown


def test_a_description_stays_on_the_line() -> None:
    assert compact_signature(ToolSpec(name="f", description="Does\n  this. ")) == "f()  # Does this."


def test_the_smart_home_catalogue_is_shown_without_loss_of_names() -> None:
    tools = json.loads((ROOT / "schemas" / "smart_home.json").read_text())
    for spec in (FunctionTool.model_validate(tool).function for tool in tools):
        signature = compact_signature(spec)
        assert "\n" not in signature and signature.startswith(f"{spec.name}(")
        for name in spec.parameters["properties"]:
            optional = "" if name in spec.parameters["required"] else "?"
            assert f"{name}{optional}: " in signature
