import json
import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.distillation.examples.renaming import Renaming, draw_renaming, property_names
from fcdistill.records import FunctionTool, Message, ModelRef, ToolCall, ToolSpec, Trace, TraceMeta
from fcdistill.tools.validation import CallValidator, check_spec
from tests.distillation.examples.nested_tools import BOOK, HOME, HOME_CALLS, NAMED, OLD, SAID, TESTS_NAMES, tool

SPECS = (*HOME, BOOK, OLD, NAMED, TESTS_NAMES)
VALID = (
    *HOME_CALLS,
    ToolCall(name="book", arguments={"trip": {"city": "Rome"}}),
    ToolCall(name="book", arguments={"trip": {"city": "Rome"}, "back": {"city": "Oslo"}, "payer": {"name": "Ada"}}),
    ToolCall(name="book", arguments={"trip": {"city": "Rome"}, "guest": "Ada", "seat": "any"}),
    ToolCall(name="book", arguments={"trip": {"city": "Rome"}, "seat": {"row": 1, "name": "aisle"}}),
    ToolCall(name="book", arguments={"trip": {"city": "Rome", "stops": [{"city": "Pisa"}]}, "a/b%~": 3, "copy": 3}),
    ToolCall(name="book", arguments={"trip": {"city": "Rome"}, "labels": {"name": "x", "colour": "y"}}),
    ToolCall(name="book", arguments={"trip": {"city": "Rome"}, "tree": {"name": 1, "kids": [{"kids": []}]}}),
    ToolCall(name="old", arguments={"a": 1, "b": {"a": "x"}}),
    ToolCall(name="old", arguments={"a": 1, "b": {"a": "x"}, "d": [{"a": 2}]}),
    ToolCall(name="named", arguments={"a": {"b": 1}, "c": {"b": 2}, "d": 3}),
    ToolCall(name="tests", arguments={"x_a": 1, "b": {"c": 1}}),
)


def everything(specs: tuple[ToolSpec, ...] = SPECS) -> Renaming:
    """New names for all that can be renamed."""
    return Renaming(
        tools={spec.name: f"zq{number}" for number, spec in enumerate(specs)},
        properties={
            spec.name: {name: f"zq{number}x{place}" for place, name in enumerate(property_names(spec))}
            for number, spec in enumerate(specs)
        },
    )


ALL = everything()
CHECK = CallValidator(SPECS)
CHECK_RENAMED = CallValidator(map(ALL.spec, SPECS))


def assert_same_verdict(call: ToolCall) -> bool:
    """The verdict is the same under all new names; whether it is that the call is right."""
    names = {key.replace("~", "~0").replace("/", "~1"): new for key, new in ALL.properties.get(call.name, {}).items()}
    expected = [
        (each.code, each.keyword, "/".join(names.get(step, step) for step in each.pointer.split("/")))
        for each in CHECK.check_call(call)
    ]
    found = [(each.code, each.keyword, each.pointer) for each in CHECK_RENAMED.check_call(ALL.call(call))]
    assert sorted(found) == sorted(expected)
    assert ALL.inverse.call(ALL.call(call)) == call
    return not found


def keys_of(spec: ToolSpec) -> list[str]:
    return sorted({*property_names(spec), "other", "row", "name"})


def values(spec: ToolSpec) -> st.SearchStrategy[Any]:
    texts = re.findall(r'"([^"]+)"', json.dumps(spec.parameters))
    leaves = st.sampled_from([*texts, 0, 1, 3, 30, 2.5, True, None, "any", [], {}])
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(keys_of(spec)), inner, max_size=4),
        max_leaves=8,
    )


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_call_breaks_its_renamed_schema_exactly_where_it_broke_the_old_one(data: st.DataObject) -> None:
    """Right calls, each changed at some places, and calls of any form."""
    spec = data.draw(st.sampled_from([spec for spec in SPECS if spec is not TESTS_NAMES]))
    right = [call for call in VALID if call.name == spec.name]
    arguments = dict(data.draw(st.sampled_from(right)).arguments) if right else {}
    for key in data.draw(st.lists(st.sampled_from(keys_of(spec)), max_size=3, unique=True)):
        if data.draw(st.booleans()):
            arguments[key] = data.draw(values(spec))
        else:
            arguments.pop(key, None)
    assert_same_verdict(ToolCall(name=spec.name, arguments=arguments))


