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
        (True, "any"),
        ({"$ref": "http://elsewhere/schema"}, "any"),
        ({"$ref": "#/$defs/missing"}, "any"),
    ],
)
def test_types(schema: object, shown: str) -> None:
    assert signature_of(schema) == shown


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
