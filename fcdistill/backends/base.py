"""What every backend takes and gives: requests in, one completion for each.

A backend knows nothing of tools' validity or of scoring; it turns messages and tools into the model's text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fcdistill.config import DecodeSettings
from fcdistill.errors import BackendError
from fcdistill.records import FinishReason, Message, ModelRef, ToolsInPrompt, ToolSpec
from fcdistill.toolcalls.parsing import ParsedOutput, parse_output
from fcdistill.toolcalls.thinking import set_thought_apart

__all__ = ["Backend", "Completion", "PromptFormat", "Request", "complete_all"]


@dataclass(frozen=True)
class Request:
    """A conversation to answer.

    Attributes:
        id: names the completion; unique within one call of `complete`. It also seeds sampled decoding.
        messages: ends with the message to answer.
        specs: the tools that may be called.
    """

    id: str
    messages: tuple[Message, ...]
    specs: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True)
class Completion:
    """The answer to one request.

    Attributes:
        id: the request's.
        text: what the model wrote, without the token that ended it; empty on error.
        finish_reason: `stop` (the model ended), `call_complete` (a call was closed and no further one began),
            `length` or `error`.
        prompt_tokens: length of the whole prompt, shared parts included.
        completion_tokens: tokens that were decoded, the ending one included.
        latency_s: seconds of each forward pass divided by the rows in it, added up; of a server, seconds from
            sending the try that was answered to the end of its answer.
        error: why the request could not be answered; others of the same call are unaffected.
        structured: the answer, where a server gave its calls as data: then `text` is prose.
        thought: what the model thought, where a server gave that apart from `text`.
        dialect: how the model's template writes calls, where that is known.
        thought_tokens: those of `completion_tokens` with which the model thought, where that is known.
    """

    id: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_s: float | None = None
    error: str | None = None
    structured: ParsedOutput | None = None
    thought: str = ""
    dialect: str | None = None
    thought_tokens: int | None = None

    @property
    def said(self) -> str:
        """The text without what is thought in it: for answers that are to be words."""
        apart = set_thought_apart(self.text)
        return apart.answer if apart.thought or apart.is_unfinished else self.text

    def parsed(self, specs: Sequence[ToolSpec] = ()) -> ParsedOutput:
        """What the answer says; `specs` are the tools that could be called, which some dialects need to be read."""
        if self.structured is not None:
            return self.structured
        output = parse_output(self.text, specs, truncated=self.finish_reason == "length", expected=self.dialect)
        return replace(output, thought="\n".join(part for part in (self.thought, output.thought) if part))


@dataclass(frozen=True)
class PromptFormat:
    """How requests become what a model reads.

    Attributes:
        template_sha256: hash of the chat template.
        tools_in_prompt: how prompts show the tools.
        dialect: how the template writes calls, in which the model's are expected.
    """

    template_sha256: str
    tools_in_prompt: ToolsInPrompt
    dialect: str


class Backend(Protocol):
    """Who answers prompts."""

    @property
    def ref(self) -> ModelRef:
        """The model that answers."""
        ...

    @property
    def prompt_format(self) -> PromptFormat | None:
        """How prompts are rendered; None where that is a server's business."""
        ...

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        """Answer each request exactly once, in any order, each as soon as it is finished.

        Raises:
            BackendError: no more answers can be given; what was yielded before stays valid.
        """
        ...

    def close(self) -> None:
        """Release what the backend holds; it answers no more."""
        ...


def complete_all(backend: Backend, requests: Sequence[Request], settings: DecodeSettings) -> list[Completion]:
    """The answers to all requests, in their order.

    Raises:
        BackendError: the backend stopped answering, or left a request out.
    """
    completions = {completion.id: completion for completion in backend.complete(requests, settings)}
    for request in requests:
        if request.id not in completions:
            raise BackendError(
                f"the backend of {backend.ref.model} gave no answer to {request.id}",
                required="one completion per request",
                fix="run the same command again; finished work is kept",
            )
    return [completions[request.id] for request in requests]
