"""A recorded conversation's turns with the calls that its assistant makes, and as messages.

Some loggers write each of an answer's parts, its words and its calls, as a message of its own; such messages are one
step. Calls are read by the reader of models' answers. What they are worth is not known here.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fcdistill.records import Category, FunctionCall, Message, ToolCall
from fcdistill.toolcalls.parsing import ParsedOutput, parse_output
from fcdistill.toolcalls.results import result_order
from fcdistill.tools.catalog import Catalog, safe_name
from fcdistill.traces.source_formats import Conversation, Turn

__all__ = ["Step", "category_of", "read_steps"]


@dataclass(frozen=True)
class Step:
    """A turn; the assistant's with the calls that it makes."""

    turn: Turn
    output: ParsedOutput
    number: int
    """Which of the conversation's turns it is, or the last of them where it is several, counted from 1."""

    @property
    def message(self) -> Message:
        """The turn as it stands before an answer; what can't be read stays as it was written."""
        if self.turn.role != "assistant" or self.output.errors:
            turn = self.turn
            return Message(role=turn.role, content=turn.text, tool_call_id=turn.tool_call_id, name=turn.name)
        paired = zip(_call_ids(self), self.output.calls, strict=True)
        wrapped = tuple(FunctionCall(id=identity, function=call) for identity, call in paired)
        return Message(role="assistant", content=self.output.text, tool_calls=wrapped)


def category_of(calls: Sequence[ToolCall]) -> Category:
    """What kind of answer these calls are."""
    if not calls:
        return "irrelevance"
    if len(calls) == 1:
        return "simple"
    return "parallel" if len({call.name for call in calls}) == 1 else "parallel_multiple"


def read_steps(conversation: Conversation, catalog: Catalog) -> list[Step]:
    """The turns; their calls bear the names that the catalogue gave the tools, and results stand in calls' order."""
    steps: list[Step] = []
    for number, turn in enumerate(conversation.turns, 1):
        step = Step(turn, _output(turn, catalog), number)
        if steps and _continues(steps[-1], step):
            step = _joined(steps.pop(), step)
        steps.append(step)
    return [steps[place] for place in result_order([step.message for step in steps])]


def _continues(before: Step, step: Step) -> bool:
    """Whether a call, read or not, is part of the answer that the step before it began."""
    both = before.turn, step.turn
    is_one_speaker = all(turn.role == "assistant" and turn.recorded == step.turn.recorded for turn in both)
    return is_one_speaker and bool(step.output.calls or step.output.errors)


def _joined(one: Step, other: Step) -> Step:
    ids = tuple(itertools.chain.from_iterable(map(_call_ids, (one, other))))
    text = _lines(one.turn.text, other.turn.text)
    first, second = one.output, other.output
    output = ParsedOutput(
        calls=first.calls + second.calls,
        errors=first.errors + second.errors,
        text=_lines(first.text, second.text),
        thought=_lines(first.thought, second.thought),
        is_unfinished=second.is_unfinished,
        dialects=first.dialects + second.dialects,
    )
    return Step(replace(other.turn, text=text, call_ids=ids), output, other.number)


def _lines(*parts: str) -> str:
    return "\n".join(filter(None, parts))


def _call_ids(step: Step) -> tuple[str | None, ...]:
    """One per call."""
    ids, calls = step.turn.call_ids, step.output.calls
    return ids if len(ids) == len(calls) else (None,) * len(calls)


def _output(turn: Turn, catalog: Catalog) -> ParsedOutput:
    if turn.role != "assistant":
        return ParsedOutput((), (), "")
    output = turn.structured
    if output is None:
        read = parse_output(turn.text, catalog.specs, truncated=turn.truncated)
        output = replace(read, thought=_lines(turn.thought, read.thought))
    calls = tuple(
        call.model_copy(update={"name": safe_name(call.name)}) if call.name not in catalog.by_name else call
        for call in output.calls
    )
    return replace(output, calls=calls)
