"""Tests of `fcdistill.backends.openai.chat_wire`."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.backends.base import Request
from fcdistill.backends.openai.chat_wire import (
    MalformedAnswerError,
    WireAnswer,
    decode_fields,
    read_answer,
    wire_messages,
    wire_tools,
)
from fcdistill.config import DecodeSettings
from fcdistill.records import FunctionCall, Message, ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import ParsedOutput

SPECS = (ToolSpec(name="home_set"), ToolSpec(name="get"))


def answered(message: dict[str, Any], **choice: Any) -> WireAnswer:
    body = {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop", **choice}]}
    return read_answer(json.dumps(body).encode(), SPECS)


def called(name: Any, arguments: Any) -> WireAnswer:
    function = {"name": name, "arguments": arguments}
    return answered({"content": None, "tool_calls": [{"id": "x", "type": "function", "function": function}]})


def test_arguments_are_strings_on_the_wire_and_results_find_their_calls() -> None:
    messages = (
        Message(role="system", content="s"),
        Message(role="user", content="u"),
        Message.calling([ToolCall(name="a", arguments={"x": "é"}), ToolCall(name="b"), ToolCall(name="a")]),
        Message(role="tool", content="of b", name="b"),
        Message(role="tool", content="of the first a"),
        Message(role="tool", content="of the second a", name="a"),
    )
    wire = wire_messages(messages)
    assert wire[:2] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    calls = wire[2]["tool_calls"]
    assert wire[2]["content"] == "" and [call["function"]["arguments"] for call in calls] == ['{"x": "é"}', "{}", "{}"]
    ids = [call["id"] for call in calls]
    assert len(set(ids)) == 3 and all(len(identity) == 9 and identity.isalnum() for identity in ids)
    assert [(message["tool_call_id"], message["content"]) for message in wire[3:]] == [
        (ids[0], "of the first a"),
        (ids[1], "of b"),
        (ids[2], "of the second a"),
    ]


def test_given_ids_stay() -> None:
    call = FunctionCall(id="own", function=ToolCall(name="a"))
    wire = wire_messages(
        [
            Message(role="user", content="u"),
            Message(role="assistant", tool_calls=(call, FunctionCall(function=ToolCall(name="b")))),
            Message(role="tool", content="of b"),
            Message(role="tool", content="of a", tool_call_id="own"),
        ][:2]
        + [Message(role="tool", content="of a", tool_call_id="own"), Message(role="tool", content="of b")]
    )
    assert [message["tool_call_id"] for message in wire[2:]] == ["own", wire[1]["tool_calls"][1]["id"]]


def test_tools_are_wrapped() -> None:
    assert [tool["function"]["name"] for tool in wire_tools(SPECS)] == ["home_set", "get"]
    assert {tool["type"] for tool in wire_tools(SPECS)} == {"function"}


def test_samples_differ_by_id_and_seed_and_repeat() -> None:
    def seed(identity: str, number: int) -> int:
        settings = DecodeSettings(sampling_temperature=1.0, seed=number)
        value: int = decode_fields(Request(identity, ()), settings, "max_tokens")["seed"]
        return value

    assert seed("a", 0) == seed("a", 0)
    assert len({seed("a", 0), seed("b", 0), seed("a", 1)}) == 3
    greedy = decode_fields(Request("a", ()), DecodeSettings(max_new_tokens=9), "max_completion_tokens")
    assert greedy == {"max_completion_tokens": 9, "temperature": 0.0}


def said(answer: WireAnswer) -> ParsedOutput:
    assert answer.structured is not None
    return answer.structured


@given(
    st.dictionaries(
        st.text(), st.recursive(st.integers() | st.text() | st.booleans() | st.none(), st.lists, max_leaves=5)
    )
)
def test_any_arguments_survive(arguments: dict[str, Any]) -> None:
    parsed = said(called("get", json.dumps(arguments)))
    assert parsed.calls == (ToolCall(name="get", arguments=arguments),) and parsed.errors == () and parsed.text == ""


@given(
    st.text() | st.sampled_from(['{"a": 1', '{"a": 1}}', '{"a": 1, "a": 2}', '{"a": NaN}', "[1]", "null", "1", '"x"'])
)
def test_arguments_that_are_no_object_are_one_parse_error(arguments: str) -> None:
    parsed = said(called("get", arguments))
    if arguments.strip() in ("", "null"):
        assert parsed.calls == (ToolCall(name="get"),)
    elif parsed.calls:
        assert parsed.calls[0].arguments == json.loads(arguments)
    else:
        assert len(parsed.errors) == 1 and parsed.text == ""


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ('{"a": NaN}', "not_finite"),
        ('{"a": 1', "invalid_json"),
        ("[1]", "not_a_call"),
        ({"a": float("nan")}, "not_finite"),
    ],
)
def test_the_kind_of_defect_is_reported(arguments: Any, kind: str) -> None:
    (error,) = said(called("get", arguments)).errors
    assert error.kind == kind


@pytest.mark.parametrize(
    ("name", "expected"), [("home.set", "home_set"), ("home_set", "home_set"), ("un.known", "un.known")]
)
def test_a_renamed_tool_is_called_by_its_name_here(name: str, expected: str) -> None:
    (call,) = said(called(name, {"x": 1})).calls
    assert call == ToolCall(name=expected, arguments={"x": 1})


@pytest.mark.parametrize(
    "call", [None, "get", {}, {"function": None}, {"function": {"arguments": "{}"}}, {"function": {"name": 3}}]
)
def test_a_call_without_a_name_is_a_parse_error(call: Any) -> None:
    parsed = said(answered({"tool_calls": [call]}))
    assert parsed.calls == () and len(parsed.errors) == 1


def test_text_beside_calls_stays_and_may_come_in_parts() -> None:
    function = {"name": "get", "arguments": "{}"}
    content = [{"type": "text", "text": "I "}, {"type": "image"}, {"type": "text", "text": "look."}]
    parsed = said(answered({"content": content, "function_call": function}))
    assert parsed.text == "I look." and parsed.calls == (ToolCall(name="get"),)


@pytest.mark.parametrize(
    ("found", "expected"),
    [("tool_calls", "stop"), ("length", "length"), ("content_filter", "unknown"), (None, "unknown"), ([], "unknown")],
)
def test_finish_reasons(found: Any, expected: str) -> None:
    assert answered({"content": "x"}, finish_reason=found).finish_reason == expected


def test_odd_usage_is_no_usage() -> None:
    body = {"choices": [{"text": "\ud800"}], "usage": {"prompt_tokens": "9", "completion_tokens": -1}}
    assert read_answer(json.dumps(body).encode(), ()) == WireAnswer("?", None, "", "unknown", None, None, None)


@pytest.mark.parametrize(
    ("details", "expected"),
    [({"reasoning_tokens": 7}, 7), ({"reasoning_tokens": "7"}, None), ({}, None), (None, None), ([], None)],
)
def test_the_tokens_of_a_thought_are_as_the_server_counts_them(details: Any, expected: int | None) -> None:
    body = {"choices": [{"text": "x"}], "usage": {"completion_tokens": 9, "completion_tokens_details": details}}
    assert read_answer(json.dumps(body).encode(), ()).thought_tokens == expected


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b"\xff\xfe", b"{}", b'{"choices": {}}', b'{"choices": [null]}'])
def test_a_body_that_is_no_answer_says_so(body: bytes) -> None:
    with pytest.raises(MalformedAnswerError, match="response"):
        read_answer(body, ())


CALL = {"function": {"name": "get", "arguments": "{}"}}


@pytest.mark.parametrize(
    "content",
    [
        '<think>Maybe {"name": "set", "arguments": {}}?</think>I look.',
        "I look.",
    ],
)
def test_text_beside_calls_is_never_read_for_more(content: str) -> None:
    parsed = said(answered({"content": content, "tool_calls": [CALL]}))
    assert (parsed.calls, parsed.errors, parsed.text) == ((ToolCall(name="get"),), (), "I look.")


@pytest.mark.parametrize(
    "content",
    [
        '<tool_call>{"name": "get", "arguments": {}}</tool_call>',
        "a <tool_call> begins",
        '```json\n{"name": "get"}\n```',
    ],
)
def test_raw_calls_beside_calls_are_prose(content: str) -> None:
    parsed = said(answered({"content": content, "tool_calls": [CALL]}))
    assert (parsed.calls, parsed.errors, parsed.text) == ((ToolCall(name="get"),), (), content)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_a_reasoning_field_is_thought(field: str) -> None:
    answer = answered({"content": "Which one?", field: 'First {"name": "get", "arguments": {}}'})
    assert (answer.text, answer.structured, answer.thought) == (
        "Which one?",
        None,
        'First {"name": "get", "arguments": {}}',
    )
    assert said(answered({"content": "", field: "so", "tool_calls": [CALL]})).thought == "so"


@pytest.mark.parametrize("arguments", ["", " ", "null", "{}", None])
def test_calls_without_arguments(arguments: str | None) -> None:
    assert said(called("get", arguments)).calls == (ToolCall(name="get"),)
