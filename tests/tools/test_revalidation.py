"""Traces and eval cases against a changed catalogue: what holds, what new names mend, what is broken."""

from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError
from fcdistill.records import (
    EvalCase,
    FunctionCall,
    FunctionTool,
    Message,
    ModelRef,
    ToolCall,
    ToolSpec,
    Trace,
    TraceMeta,
)
from fcdistill.storage import write_jsonl
from fcdistill.tools.catalog import catalog_from_tools
from fcdistill.tools.catalog_diff import Renames
from fcdistill.tools.revalidation import read_rows, revalidate


def _tool(name: str, *, rooms: tuple[str, ...] = ("hall", "attic"), **more: Any) -> FunctionTool:
    properties = {"room": {"type": "string", "enum": list(rooms), "description": "Where"}, **more}
    parameters = {"type": "object", "properties": properties, "required": ["room"]}
    return FunctionTool(function=ToolSpec(name=name, description="Switches a light.", parameters=parameters))


LIGHT, LAMP = _tool("set_light"), _tool("set_lamp")
FAN = FunctionTool(function=ToolSpec(name="set_fan", description="Turns a fan."))


def _trace(identity: str, *calls: ToolCall, tools: tuple[FunctionTool, ...] = (LIGHT,), cell: str = "c") -> Trace:
    answer = Message.calling(calls) if calls else Message(role="assistant", content="No.")
    meta = TraceMeta(source="call_first", category="simple", plan_cell=cell, teacher=ModelRef(model="t"))
    messages = (Message(role="user", content="go"), answer)
    return Trace(id=identity, messages=messages, tools=tools, split_group="g", meta=meta)


def _light(room: str, name: str = "set_light") -> ToolCall:
    return ToolCall(name=name, arguments={"room": room})


def _states(rows: list[Any], tools: tuple[FunctionTool, ...], **fields: Any) -> list[str]:
    return [verdict.state for verdict in revalidate(rows, catalog_from_tools(tools), **fields).verdicts]


def test_an_unchanged_catalogue_leaves_all_as_it_is() -> None:
    rows = [_trace("a", _light("hall")), _trace("b")]
    found = revalidate(rows, catalog_from_tools((LIGHT,)))
    assert found.repaired == tuple(rows) and not found.broken and not found.changes
    assert found.states == {"fits": 2} and found.hit("tools") == {} == found.hit("cell")


def test_a_renamed_tool_mends_calls_results_and_the_tools_shown() -> None:
    history = (
        Message(role="user", content="hall"),
        Message(role="assistant", tool_calls=(FunctionCall(id="1", function=_light("hall")),)),
        Message(role="tool", content="{}", tool_call_id="1", name="set_light"),
        Message(role="user", content="attic"),
    )
    trace = _trace("a", _light("attic"))
    trace = trace.model_copy(update={"messages": (*history, trace.answer)})
    found = revalidate([trace], catalog_from_tools((LAMP,)))
    (mended,) = found.repaired
    assert isinstance(mended, Trace) and found.verdicts[0].state == "renamed"
    assert [call.name for message in mended.messages for call in message.calls] == ["set_lamp", "set_lamp"]
    assert mended.messages[2].name == "set_lamp" and mended.messages[1].tool_calls[0].id == "1"
    assert mended.tools == (LAMP,) and mended.answer.calls == (_light("attic", "set_lamp"),)


def test_values_that_are_gone_break_a_row_and_are_counted_by_tool_and_cell() -> None:
    rows = [_trace("a", _light("hall"), cell="x"), _trace("b", _light("attic"), cell="y")]
    found = revalidate(rows, catalog_from_tools((_tool("set_light", rooms=("hall",)),)))
    assert [verdict.state for verdict in found.verdicts] == ["stale", "broken"]
    assert found.broken == (rows[1],) and "'attic' is not one of" in found.verdicts[1].detail
    assert found.hit("tools") == {"set_light": {"broken": 1}} and found.hit("cell") == {"y": {"broken": 1}}


def test_a_removed_tool_breaks_the_rows_that_call_it_and_leaves_the_others() -> None:
    rows = [_trace("a", _light("hall"), tools=(LIGHT, FAN)), _trace("b", ToolCall(name="set_fan"), tools=(LIGHT, FAN))]
    found = revalidate(rows, catalog_from_tools((LIGHT,)))
    assert [verdict.state for verdict in found.verdicts] == ["stale", "broken"]
    assert found.repaired[0].tools == (LIGHT,)


