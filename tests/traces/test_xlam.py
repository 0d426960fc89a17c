from typing import Any

import pytest

from fcdistill.records import ToolSpec
from fcdistill.tools.validation import check_spec
from fcdistill.traces.xlam import FlatParametersError, schema_of_flat

STRING, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("str", STRING),
        ("float", NUMBER),
        ("bool", {"type": "boolean"}),
        ("integer", INTEGER),
        ("list", {"type": "array"}),
        ("List[int]", {"type": "array", "items": INTEGER}),
        ("list[List[str]]", {"type": "array", "items": {"type": "array", "items": STRING}}),
        ("List[Union[int, float]]", {"type": "array", "items": {"anyOf": [INTEGER, NUMBER]}}),
        ("int | None", {"anyOf": [INTEGER, {"type": "null"}]}),
        ("Optional[str]", {"anyOf": [STRING, {"type": "null"}]}),
        ("typing.Dict[str, float]", {"type": "object", "additionalProperties": NUMBER}),
        ("dict", {"type": "object", "additionalProperties": {}}),
        ("Set[str]", {"type": "array", "items": STRING, "uniqueItems": True}),
        ("Tuple[str, int]", {"type": "array", "prefixItems": [STRING, INTEGER], "items": False, "minItems": 2}),
        ("Tuple[int, ...]", {"type": "array", "items": INTEGER}),
        ("Literal['a', 'b']", {"enum": ["a", "b"]}),
        ("Any", {}),
    ],
)
def test_python_types_become_schemas(text: str, schema: dict[str, Any]) -> None:
    made = schema_of_flat({"x": {"type": text}, "y": {"type": f"{text}, optional"}})
    assert made == {"type": "object", "properties": {"x": schema, "y": schema}, "required": ["x"]}
    assert check_spec(ToolSpec(name="f", parameters=made)) == []


@pytest.mark.parametrize(
    ("given", "required"),
    [
        ({"type": "str"}, True),
        ({"type": "str, required"}, True),
        ({"type": "str, optional"}, False),
        ({"type": "str, optional, default 'x'"}, False),
        ({"type": "str", "default": "x"}, False),
        ({"type": "str", "default": ""}, False),
        ({"type": "str", "default": "x", "required": True}, True),
        ({"type": "str", "required": False}, False),
    ],
)
def test_which_parameters_are_required(given: dict[str, Any], required: bool) -> None:
    assert schema_of_flat({"x": given})["required"] == (["x"] if required else [])


def test_annotations_are_kept_and_a_default_of_another_type_is_none() -> None:
    made = schema_of_flat(
        {
            "city": {"type": "str", "description": "Where.", "enum": ["Rome", "Turin"], "default": "Rome"},
            "days": {"type": "int", "default": "5"},
        }
    )
    assert made["properties"] == {
        "city": {"type": "string", "description": "Where.", "enum": ["Rome", "Turin"], "default": "Rome"},
        "days": INTEGER,
    }


def test_a_json_schema_stays_as_it_is() -> None:
    schema = {"type": "object", "properties": {"type": STRING}, "required": []}
    assert schema_of_flat(schema) == schema
    assert schema_of_flat({"type": {"type": "str"}})["properties"] == {"type": STRING}


@pytest.mark.parametrize(
    "given",
    ["str", {}, {"type": 3}, {"type": "Callable[[float], float]"}, {"type": "np.ndarray"}, {"type": "str str"},
     {"type": ""}, {"type": "List[int, str]"}, {"type": "__import__('os')"}, {"type": "Tuple[()]"},
     {"type": "Literal[b'a']"}],
)  # fmt: skip
def test_what_json_can_not_hold_is_refused(given: Any) -> None:
    with pytest.raises(FlatParametersError, match="parameter 'x' has"):
        schema_of_flat({"x": given})
