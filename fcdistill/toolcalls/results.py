"""Which result belongs to which call of a conversation.

Results may come in any order where they name the ids of their calls; templates and formats that show no ids tell them
apart by their order alone. So a conversation is written with each call's id, and with results in the order of the
calls. What a result says is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fcdistill.records import FunctionCall, Message

__all__ = ["result_order", "tie_results"]


@dataclass(frozen=True)
class _Open:
    """A call that has no result yet: its message's place and its own in it, and the call, with an id."""

    place: tuple[int, int]
    call: FunctionCall


def result_order(messages: Sequence[Message]) -> list[int]:
    """The places of the messages in the order in which each run of results follows the calls that it answers.

    Results that name no call of the messages before them stay where they stand.
    """
    answered = _answered(messages, _with_ids(messages))
    order = list(range(len(messages)))
    start = 0
    while start < len(messages):
        end = start
        while end < len(messages) and messages[end].role == "tool":
            end += 1
        places = [place for place in range(start, end) if place in answered]
        for place, moved in zip(places, sorted(places, key=lambda place: answered[place].place), strict=True):
            order[place] = moved
        start = max(end, start + 1)
    return order


def tie_results(messages: Sequence[Message]) -> list[Message]:
    """The messages with an id for each call, the id and tool of its call for each result, results in calls' order.

    A result without an id belongs to the first open call of the tool that it names, else to the first open call; one
    that no other result claims by its id, where there is one. Calls are open from
    their message on, and those of messages that follow one another directly are open together. Missing ids are nine
    letters and digits, since some templates and servers refuse others.
    """
    identified = _with_ids(messages)
    answered = _answered(messages, identified)
    tied = []
    for place in result_order(messages):
        message = identified[place]
        if place in answered:
            call = answered[place].call
            message = message.model_copy(
                update={"tool_call_id": message.tool_call_id or call.id, "name": message.name or call.function.name}
            )
        tied.append(message)
    return tied


def _with_ids(messages: Sequence[Message]) -> list[Message]:
    """The messages, each call with an id: its own, or one that no other call has."""
    taken = {call.id for message in messages for call in message.tool_calls if call.id}
    identified, num_calls = [], 0
    for message in messages:
        calls = []
        for call in message.tool_calls:
            num_calls += 1
            if not call.id:
                while f"call{num_calls:05d}" in taken:
                    num_calls += 1
                call = call.model_copy(update={"id": f"call{num_calls:05d}"})
            calls.append(call)
        identified.append(message.model_copy(update={"tool_calls": tuple(calls)}) if calls else message)
    return identified


def _answered(messages: Sequence[Message], identified: Sequence[Message]) -> dict[int, _Open]:
    """By the place of a result, the call that it answers."""
    claimed = {message.tool_call_id for message in messages if message.role == "tool"}
    waiting: list[_Open] = []
    found: dict[int, _Open] = {}
    for place, message in enumerate(identified):
        if message.tool_calls:
            if place == 0 or not messages[place - 1].tool_calls:
                waiting = []
            waiting += [_Open((place, index), call) for index, call in enumerate(message.tool_calls)]
        elif message.role == "tool":
            if message.tool_call_id is not None:
                candidates = [each for each in waiting if each.call.id == message.tool_call_id]
            else:
                free = [each for each in waiting if each.call.id not in claimed] or waiting
                candidates = [each for each in free if each.call.function.name == message.name] or free
            if candidates:
                found[place] = candidates[0]
                waiting = [each for each in waiting if each is not candidates[0]]
    return found