def test_a_broken_call_in_the_middle_of_a_conversation_breaks_the_row() -> None:
    trace = _trace("a", _light("hall"))
    early = Message.calling([_light("attic")])
    trace = trace.model_copy(update={"messages": (trace.messages[0], early, *trace.messages)})
    assert _states([trace], (_tool("set_light", rooms=("hall",)),)) == ["broken"]


def test_a_new_tool_makes_answers_without_a_call_doubtful_but_a_new_parameter_does_not() -> None:
    rows = [_trace("a", _light("hall")), _trace("b")]
    assert _states(rows, (LIGHT, FAN)) == ["stale", "doubtful"]
    assert _states(rows, (_tool("set_light", level={"type": "integer"}),)) == ["stale", "stale"]
    assert _states(rows, (LAMP,)) == ["renamed", "stale"]


def test_a_row_that_showed_some_of_the_tools_shows_what_is_left_of_these() -> None:
    rows = [_trace("a", _light("hall"), tools=(LIGHT, FAN)), _trace("b", tools=(FAN,))]
    new = FunctionTool(function=ToolSpec(name="beep", description="Beeps."))
    found = revalidate(rows, catalog_from_tools((new, LIGHT, FAN)))
    assert [tuple(tool.function.name for tool in row.tools or ()) for row in found.repaired] == [
        ("beep", "set_light", "set_fan"),
        ("set_fan",),
    ]


def test_cases_get_the_same_check() -> None:
    case = EvalCase(
        id="a",
        messages=(Message(role="user", content="go"),),
        behaviour="call",
        expected=((_light("hall"),), (_light("attic"),)),
        comparators={"set_light.room": "casefold"},
        category="simple",
    )
    (mended,) = revalidate([case], catalog_from_tools((LAMP,)), old=[LIGHT.function]).repaired
    assert isinstance(mended, EvalCase) and mended.tools is None
    assert mended.expected == ((_light("hall", "set_lamp"),), (_light("attic", "set_lamp"),))
    assert mended.comparators == {"set_lamp.room": "casefold"}
    assert _states([case], (_tool("set_light", rooms=("hall",)),), old=[LIGHT.function]) == ["broken"]
    with pytest.raises(DataError, match="the rows hold no tools of their own"):
        revalidate([case], catalog_from_tools((LAMP,)))
    own = case.model_copy(update={"tools": (LIGHT,)})
    assert revalidate([own], catalog_from_tools((LAMP,))).repaired[0].tools == (LAMP,)


def test_a_case_keeps_the_comparators_of_its_tools() -> None:
    case = EvalCase(
        id="a",
        messages=(Message(role="user", content="go"),),
        tools=(_tool("set_light", note={"type": "string", "x-comparator": "casefold"}),),
        behaviour="call",
        expected=((_light("hall"),),),
        category="simple",
    )
    renamed = _tool("set_lamp", note={"type": "string", "x-comparator": "casefold"})
    (mended,) = revalidate([case], catalog_from_tools((renamed, FAN))).repaired
    assert isinstance(mended, EvalCase) and mended.comparators == {"set_lamp.note": "casefold"}
    assert "x-comparator" not in str(mended.tools)


def test_a_given_rename_mends_what_could_not_be_found() -> None:
    other = _tool("set_lamp", level={"type": "integer"})
    assert _states([_trace("a", _light("hall"))], (other,)) == ["broken"]
    given = Renames(tools={"set_light": "set_lamp"})
    assert _states([_trace("a", _light("hall"))], (other,), renames=given) == ["renamed"]


def test_rows_are_read_as_what_they_are(tmp_path: Path) -> None:
    case = EvalCase(
        id="a", messages=(Message(role="user", content="go"),), behaviour="no_call", expected=((),), category="simple"
    )
    write_jsonl(tmp_path / "cases.jsonl", [case])
    write_jsonl(tmp_path / "traces.jsonl", [_trace("a", _light("hall"))])
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "torn.jsonl").write_text('{"expected": ')
    assert [type(read_rows(tmp_path / f"{name}.jsonl")[0]) for name in ("cases", "traces")] == [EvalCase, Trace]
    for name, message in (("empty", "is empty"), ("missing", "does not exist|no file"), ("torn", "torn.jsonl")):
        with pytest.raises(DataError, match=message):
            read_rows(tmp_path / f"{name}.jsonl")
