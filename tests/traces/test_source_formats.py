import json
from typing import Any

import pytest

from fcdistill.toolcalls.parsing import ParsedOutput
from fcdistill.traces.source_formats import SourceError, SourceFormat, Turn, read_conversations

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def chat(**response: Any) -> dict[str, Any]:
    return {"request": {"model": "alias", "messages": [USER], "tools": [TOOL]}, "response": response}


def choice(**message: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", **message}, "finish_reason": "stop"}


def said(turn: Turn) -> ParsedOutput:
    assert turn.structured is not None
    return turn.structured


def test_every_choice_is_a_conversation_whose_last_turn_alone_is_recorded() -> None:
    row = chat(model="m-1", choices=[choice(content="a"), choice(tool_calls=[CALL]) | {"finish_reason": "length"}])
    row["request"]["messages"] = [USER, {"role": "assistant", "content": "b"}, USER]
    first, second = read_conversations(row, "openai-chat")
    assert [turn.recorded for turn in first.turns] == [False, False, False, True]
    assert (first.model, first.tools) == ("m-1", [TOOL])
    assert (first.turns[-1].text, first.turns[-1].truncated) == ("a", False)
    assert (second.turns[-1].call_ids, second.turns[-1].truncated) == (("c1",), True)
    assert said(second.turns[-1]).calls[0].arguments == {"a": 1}


def test_logged_bodies_may_be_texts_and_old_names_of_fields_are_known() -> None:
    row = chat(choices=[choice(content=None, function_call={"name": "f", "arguments": "{}"})])
    row["request"] = {"messages": [USER], "functions": [TOOL["function"]]}
    (found,) = read_conversations({key: json.dumps(value) for key, value in row.items()}, "openai-chat")
    assert found.tools == [TOOL["function"]] and said(found.turns[-1]).calls[0].name == "f"


def test_messages_keep_results_with_their_calls() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "7"},
        {"role": "assistant", "content": "Seven."},
    ]
    (found,) = read_conversations({"messages": messages, "tools": json.dumps([TOOL])}, "openai-messages")
    assert found.turns[0] == Turn("system", "Be brief.")
    assert found.turns[3] == Turn("tool", "7", tool_call_id="c1", name="f")
    assert found.tools == [TOOL] and all(turn.recorded for turn in found.turns)


def test_sharegpt_speakers_and_columns() -> None:
    turns = [
        ("system", f"Call <tools>{json.dumps([TOOL])}</tools>"),
        ("human", "hi"),
        ("gpt", "a"),
        ("observation", "b"),
    ]
    listed = [{"from": speaker, "value": text} for speaker, text in turns]
    (found,) = read_conversations({"conversations": listed}, "sharegpt")
    assert [turn.role for turn in found.turns] == ["user", "assistant", "tool"] and found.tools == [TOOL]
    (column,) = read_conversations({"conversations": listed, "tools": '[{"name": "g"}]'}, "sharegpt")
    assert column.tools == [{"name": "g"}] and column.turns == found.turns


def test_xlam_columns_are_json_in_strings() -> None:
    tools = [{"name": "f", "description": "Does.", "parameters": {"a": {"type": "int"}}, "category": "x"}]
    row = {"query": "hi", "tools": json.dumps(tools), "answers": '[{"name": "f", "arguments": {"a": 1}}, {"name": 3}]'}
    (found,) = read_conversations(row, "xlam")
    output = said(found.turns[1])
    assert [call.arguments for call in output.calls] == [{"a": 1}] and len(output.errors) == 1
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert found.tools == [{"name": "f", "description": "Does.", "parameters": schema}]
    (bare,) = read_conversations({"query": "hi", "answers": []}, "xlam")
    assert bare.tools is None and said(bare.turns[1]).calls == ()


@pytest.mark.parametrize(
    ("source_format", "row", "says"),
    [
        ("openai-chat", [], "the row is no JSON object"),
        ("openai-chat", {}, "request is no JSON object: found nothing"),
        ("openai-chat", {"request": "{", "response": {}}, "request is a string that is no JSON"),
        ("openai-chat", chat(error={"code": 429}), "holds no choice"),
        ("openai-chat", chat(choices=[{"text": "a"}]), "the message of a choice is no JSON object"),
        ("openai-chat", chat(choices=[{"message": USER}]), "has role 'user'"),
        ("openai-messages", {"messages": "hi"}, "no list of messages"),
        ("openai-messages", {"messages": [USER, "hi"]}, "message 2 of messages is no JSON object: found str"),
        ("openai-messages", {"messages": [{"role": ["user"]}]}, "unknown role"),
        ("openai-messages", {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "are no text"),
        ("openai-messages", {"messages": [USER], "tools": "[{"}, "tools is a string that is no JSON"),
        ("sharegpt", {"conversations": []}, "no list of conversations"),
        ("sharegpt", {"conversations": [{"from": "moon", "value": ""}]}, "found from 'moon'"),
        ("sharegpt", {"conversations": [{"from": "gpt", "value": None}]}, "turn 1 of conversations"),
        ("sharegpt", {"conversations": [{"from": "system", "value": "<tools>[x]</tools>"}]}, "neither JSON"),
        ("xlam", {"answers": "[]"}, "no query"),
        ("xlam", {"query": "hi", "answers": "{}"}, "answers is no list"),
        ("xlam", {"query": "hi", "answers": "[]", "tools": '[{"parameters": {"a": {}}}]'}, "'a' has no type"),
        ("xlam", {"query": "hi", "answers": "[]", "tools": '["f"]'}, "a tool is no JSON object"),
        ("xlam", {"query": "hi", "answers": "[]", "tools": '{"f": 1}'}, "tools is no list"),
    ],
)
def test_a_row_in_another_layout_is_an_error_that_says_why(source_format: SourceFormat, row: Any, says: str) -> None:
    with pytest.raises(SourceError, match=says.replace("[", r"\[")):
        read_conversations(row, source_format)
