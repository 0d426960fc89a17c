"""Which dialect a chat template writes: proved by rendering calls and reading them back.

A student that is trained on calls which nothing reads learns in vain, and its calls would count as prose. So every
template is tried once, whatever it is used for: one call, two calls, arguments of every type, texts with quotes, marks
and line breaks, what the assistant thought before its answer.
"""

import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fcdistill.errors import ModelError
from fcdistill.prompts.chat_template import KIT_REMEDY
from fcdistill.prompts.continuing import closes_thought, continued
from fcdistill.records import Message, ToolCall, ToolSpec
from fcdistill.records.equality import same_calls
from fcdistill.storage import sha256_json
from fcdistill.toolcalls.parsing import parse_output

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CallFormat", "Probe", "Render", "probe_of", "prove_format"]

Render = Callable[[Sequence[Message], Sequence[ToolSpec], bool], str]
"""Renders messages and tools, with or without a generation prompt; raises `ModelError` where the template refuses."""


def _probe_tools(*, with_union: bool) -> tuple[ToolSpec, ...]:
    properties: dict[str, Any] = {
        "probe_key": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "ready": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"type": "object", "properties": {"row": {"type": "string"}, "open": {"type": "boolean"}}},
    }
    if with_union:
        properties["spare"] = {"type": ["string", "null"]}
    return (
        ToolSpec(
            name="probe_tool",
            description="probe-description",
            parameters={"type": "object", "properties": properties},
        ),
        ToolSpec(
            name="other_probe",
            description="Another one.",
            parameters={"type": "object", "properties": {"code": {"type": "string"}}},
        ),
    )


_REQUEST = Message(role="user", content="probe-request")
_PLAIN = ToolCall(name="probe_tool", arguments={"probe_key": "probe-value"})
_OTHER = ToolCall(name="other_probe", arguments={"code": "0042"})
_TYPED = ToolCall(
    name="probe_tool",
    arguments={
        "probe_key": "probe-value",
        "count": 12,
        "share": 0.75,
        "ready": True,
        "tags": ["north", "2024"],
        "place": {"row": "C", "open": False},
    },
)
_WITH_NULL = ToolCall(name="probe_tool", arguments={**_TYPED.arguments, "spare": None})
_THOUGHTFUL_CALL = Message.calling([_PLAIN], reasoning="probe-thought")
_THOUGHTFUL_WORDS = Message(role="assistant", content="probe-answer", reasoning="probe-thought")
_TEXTS = ToolCall(name="probe_tool", arguments={"probe_key": 'first line\nL\'Été "quoted" <b> 100% & more'})


@dataclass(frozen=True)
class CallFormat:
    """How a template writes calls.

    Attributes:
        dialect: the name of the dialect that reads them.
        writes_parallel: it writes several calls in one answer.
        writes_texts: texts with quotes and line breaks come back as they were.
        writes_thoughts: what the assistant thought comes back beside its answer, as the template's values are.
    """

    dialect: str
    writes_parallel: bool
    writes_texts: bool
    writes_thoughts: bool


@dataclass(frozen=True)
class Probe:
    """A template, and the tools with which it is tried.

    Attributes:
        render: renders with it.
        tools: what it is shown.
        takes_unions: it renders tools with a parameter of two types.
    """

    render: Render
    tools: tuple[ToolSpec, ...]
    takes_unions: bool

    @property
    def calls(self) -> list[ToolCall]:
        """Calls of both tools, with arguments of every type."""
        return [_WITH_NULL if self.takes_unions else _TYPED, _OTHER]

    def prompt(self, *, with_generation_prompt: bool = True) -> str:
        """A request."""
        return self.render([_REQUEST], self.tools, with_generation_prompt)

    def answer(self, answer: Message) -> str:
        """What the template writes of an answer to it, behind the generation prompt."""
        prompt = self.prompt()
        full = self.render([_REQUEST, answer], self.tools, False)
        text = continued(prompt, full, answer.reasoning)
        return full[len(os.path.commonprefix([prompt, full])) :] if text is None else text

    def reads(self, dialect: str, calls: Sequence[ToolCall]) -> bool:
        """Whether calls come back as they were, in the same dialect."""
        try:
            text = self.answer(Message.calling(list(calls)))
        except ModelError:
            return False
        output = parse_output(text, self.tools, expected=dialect)
        return not output.errors and same_calls(calls, output.calls) and output.dialects == (dialect,)

    def tells_thoughts(self, dialect: str) -> bool:
        """Whether thoughts come back as they were, before calls and before words, and no prompt has closed them."""
        try:
            if closes_thought(self.prompt()):
                return False
            for answer in (_THOUGHTFUL_CALL, _THOUGHTFUL_WORDS):
                output = parse_output(self.answer(answer), self.tools, expected=dialect)
                if output.errors or output.thought != answer.reasoning or not same_calls(answer.calls, output.calls):
                    return False
        except ModelError:
            return False
        return True


def probe_of(render: Render) -> Probe:
    """With a parameter of two types, where the template renders such tools at all: some fail on them.

    Raises:
        ModelError: the template refuses tools and calls.
    """
    probe = Probe(render, _probe_tools(with_union=True), takes_unions=True)
    try:
        probe.answer(Message.calling([_WITH_NULL]))
    except ModelError:
        probe = Probe(render, _probe_tools(with_union=False), takes_unions=False)
        probe.answer(Message.calling([_TYPED]))
    return probe


_PROVED: "weakref.WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, CallFormat | ModelError]]" = (
    weakref.WeakKeyDictionary()
)


def prove_format(tokenizer: "PreTrainedTokenizerBase", render: Render) -> CallFormat:
    """The format of a tokenizer's template, tried once for each template that it gets.

    Args:
        tokenizer: with a chat template.
        render: renders with it.

    Raises:
        ModelError: no dialect reads the calls that the template writes.
    """
    template = sha256_json(tokenizer.chat_template)
    known = _PROVED.get(tokenizer)
    if known is None or known[0] != template:
        known = _PROVED[tokenizer] = (template, _tried(tokenizer, render))
    if isinstance(known[1], ModelError):
        raise known[1]
    return known[1]


def _tried(tokenizer: "PreTrainedTokenizerBase", render: Render) -> CallFormat | ModelError:
    try:
        probe = probe_of(render)
    except ModelError as error:
        return error
    dialect = ""
    for call in (_PLAIN, _TYPED, *((_WITH_NULL,) if probe.takes_unions else ())):
        text = probe.answer(Message.calling([call]))
        output = parse_output(text, probe.tools, expected=dialect or None)
        dialect = dialect or (output.dialects[0] if len(output.dialects) == 1 else "")
        if output.errors or not same_calls([call], output.calls) or output.dialects != (dialect,):
            return ModelError(
                f"the chat template of {tokenizer.name_or_path!r} writes a call in a way that can't be read back: "
                f"{text[:300]!r}",
                required="a template whose calls one of the known formats reads, with the arguments that were written",
                fix=KIT_REMEDY,
            )
    return CallFormat(
        dialect=dialect,
        writes_parallel=probe.reads(dialect, [_PLAIN, _OTHER]) and probe.reads(dialect, [_OTHER, _OTHER]),
        writes_texts=probe.reads(dialect, [_TEXTS]),
        writes_thoughts=probe.tells_thoughts(dialect),
    )
