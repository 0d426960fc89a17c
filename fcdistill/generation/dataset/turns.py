"""Traces of several turns, as what they are: what their users say, what tells them apart, which steps they hold."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from scipy.cluster.hierarchy import DisjointSet

from fcdistill.generation.journal.spool import Traces
from fcdistill.generation.verification.english.words import words_of
from fcdistill.records import Check, Message, Trace

__all__ = ["conversation", "conversation_key", "earlier_steps", "has_one_request", "merge_groups", "user_texts"]


def conversation(system: str, turns: Sequence[Message], answer: Message) -> tuple[Message, ...]:
    """The messages of a trace; without a system message where there is no context."""
    context = [Message(role="system", content=system)] if system else []
    return (*context, *turns, answer)


def user_texts(trace: Trace) -> list[str]:
    """All that the user says."""
    return [message.content for message in trace.messages if message.role == "user"]


def has_one_request(trace: Trace) -> bool:
    """Whether the trace is one request and its answer."""
    return [message.role for message in trace.messages if message.role != "system"] == ["user", "assistant"]


def conversation_key(trace: Trace) -> str:
    """What two traces share whose answers have the same past, but for case, punctuation and the spelling of numbers."""
    said = [_comparable(message) for message in trace.messages[:-1] if message.role != "system"]
    return "\n".join(said)


def earlier_steps(trace: Trace) -> Iterator[Trace]:
    """A trace for each earlier answer to the user: a conversation supervises all of them, each as an answer.

    A text behind a call's result is none: it reports, and decides nothing.
    """
    before = ["", *(message.role for message in trace.messages)]
    places = [
        place
        for place, message in enumerate(trace.messages[:-1])
        if message.tool_calls or message.role == "assistant" and before[place] == "user"
    ]
    for number, place in enumerate(places, 1):
        answer = trace.messages[place]
        check = Check(name="step", ok=True, detail=f"answer {number} of {trace.id}")
        meta = trace.meta.model_copy(
            update={
                "source": "step",
                "category": trace.meta.category if answer.tool_calls else "clarify",
                "checks": (*trace.meta.checks, check),
            }
        )
        messages = trace.messages[: place + 1]
        yield trace.model_copy(update={"id": f"{trace.id}-step-{number}", "messages": messages, "meta": meta})


def merge_groups(traces: Traces, keys: Callable[[Trace], Iterable[str]]) -> Iterator[Trace]:
    """The traces, with one split group for all that share a group or a key, through others too.

    Args:
        traces: what is grouped.
        keys: further groups that a trace belongs to.
    """
    groups: Any = DisjointSet()
    names: dict[Any, str] = {}
    for trace in traces:
        groups.add(trace.split_group)
        for key in keys(trace):
            groups.add(key)
            groups.merge(trace.split_group, key)
    for trace in traces:
        name = names.setdefault(groups[trace.split_group], trace.split_group)
        yield trace.model_copy(update={"split_group": name})


def _comparable(message: Message) -> str:
    calls = "".join(call.model_dump_json() for call in message.calls)
    return f"{' '.join(word.text for word in words_of(message.content))}{calls}"
