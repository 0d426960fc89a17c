"""Worked examples of the team: read and checked, which of them a prompt shows, and in what form.

Shared by who asks a teacher (`generation`) and who listens to one (`distillation`): both show it the domain in the same
way, as earlier turns of the conversation. How their answers are written is the caller's business.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fcdistill.errors import DataError
from fcdistill.records import Message, ToolSpec, WorkedExample
from fcdistill.storage import read_jsonl
from fcdistill.tools.validation import CallValidator

__all__ = ["choose_examples", "example_answer", "example_turns", "read_examples", "with_context"]

_SHOWN = 2
"""Examples per tool and kind of request: enough to show the conventions."""


def read_examples(path: Path, validator: CallValidator, what: str = "examples file") -> list[WorkedExample]:
    """The examples of a file.

    Args:
        path: JSONL of WorkedExample records.
        validator: of the tools that they may call.
        what: how errors call the file.

    Raises:
        DataError: the file or a line is unusable, two share an id, or a call breaks its tool's schema.
    """
    examples = read_jsonl(path, WorkedExample, what)
    for example in examples:
        for call in example.calls:
            violations = validator.check_call(call)
            if violations:
                raise DataError(
                    f"{what} {path}, example {example.id}: {call.name}{violations[0].pointer}: {violations[0].detail}",
                    required="calls that satisfy the catalogue",
                    fix="correct the example",
                )
    return examples


def choose_examples(
    examples: Sequence[WorkedExample], specs: Iterable[ToolSpec], *, with_refusals: bool
) -> list[WorkedExample]:
    """Two examples per tool and kind of request, in a fixed order; none calls a tool that is not there.

    Args:
        examples: all of them.
        specs: the tools of the prompt.
        with_refusals: whether examples without a call may be among them.
    """
    names = [spec.name for spec in specs]
    usable = [example for example in examples if all(call.name in names for call in example.calls)]
    chosen: list[WorkedExample] = []
    for category in ("irrelevance", "clarify") if with_refusals else ():
        chosen += [example for example in usable if example.category == category][:_SHOWN]
    for name in names:
        chosen += [e for e in usable if len(e.calls) == 1 and e.calls[0].name == name][:_SHOWN]
    for category in ("parallel", "parallel_multiple"):
        chosen += [example for example in usable if example.category == category][:_SHOWN]
    return chosen


def example_answer(example: WorkedExample) -> Message:
    """The right answer as a message, for templates to write."""
    return Message.calling(example.calls) if example.calls else Message(role="assistant", content=example.text)


def example_turns(
    examples: Iterable[WorkedExample], answer: Callable[[WorkedExample], Message] = example_answer
) -> list[Message]:
    """The turns that show these examples, two for each."""
    turns: list[Message] = []
    for example in examples:
        turns += [Message(role="user", content=with_context(example.system, example.request)), answer(example)]
    return turns


def with_context(system: str, request: str) -> str:
    """A request with the context that it needs.

    In the user's turn, not in a system message: the tools stand before it and their keys and values stay shared.
    """
    return f"({system})\n{request}" if system else request
