"""Results follow the calls that they answer, whatever their order was."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.records import FunctionCall, Message, ToolCall
from fcdistill.toolcalls.results import result_order, tie_results


def calling(*ids: str | None, tool: str = "get") -> Message:
    calls = tuple(FunctionCall(id=identity, function=ToolCall(name=tool)) for identity in ids)
    return Message(role="assistant", tool_calls=calls)


def result(content: str, identity: str | None = None, name: str | None = None) -> Message:
    return Message(role="tool", content=content, tool_call_id=identity, name=name)


USER = Message(role="user", content="u")


def told(*messages: Message) -> list[tuple[str, str | None]]:
    return [(each.content, each.tool_call_id) for each in tie_results(messages) if each.role == "tool"]


def test_results_stand_in_the_order_of_the_calls() -> None:
    first = [USER, calling("a", "b"), result("of a", "a"), result("of b", "b")]
    second = [USER, calling("c", "d"), result("of d", "d"), result("of c", "c")]
    assert told(*first, *second) == [("of a", "a"), ("of b", "b"), ("of c", "c"), ("of d", "d")]


def test_results_without_ids_belong_to_the_tool_that_they_name_or_to_the_first_call() -> None:
    calls = (ToolCall(name="a"), ToolCall(name="b"), ToolCall(name="a"))
    messages = [USER, Message.calling(list(calls)), result("of b", name="b"), result("1st a"), result("2nd a")]
    tied = tie_results(messages)
    assert [(message.content, message.name) for message in tied[2:]] == [("1st a", "a"), ("of b", "b"), ("2nd a", "a")]
    assert [message.tool_call_id for message in tied[2:]] == [call.id for call in tied[1].tool_calls]


def test_a_call_that_a_result_names_by_its_id_is_left_for_it() -> None:
    assert [content for content, _ in told(USER, calling("a", None), result("other"), result("of a", "a"))] == [
        "of a",
        "other",
    ]


def test_calls_of_messages_in_a_row_wait_together() -> None:
    assert told(USER, calling("a"), calling("b"), result("of b", "b"), result("of a", "a")) == [
        ("of a", "a"),
        ("of b", "b"),
    ]


def test_a_result_of_no_call_stays_where_it_is() -> None:
    messages = [USER, calling("a", "b"), result("?", "z"), result("of b", "b"), result("of a", "a"), result("!")]
    assert told(*messages) == [("?", "z"), ("of a", "a"), ("of b", "b"), ("!", None)]
    assert result_order([result("x"), USER]) == [0, 1]


def test_missing_ids_are_new() -> None:
    (message,) = tie_results([calling("call00001", None, None)])
    ids = [call.id or "" for call in message.tool_calls]
    assert len(set(ids)) == 3 and all(len(identity) == 9 and identity.isalnum() for identity in ids)


@given(st.integers(1, 5).flatmap(lambda count: st.permutations(range(count))))
def test_any_order_of_results_is_one_conversation(order: list[int]) -> None:
    calls = calling(*(f"id{index}" for index in range(len(order))))
    results = [result(f"of {index}", f"id{index}") for index in order]
    assert told(USER, calls, *results) == [(f"of {index}", f"id{index}") for index in range(len(order))]
    assert sorted(result_order([USER, calls, *results])) == list(range(len(order) + 2))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_messages_that_are_in_order_stay_as_they_are(order: tuple[int, ...]) -> None:
    ids = [f"x{index}" for index in order]
    messages = [USER, calling(*ids), *(result(f"of {identity}", identity, "get") for identity in ids)]
    assert tie_results(messages) == messages