@pytest.mark.parametrize("call", VALID, ids=lambda call: json.dumps(call.model_dump()))
def test_right_calls_stay_right_and_get_wrong_alike(call: ToolCall) -> None:
    assert assert_same_verdict(call)
    generator = random.Random(0)
    for key in call.arguments:
        assert_same_verdict(
            call.model_copy(update={"arguments": {k: v for k, v in call.arguments.items() if k != key}})
        )
        for other in (generator.choice("xyz"), -1, None, {"name": 1}, [{"city": 2}]):
            assert_same_verdict(call.model_copy(update={"arguments": {**call.arguments, key: other}}))
    assert not assert_same_verdict(call.model_copy(update={"arguments": {**call.arguments, "undeclared": 1}}))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_renamed_tool_is_sound_has_no_old_name_and_gets_it_back(spec: ToolSpec) -> None:
    renamed = ALL.spec(spec)
    assert check_spec(renamed) == []
    assert set(property_names(renamed)) == set(ALL.properties[spec.name].values())
    assert len(property_names(renamed)) == len(property_names(spec))
    assert bool(property_names(spec)) == (spec is not TESTS_NAMES)
    assert renamed.description == spec.description
    assert json.dumps(ALL.inverse.spec(renamed).model_dump()) == json.dumps(spec.model_dump())


def test_names_change_wherever_a_schema_mentions_them_and_nothing_else_does() -> None:
    names = {name: name.upper() for name in ("trip", "city", "payer", "name", "seat", "row", "a/b%~", "back", "guest")}
    found = Renaming({}, {"book": names}).spec(BOOK).parameters
    assert found["properties"]["TRIP"] == {"$ref": "#/$defs/trip"}
    assert found["properties"]["BACK"] == {"$ref": "#/properties/TRIP"}
    assert found["properties"]["GUEST"] == {"$ref": "#/properties/PAYER/properties/NAME"}
    assert found["properties"]["copy"] == {"$ref": "#/properties/A~1B%25~0"}
    assert found["properties"]["SEAT"] == {
        "enum": [{"ROW": 1, "NAME": "aisle"}, {"ROW": 2}, "any"],
        "default": {"ROW": 1, "NAME": "aisle"},
    }
    assert (found["required"], found["dependentRequired"]) == (["TRIP"], {"BACK": ["PAYER"]})
    assert found["dependentSchemas"] == {"GUEST": {"required": ["SEAT"], "properties": {"SEAT": {"const": "any"}}}}
    assert found["then"] == {"properties": {"TRIP": {"required": ["stops"]}}}
    assert found["not"] == BOOK.parameters["not"]
    trip = found["$defs"]["trip"]
    assert (list(trip["properties"]), trip["required"]) == (["CITY", "stops"], ["CITY"])
    assert trip["properties"]["stops"]["items"] == {"type": "object", "properties": {"CITY": {}}}


def test_properties_named_like_keywords_are_properties() -> None:
    properties = {"properties": {"enum": ["required"]}, "required": {"type": "string"}, "enum": {"const": "enum"}}
    spec = tool("odd", properties=properties, required=["enum"])
    found = Renaming({}, {"odd": {"properties": "p", "required": "r", "enum": "e"}}).spec(spec)
    assert found.parameters == {
        "type": "object",
        "properties": {"p": {"enum": ["required"]}, "r": {"type": "string"}, "e": {"const": "enum"}},
        "required": ["e"],
    }


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}},
        {"properties": {"a": {"propertyNames": {"maxLength": 3}}}},
        {"properties": {"a": {"$id": "https://example.com/a", "properties": {"b": {}}}}},
        {"properties": {"a": {"type": "int"}}},
        {"$schema": "https://example.com/dialect", "properties": {"a": {}}},
    ],
    ids=["pattern", "names", "base", "unsound", "dialect"],
)
def test_where_a_name_can_be_more_than_a_name_it_is_kept(parameters: dict[str, Any]) -> None:
    spec = tool("kept", **parameters)
    assert property_names(spec) == ()
    assert everything((spec,)).spec(spec) == spec.model_copy(update={"name": "zq0"})


