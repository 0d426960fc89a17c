from typing import Any

import pytest

from fcdistill.records import Message, ToolCall
from fcdistill.tools.catalog import catalog_from_document
from fcdistill.traces.recorded_steps import Step, category_of, read_steps
from fcdistill.traces.source_formats import read_conversations

CATALOG = catalog_from_document([{"name": "home.light", "parameters": {"type": "object", "properties": {}}}], "tools")


def steps(*messages: dict[str, Any]) -> list[Step]:
    (conversation,) = read_conversations({"messages": list(messages)}, "openai-messages")
    return read_steps(conversation, CATALOG)


def calling(arguments: str, identity: str | None = "c1") -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "home.light", "arguments": arguments}}
    return {"role": "assistant", "content": "On it.", "tool_calls": [call | ({"id": identity} if identity else {})]}


def test_turns_are_messages_whose_calls_bear_the_catalogues_names() -> None:
    user, call, result = steps(
        {"role": "user", "content": "light"},
        calling("{}"),
        {"role": "tool", "tool_call_id": "c1", "name": "home.light", "content": "ok"},
    )
    assert user.message == Message(role="user", content="light") and user.output.calls == ()
    assert call.message.calls == (ToolCall(name="home_light"),)
    assert (call.message.content, call.message.tool_calls[0].id) == ("On it.", "c1")
    assert (result.message.tool_call_id, result.message.name, result.message.content) == ("c1", "home.light", "ok")


def test_a_call_without_an_id_has_none_and_one_that_cannot_be_read_stays_text() -> None:
    (bare,) = steps(calling("{}", identity=None))
    assert bare.message.tool_calls[0].id is None
    (broken,) = steps(calling("{"))
    assert broken.output.errors and broken.message.tool_calls == () and "home.light" in broken.message.content


USER = {"role": "user", "content": "light"}


def test_an_answer_that_is_written_as_several_messages_is_one_step() -> None:
    said = {"role": "assistant", "content": "Both, then."}
    found = steps(USER, said, calling("{}"), calling('{"room": "attic"}', identity="c2"), USER)
    assert [step.number for step in found] == [1, 4, 5]
    assert [call.id for call in found[1].message.tool_calls] == ["c1", "c2"]
    assert found[1].output.calls == (
        ToolCall(name="home_light"),
        ToolCall(name="home_light", arguments={"room": "attic"}),
    )
    assert found[1].message.content == "Both, then.\nOn it.\nOn it."


def test_calls_with_results_between_them_and_words_after_calls_are_steps_of_their_own() -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    said = {"role": "assistant", "content": "Done."}
    assert len(steps(USER, calling("{}"), result, calling("{}", identity="c2"))) == 4
    assert len(steps(USER, calling("{}"), said)) == 3


def test_a_part_that_cannot_be_read_spoils_the_answer() -> None:
    _, answer = steps(USER, calling("{}"), calling("{"))
    assert answer.output.errors and answer.message.tool_calls == ()


def test_results_stand_in_the_order_of_their_calls() -> None:
    results = [{"role": "tool", "tool_call_id": identity, "content": f"of {identity}"} for identity in ("c2", "c1")]
    found = steps(USER, calling("{}"), calling("{}", identity="c2"), *results)
    assert [step.message.content for step in found[2:]] == ["of c1", "of c2"]


@pytest.mark.parametrize(
    ("names", "category"), [("", "irrelevance"), ("a", "simple"), ("aa", "parallel"), ("ab", "parallel_multiple")]
)
def test_categories_follow_the_calls(names: str, category: str) -> None:
    assert category_of([ToolCall(name=name) for name in names]) == category
