"""OpenAI's JSON and our records: requests out, answers in. Pure; how bytes travel is known to `http_backend`.

Arguments are objects here and strings there. Where an answer's calls are given as data, they are its calls, and its
content is prose; else the content is read as any model's text is.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fcdistill.backends.base import Request
from fcdistill.config import DecodeSettings
from fcdistill.records import FinishReason, FunctionTool, Message, ToolSpec
from fcdistill.toolcalls.parsing import ParsedOutput
from fcdistill.toolcalls.results import tie_results
from fcdistill.toolcalls.structured import content_text, read_message, reasoning_text
from fcdistill.tools.catalog import safe_name

__all__ = [
    "MalformedAnswerError",
    "WireAnswer",
    "decode_fields",
    "first_choice",
    "read_answer",
    "token_counts",
    "wire_messages",
    "wire_tools",
]

_FINISH_REASONS: dict[Any, FinishReason] = {
    "stop": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "length": "length",
}


_NO_CALL = "call00000"
"""The id on a result of no call: the API demands one."""


class MalformedAnswerError(ValueError):
    """A response's body is no answer; the message says why."""


@dataclass(frozen=True)
class WireAnswer:
    """What a server answered.

    Attributes:
        text: its content.
        structured: the whole answer, where its calls are given as data; None: they are read from `text`.
        thought: what the model thought, where that is given apart.
        finish_reason: in the records' words.
        prompt_tokens: as the server counts them; None where it does not.
        completion_tokens: likewise.
        thought_tokens: those of them with which the model thought; None where the server does not say.
    """

    text: str
    structured: ParsedOutput | None
    thought: str
    finish_reason: FinishReason
    prompt_tokens: int | None
    completion_tokens: int | None
    thought_tokens: int | None


def wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as the chat API takes them: every call with an id, every result with the id of its call."""
    written: list[dict[str, Any]] = []
    for message in tie_results(messages):
        wire: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.name is not None and message.role != "tool":
            wire["name"] = message.name
        if message.role == "tool":
            wire["tool_call_id"] = message.tool_call_id or _NO_CALL
        if message.tool_calls:
            wire["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "name": call.function.name,
                        "arguments": json.dumps(call.function.arguments, ensure_ascii=False),
                    },
                }
                for call in message.tool_calls
            ]
        written.append(wire)
    return written


def wire_tools(specs: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    """The tools as the chat API takes them."""
    return [FunctionTool(function=spec).model_dump(mode="json") for spec in specs]


def decode_fields(request: Request, settings: DecodeSettings, max_tokens_field: str) -> dict[str, Any]:
    """The fields that say how the answer is decoded; those that would only repeat the usual default are left out."""
    fields: dict[str, Any] = {
        max_tokens_field: settings.max_new_tokens,
        "temperature": settings.sampling_temperature,
    }
    if settings.top_p != 1:
        fields["top_p"] = settings.top_p
    if settings.sampling_temperature > 0:
        # One request asked under several ids gets several samples, as from a local model.
        digest = hashlib.sha256(f"{settings.seed}/{request.id}".encode()).digest()
        fields["seed"] = int.from_bytes(digest[:4], "big") >> 1
    return fields


def read_answer(body: bytes, specs: Sequence[ToolSpec]) -> WireAnswer:
    """The answer in a response's body, of the chat or the completions API.

    Args:
        body: as it arrived.
        specs: the tools that were offered; a called name that differs from one of them only as `catalog.safe_name`
            changes names is that tool's.

    Raises:
        MalformedAnswerError: the body is no JSON or holds no choice.
    """
    document, choice = first_choice(body)
    message = choice.get("message")
    if isinstance(message, dict):
        text, structured, thought = content_text(message.get("content")), read_message(message), reasoning_text(message)
    elif isinstance(choice.get("text"), str):
        text, structured, thought = choice["text"], None, ""
    else:
        raise MalformedAnswerError("the response's choice holds neither a message nor a text")
    return WireAnswer(
        text.encode("utf-8", "replace").decode("utf-8"),
        None if structured is None else _with_known_names(structured, {spec.name for spec in specs}),
        thought.encode("utf-8", "replace").decode("utf-8"),
        _finish_reason(choice.get("finish_reason")),
        *token_counts(document),
        _thought_tokens(document),
    )


def first_choice(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """A response's whole document, and the choice that it holds.

    Raises:
        MalformedAnswerError: the body is no JSON or holds no choice.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswerError(f"the response's body is no JSON ({len(body)} bytes): {error}") from None
    choices = document.get("choices") if isinstance(document, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise MalformedAnswerError("the response holds no choice")
    return document, choice


def token_counts(document: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Prompt and completion tokens as the server counts them in a response, None where it does not."""
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))


def _thought_tokens(document: Mapping[str, Any]) -> int | None:
    usage = document.get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    return _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None


def _finish_reason(found: Any) -> FinishReason:
    return _FINISH_REASONS.get(found, "unknown") if isinstance(found, str) else "unknown"


def _with_known_names(output: ParsedOutput, known: set[str]) -> ParsedOutput:
    """The answer with the catalogue's names, where a server gives back a tool's original one."""
    calls = [
        call.model_copy(update={"name": safe_name(call.name)})
        if call.name not in known and safe_name(call.name) in known
        else call
        for call in output.calls
    ]
    return replace(output, calls=tuple(calls))


def _count(found: Any) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
