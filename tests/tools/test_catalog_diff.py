"""What became of a catalogue: differences named, renames found only where they are plain."""

from typing import Any

import pytest

from fcdistill.errors import ConfigError
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.tools.catalog_diff import CatalogChange, Renames, compare_catalogs, parse_renames

ROOM = {"type": "string", "enum": ["hall", "attic"], "description": "Where"}
LEVEL = {"type": "integer", "minimum": 0, "maximum": 100, "description": "How bright"}


def _spec(name: str, properties: dict[str, Any], *, required: tuple[str, ...] = (), description: str = "") -> ToolSpec:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return ToolSpec(name=name, description=description or name, parameters=parameters)


LIGHT = _spec("set_light", {"room": ROOM, "level": LEVEL}, required=("room",), description="Switches a light.")
FAN = _spec("set_fan", {"room": ROOM, "speed": LEVEL}, description="Turns a fan.")


def _changes(old: list[ToolSpec], new: list[ToolSpec], given: Renames | None = None) -> list[CatalogChange]:
    return compare_catalogs(old, new, given)[0]


def _light(**properties: Any) -> ToolSpec:
    merged = {"room": ROOM, "level": LEVEL} | properties
    kept = {name: schema for name, schema in merged.items() if schema is not None}
    return _spec("set_light", kept, required=("room",), description="Switches a light.")


def test_the_same_catalogue_has_no_changes_whatever_its_order() -> None:
    assert _changes([LIGHT, FAN], [FAN, LIGHT]) == []


def test_tools_that_came_and_went() -> None:
    assert _changes([LIGHT], [FAN]) == [CatalogChange("added", "set_fan"), CatalogChange("removed", "set_light")]


def test_a_tool_that_differs_in_its_name_alone_was_renamed() -> None:
    lamp = LIGHT.model_copy(update={"name": "set_lamp"})
    changes, renames = compare_catalogs([LIGHT, FAN], [lamp, FAN])
    assert changes == [CatalogChange("renamed", "set_lamp", detail="was set_light")]
    assert renames.tools == {"set_light": "set_lamp"}


def test_rivals_are_not_guessed_but_can_be_given() -> None:
    lamps = [LIGHT.model_copy(update={"name": name}) for name in ("set_lamp", "set_bulb")]
    assert {change.kind for change in _changes([LIGHT], lamps)} == {"added", "removed"}
    changes, renames = compare_catalogs([LIGHT], lamps, Renames(tools={"set_light": "set_bulb"}))
    assert renames.tools == {"set_light": "set_bulb"}
    assert changes == [CatalogChange("added", "set_lamp"), CatalogChange("renamed", "set_bulb", detail="was set_light")]


def test_a_parameter_that_differs_in_its_name_alone_was_renamed() -> None:
    new = _light(level=None, brightness=LEVEL)
    changes, renames = compare_catalogs([LIGHT], [new])
    assert changes == [CatalogChange("renamed", "set_light", "brightness", "was level")]
    call = ToolCall(name="set_light", arguments={"level": 3, "room": "hall"})
    assert renames.call(call) == ToolCall(name="set_light", arguments={"brightness": 3, "room": "hall"})
    assert list(renames.call(call).arguments) == ["brightness", "room"]


def test_plain_strings_are_not_taken_for_each_other() -> None:
    old, new = _spec("t", {"city": {"type": "string"}}), _spec("t", {"country": {"type": "string"}})
    assert {change.kind for change in _changes([old], [new])} == {"added", "removed"}
    given = Renames(parameters={("t", "city"): "country"})
    assert [change.kind for change in _changes([old], [new], given)] == ["renamed"]


def test_a_renamed_tool_keeps_the_renames_of_its_parameters_under_the_old_name() -> None:
    old = LIGHT
    new = _light(level=None, brightness=LEVEL).model_copy(update={"name": "set_lamp"})
    _, renames = compare_catalogs([old], [new], Renames(tools={"set_light": "set_lamp"}))
    renamed = renames.call(ToolCall(name="set_light", arguments={"level": 1}))
    assert renamed == ToolCall(name="set_lamp", arguments={"brightness": 1})
    assert renames.comparator("set_light.level") == "set_lamp.brightness"
    assert renames.comparator("set_fan.level") == "set_fan.level"


