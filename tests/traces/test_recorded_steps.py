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


@pytest.mark.parametrize(
    ("names", "category"), [("", "irrelevance"), ("a", "simple"), ("aa", "parallel"), ("ab", "parallel_multiple")]
)
def test_categories_follow_the_calls(names: str, category: str) -> None:
    assert category_of([ToolCall(name=name) for name in names]) == category
