"""`fcdistill traces export`: traces in the layouts that other trainers read, and pairs for preference training.

Every layout is JSONL to be read line by line or with `load_dataset("json")`; `Dataset.from_list` would fill the keys
that one row lacks with nulls. What the layouts say in words of ShareGPT is written by `hermes`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from fcdistill.backends.openai.chat_wire import wire_messages, wire_tools
from fcdistill.errors import DataError
from fcdistill.records import Message, Outcome, Reject, Trace
from fcdistill.records.equality import same_calls
from fcdistill.storage import iter_jsonl, iter_unique_jsonl, sha256_json, write_parts
from fcdistill.traces.sharegpt import write_turns

__all__ = ["Counted", "RowLayout", "export_rows", "preference_rows", "read_failed", "write_rows"]

T = TypeVar("T")

RowLayout = Literal["trl", "sharegpt", "openai-finetune"]

_WRONG_ANSWER = frozenset({"parse", "tool", "schema", "count", "grounding", "agreement", "question"})
"""The checks that judge an answer. The others judge its request, or its neighbours: the answer may well be right."""


class Counted(Generic[T]):
    """What passes by, to be looped over once, and how much of it did so far, in `count`."""

    def __init__(self, passing: Iterable[T]) -> None:
        self._passing = passing
        self.count = 0

    def __iter__(self) -> Iterator[T]:
        for each in self._passing:
            self.count += 1
            yield each


def export_rows(traces: Iterable[Trace], layout: RowLayout) -> Iterator[Any]:
    """The rows of a layout, one per trace.

    Raises:
        DataError: a trace can't be said in that layout.
    """
    yield from map(_ROWS[layout], traces)


def preference_rows(traces: Iterable[Trace], failed: Iterable[Reject]) -> Iterator[dict[str, Any]]:
    """TRL's preference rows: a kept answer beside each different answer to the same prompt that failed a check.

    The prompt is the same where all messages and tools are. Rejects whose request, not whose answer, was refused make
    no pair. All rejects are looked through first, and memory holds their answers; traces pass one at a time.
    """
    by_prompt: dict[str, list[Message]] = {}
    for reject in failed:
        answer = reject.candidate.answer
        if reject.check in _WRONG_ANSWER and (answer.calls or answer.content.strip()):
            by_prompt.setdefault(_prompt_key(reject.candidate), []).append(answer)
    for trace in traces:
        paired = [trace.answer]
        for answer in by_prompt.get(_prompt_key(trace), ()):
            if any(_same_answer(answer, other) for other in paired):
                continue
            paired.append(answer)
            yield {
                "prompt": _messages(trace)[:-1],
                "chosen": _messages(trace)[-1:],
                "rejected": [_message(answer)],
                "tools": wire_tools(trace.specs),
            }


def read_failed(path: Path) -> Iterator[Reject]:
    """The rejects in `rejects.jsonl`, or in a run's `journal.jsonl`, which also holds the failed tries before the last.

    Raises:
        DataError: the file is missing, or a line is no such record.
    """
    if path.name != "journal.jsonl":
        return iter_unique_jsonl(path, Reject, "rejects file")
    return (
        Reject(id=outcome.id, check=outcome.failed.name, detail=outcome.failed.detail, candidate=outcome.candidate)
        for outcome in iter_jsonl(path, Outcome, "journal")
        if outcome.failed is not None
    )


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSONL atomically, one at a time; how many there are. Raises like `write_parts`."""
    written = Counted(rows)
    write_parts(path, (json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n" for row in written))
    return written.count


def _messages(trace: Trace) -> list[dict[str, Any]]:
    """Messages as TRL gives them to chat templates, most of which ask for a thought by this name."""
    return [_message(message) for message in trace.messages]


def _message(message: Message) -> dict[str, Any]:
    written = message.model_dump(mode="json")
    if message.reasoning:
        written["reasoning_content"] = written.pop("reasoning")
    return written


def _prompt_key(trace: Trace) -> str:
    return sha256_json([_messages(trace)[:-1], wire_tools(trace.specs)])


def _same_answer(one: Message, other: Message) -> bool:
    return same_calls(one.calls, other.calls) and one.content == other.content


def _trl(trace: Trace) -> dict[str, Any]:
    return {"messages": _messages(trace), "tools": wire_tools(trace.specs)}


def _sharegpt(trace: Trace) -> dict[str, Any]:
    # The tools once more as a column, as Hermes's own data set has them: a JSON string.
    tools = json.dumps(wire_tools(trace.specs), ensure_ascii=False)
    return {"id": trace.id, "conversations": write_turns(trace.messages, trace.specs), "tools": tools}


def _openai_finetune(trace: Trace) -> dict[str, Any]:
    messages = wire_messages(trace.messages)
    problem = _protocol_problem(messages)
    if problem:
        raise DataError(
            f"trace {trace.id!r}: {problem}",
            required="an answer with calls or a text, and a result for every earlier call, as OpenAI's format demands",
            fix="correct or remove that trace, or export to another format",
        )
    for message in messages:
        if "tool_calls" in message and not message["content"]:
            del message["content"]
    # An empty list of tools is refused.
    return {"messages": messages, **({"tools": wire_tools(trace.specs)} if trace.specs else {})}


def _protocol_problem(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the chat protocol forbids in these messages, or nothing."""
    waiting: set[str] = set()
    for number, message in enumerate(messages, 1):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return f"message {number} is the result of no call before it"
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            return f"message {number} comes before the results of all calls"
        calls = message.get("tool_calls", [])
        waiting = {call["id"] for call in calls}
        if len(waiting) < len(calls):
            return f"message {number} gives two calls one id"
        if message["role"] == "assistant" and not calls and not message["content"]:
            return f"message {number} of the assistant is empty"
    return ""


_ROWS: dict[RowLayout, Callable[[Trace], dict[str, Any]]] = {
    "openai-finetune": _openai_finetune,
    "sharegpt": _sharegpt,
    "trl": _trl,
}