# --- draws

SILENT = ToolSpec(name="silent", parameters={"type": "object", "properties": {"key": {"description": "A key."}}})


def trace(*calls: ToolCall, tools: tuple[ToolSpec, ...] = (SAID, SILENT)) -> Trace:
    return Trace(
        id="t",
        messages=(
            Message(role="user", content="say something"),
            Message.calling([ToolCall(name="say", arguments={"text": "say"})]),
            Message(role="tool", name="say", content='{"text": "say"}'),
            Message(role="user", name="say", content="again"),
            Message.calling(list(calls)),
        ),
        tools=tuple(FunctionTool(function=spec) for spec in tools),
        split_group="g",
        meta=TraceMeta(source="import", category="simple", plan_cell="c", teacher=ModelRef(model="by hand")),
    )


def test_what_is_described_everywhere_gets_a_name_that_occurs_nowhere() -> None:
    drawn = trace(ToolCall(name="say", arguments={"text": "x"}))
    renaming = draw_renaming(drawn, "key", with_properties=True)
    assert renaming.tools.keys() == {"say"}
    assert {tool: set(names) for tool, names in renaming.properties.items()} == {
        "say": {"text", "headers"},
        "silent": {"key"},
    }
    new = [*renaming.tools.values(), *(new for names in renaming.properties.values() for new in names.values())]
    assert len(set(new)) == len(new) == 4
    for name in new:
        assert re.fullmatch("[a-z][a-z0-9]{6}", name) and name not in drawn.model_dump_json()
    assert draw_renaming(drawn, "key", with_properties=True) == renaming
    others = draw_renaming(drawn, "other key", with_properties=True)
    assert not set(new) & {*others.tools.values(), *others.properties["say"].values()}
    assert draw_renaming(drawn, "key", with_properties=False) == Renaming(renaming.tools, {})


def test_traces_that_share_a_tool_share_its_new_names() -> None:
    both = draw_renaming(trace(), "key", with_properties=True)
    one = draw_renaming(trace(tools=(SAID,)), "key", with_properties=True)
    assert one.tools["say"] == both.tools["say"] and one.properties["say"] == both.properties["say"]


def test_a_key_that_the_user_chose_is_no_name_of_the_schema() -> None:
    """`text` is also a header here: renamed as a parameter, it would be lost as one."""
    drawn = trace(ToolCall(name="say", arguments={"text": "x", "headers": {"text": "y", "Accept": "z"}}))
    renaming = draw_renaming(drawn, "key", with_properties=True)
    assert set(renaming.properties["say"]) == {"headers"}
    (call,) = renaming.trace(drawn).answer.calls
    assert call.arguments == {"text": "x", renaming.properties["say"]["headers"]: {"text": "y", "Accept": "z"}}


def test_a_trace_is_renamed_in_tools_calls_and_results_and_gets_its_names_back() -> None:
    old = trace(ToolCall(name="say", arguments={"text": "x"}), ToolCall(name="unknown", arguments={"text": "x"}))
    renaming = draw_renaming(old, "key", with_properties=True)
    new = renaming.trace(old)
    say, text = renaming.tools["say"], renaming.properties["say"]["text"]
    assert [spec.name for spec in new.specs] == [say, "silent"]
    assert new.messages[1].calls == (ToolCall(name=say, arguments={text: "say"}),)
    assert (new.messages[2].name, new.messages[2].content) == (say, '{"text": "say"}')
    assert (new.messages[0], new.messages[3]) == (old.messages[0], old.messages[3])
    assert new.answer.calls == (
        ToolCall(name=say, arguments={text: "x"}),
        ToolCall(name="unknown", arguments={"text": "x"}),
    )
    assert Trace.model_validate_json(new.model_dump_json()) == new
    assert renaming.inverse.trace(new) == old
