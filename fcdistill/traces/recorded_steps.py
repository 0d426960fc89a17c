"""A recorded conversation's turns with the calls that its assistant makes, and as messages.

Calls are read by the reader of models' answers. What they are worth is not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fcdistill.records import Category, FunctionCall, Message, ToolCall
from fcdistill.toolcalls.parsing import ParsedOutput, parse_output
from fcdistill.tools.catalog import Catalog, safe_name
from fcdistill.traces.source_formats import Conversation, Turn

__all__ = ["Step", "category_of", "read_steps"]


@dataclass(frozen=True)
class Step:
    """A turn; the assistant's with the calls that it makes."""

    turn: Turn
    output: ParsedOutput

    @property
    def message(self) -> Message:
        """The turn as it stands before an answer; what can't be read stays as it was written."""
        if self.turn.role != "assistant" or self.output.errors:
            turn = self.turn
            return Message(role=turn.role, content=turn.text, tool_call_id=turn.tool_call_id, name=turn.name)
        calls = self.output.calls
        ids = self.turn.call_ids if len(self.turn.call_ids) == len(calls) else [None] * len(calls)
        wrapped = tuple(FunctionCall(id=identity, function=call) for identity, call in zip(ids, calls, strict=True))
        return Message(role="assistant", content=self.output.text, tool_calls=wrapped)


def category_of(calls: Sequence[ToolCall]) -> Category:
    """What kind of answer these calls are."""
    if not calls:
        return "irrelevance"
    if len(calls) == 1:
        return "simple"
    return "parallel" if len({call.name for call in calls}) == 1 else "parallel_multiple"


def read_steps(conversation: Conversation, catalog: Catalog) -> list[Step]:
    """The turns; their calls bear the names that the catalogue gave the tools."""
    return [Step(turn, _output(turn, catalog)) for turn in conversation.turns]


def _output(turn: Turn, catalog: Catalog) -> ParsedOutput:
    if turn.role != "assistant":
        return ParsedOutput((), (), "")
    output = turn.structured or parse_output(turn.text, catalog.specs, truncated=turn.truncated)
    calls = tuple(
        call.model_copy(update={"name": safe_name(call.name)}) if call.name not in catalog.by_name else call
        for call in output.calls
    )
    return replace(output, calls=calls)