@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        ({**ROOM, "enum": ["hall"]}, "lost 'attic'"),
        ({**ROOM, "enum": ["hall", "attic"], "pattern": "^h"}, "pattern is '^h' now"),
        ({"type": "integer", "description": "Where"}, "type string became integer"),
    ],
)
def test_what_got_narrower_is_said(schema: dict[str, Any], detail: str) -> None:
    assert _changes([LIGHT], [_light(room=schema)]) == [CatalogChange("narrowed", "set_light", "room", detail)]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"minimum": 1}, ("narrowed", "minimum 0 became 1")),
        ({"maximum": 10}, ("narrowed", "maximum 100 became 10")),
        ({"multipleOf": 5}, ("narrowed", "multipleOf is 5 now")),
        ({"maximum": 200}, ("changed", "")),
    ],
)
def test_bounds_move_both_ways(bounds: dict[str, int], expected: tuple[str, str]) -> None:
    (change,) = _changes([LIGHT], [_light(level={**LEVEL, **bounds})])
    assert (change.kind, change.detail) == expected


def test_a_parameter_that_became_required_is_narrowed_and_a_new_one_says_whether_it_is() -> None:
    new = _spec(
        "set_light", {"room": ROOM, "level": LEVEL, "mode": {"type": "string"}}, required=("room", "level", "mode"),
        description="Switches a light.",
    )  # fmt: skip
    assert _changes([LIGHT], [new]) == [
        CatalogChange("narrowed", "set_light", "level", "is required now"),
        CatalogChange("added", "set_light", "mode", "required"),
    ]


def test_words_alone_are_no_change() -> None:
    reworded = LIGHT.model_copy(update={"description": "Turns a lamp on."})
    assert _changes([LIGHT], [reworded]) == []
    assert _changes([LIGHT], [_light(level={**LEVEL, "description": "Percent", "default": 50})]) == []


def test_a_parameter_named_like_a_keyword_is_a_parameter() -> None:
    old, new = _spec("t", {"title": {"type": "string"}}), _spec("t", {"title": {"type": "integer"}})
    assert _changes([old], [new]) == [CatalogChange("narrowed", "t", "title", "type string became integer")]
    nested = [
        _spec("t", {"o": {"type": "object", "properties": {"title": {"type": name}}}}) for name in ("string", "null")
    ]
    assert _changes([nested[0]], [nested[1]]) == [CatalogChange("changed", "t", "o")]


def test_what_got_narrower_behind_a_reference_is_said_of_the_parameter() -> None:
    old, new = (
        ToolSpec(
            name="t",
            parameters={
                "type": "object",
                "$ref": "#/$defs/Arguments",
                "$defs": {
                    "Arguments": {"properties": {"p": {"$ref": "#level", "maximum": most}}, "required": required},
                    "Level": {"$anchor": "level", **LEVEL},
                },
            },
        )
        for most, required in ((90, []), (50, ["p"]))
    )
    assert _changes([old], [old]) == []
    assert _changes([old], [new])[0] == CatalogChange("narrowed", "t", "p", "maximum 90 became 50; is required now")


def test_a_schema_that_closes_is_a_change_of_the_tool() -> None:
    closed = LIGHT.model_copy(update={"parameters": {**LIGHT.parameters, "additionalProperties": False}})
    assert [change.parameter for change in _changes([LIGHT], [closed])] == [""]


def test_renames_are_read_as_people_write_them() -> None:
    found = parse_renames(["set_light=set_lamp", "set_light.level=brightness"])
    assert found == Renames({"set_light": "set_lamp"}, {("set_light", "level"): "brightness"})


@pytest.mark.parametrize("text", ["", "a", "a=", "=b", ".x=b", "a.=b", "a.b=c.d"])
def test_a_rename_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        parse_renames([text])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Renames(tools={"lamp": "set_fan"}), "the old catalogue has no tool lamp"),
        (Renames(tools={"set_light": "lamp"}), "the new catalogue has no tool lamp"),
        (Renames(parameters={("set_light", "colour"): "level"}), "the old catalogue has no such parameter"),
    ],
)
def test_a_rename_of_what_is_not_there_is_refused(given: Renames, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_catalogs([LIGHT], [FAN], given)
