"""Recorded conversations as turns: logs of chat completions, messages, ShareGPT, xLAM rows and worked examples.

Where a source gives an assistant's calls as data, they are the turn's calls; else they are read from its text by the
reader of models' answers (`recorded_steps`). What a turn's calls are worth is not known here.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from fcdistill.errors import DataError
from fcdistill.records import Category, WorkedExample
from fcdistill.storage import StrictJsonError, describe_validation_error, loads_strict, read_json, storage_errors
from fcdistill.toolcalls.parsing import ParsedOutput
from fcdistill.toolcalls.structured import content_text, read_message, reasoning_text, structured_output
from fcdistill.traces.sharegpt import TurnError, own_system, read_answer, read_system, read_tool_results
from fcdistill.traces.xlam import FlatParametersError, schema_of_flat

__all__ = ["Conversation", "SourceError", "SourceFormat", "Turn", "format_of", "read_conversations", "read_rows"]

SourceFormat = Literal["openai-chat", "openai-messages", "sharegpt", "xlam", "worked-examples"]

Role = Literal["system", "user", "assistant", "tool"]

_OPENAI_ROLES: dict[Any, Role] = {"developer": "system", "function": "tool"} | {role: role for role in get_args(Role)}
_SHAREGPT_ROLES: dict[Any, Role] = {
    "assistant": "assistant",
    "function_call": "assistant",
    "function_response": "tool",
    "gpt": "assistant",
    "human": "user",
    "observation": "tool",
    "system": "system",
    "tool": "tool",
    "user": "user",
}


class SourceError(ValueError):
    """A row that is not in the format; the message says why."""


@dataclass(frozen=True)
class Turn:
    """One message of a recorded conversation.

    Attributes:
        role: who speaks.
        text: what is said; an assistant's calls too, where they are not given as data.
        structured: an assistant's answer, where its calls are given as data.
        thought: what an assistant thought, where its calls are not given as data and its thought is.
        call_ids: the ids of these calls, None for one to which the source gives none.
        tool_call_id: the call whose result this is, where the source says so.
        name: the tool whose result this is, where the source says so.
        truncated: the text ended at a length limit.
        recorded: whether the turn is an answer that this row records, not the history of another one.
    """

    role: Role
    text: str
    structured: ParsedOutput | None = None
    thought: str = ""
    call_ids: tuple[str | None, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    truncated: bool = False
    recorded: bool = True


@dataclass(frozen=True)
class Conversation:
    """The turns of a row.

    Attributes:
        turns: in their order.
        tools: the row's own, as JSON values; None where it holds none.
        model: that answered; empty where unknown.
        category: of the request, where its author says it.
    """

    turns: tuple[Turn, ...]
    tools: Any = None
    model: str = ""
    category: Category | None = None


def read_rows(path: Path, what: str = "source file") -> list[Any]:
    """The rows of a file, JSONL or one JSON array: JSON values, or the bytes of a line, which may be none.

    `what` names the file in errors.

    Raises:
        DataError: the file is missing, empty or no JSON array.
        StorageError: it can't be read.
    """
    if not path.is_file():
        raise DataError(f"{what} {path} does not exist", required="an existing file", fix="check the path")
    with storage_errors(path, "read"):
        content = path.read_bytes()
    if content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        rows = read_json(path, what)
    else:
        rows = [line for line in content.splitlines() if line.strip()]
    if not rows:
        raise DataError(f"{what} {path} is empty", required="at least one row", fix="give another file")
    return list(rows)


def format_of(row: Any) -> SourceFormat:
    """The format that a row is in, by its keys.

    Raises:
        SourceError: it is in none.
    """
    keys = _object(row, "the row").keys()
    for source_format, needed in _KEYS.items():
        if needed <= keys:
            return source_format
    raise SourceError(
        f"the row has the keys {', '.join(sorted(keys)) or 'of none'}, by which no format is known: "
        + "; ".join(f"{name} has {' and '.join(sorted(needed))}" for name, needed in _KEYS.items())
    )


def read_conversations(row: Any, source_format: SourceFormat) -> list[Conversation]:
    """The conversations of one row: several where a request was answered by several choices.

    Raises:
        SourceError: the row is not in that format.
    """
    try:
        return list(_READERS[source_format](_object(row, "the row")))
    except (FlatParametersError, TurnError) as error:
        raise SourceError(str(error)) from None


def _openai_chat(row: Mapping[str, Any]) -> Iterator[Conversation]:
    request, response = (_object(_decoded(row.get(key), key), key) for key in ("request", "response"))
    history = tuple(replace(turn, recorded=False) for turn in _turns(request.get("messages"), "request.messages"))
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices:
        raise SourceError("the response holds no choice")
    model = response.get("model") or request.get("model")
    for choice in choices:
        message = _object(_object(choice, "a choice of the response").get("message"), "the message of a choice")
        answer = replace(_turn(message, "the message of a choice"), truncated=choice.get("finish_reason") == "length")
        if answer.role != "assistant":
            raise SourceError(f"the message of a choice has role {answer.role!r}, not 'assistant'")
        yield Conversation((*history, answer), _tools(request), model if isinstance(model, str) else "")


def _openai_messages(row: Mapping[str, Any]) -> Iterator[Conversation]:
    yield Conversation(tuple(_turns(row.get("messages"), "messages")), _tools(row))


def _sharegpt(row: Mapping[str, Any]) -> Iterator[Conversation]:
    listed = row.get("conversations")
    if not isinstance(listed, list) or not listed:
        raise SourceError("the row has no list of conversations")
    tools = _tools(row)
    turns: list[Turn] = []
    for number, item in enumerate(listed, 1):
        where = f"turn {number} of conversations"
        speaker, text = (_object(item, where).get(key) for key in ("from", "value"))
        role = _SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None or not isinstance(text, str):
            raise SourceError(f"{where} is not {{from, value}} with a known speaker: found from {speaker!r}")
        if role == "system" and tools is None:
            text, tools = read_system(text)
        elif role == "system":
            text = own_system(text)
        elif role == "assistant":
            text = read_answer(text)
        texts = read_tool_results(text) if role == "tool" else [text]
        turns += [Turn(role, text) for text in texts if text or role != "system"]
    yield Conversation(tuple(turns), tools)


def _xlam(row: Mapping[str, Any]) -> Iterator[Conversation]:
    query = row.get("query")
    if not isinstance(query, str):
        raise SourceError("the row has no query that is a string")
    tools, answers = (_decoded(row.get(key), key) for key in ("tools", "answers"))
    if not isinstance(answers, list):
        raise SourceError("answers is no list of calls")
    if tools is not None:
        if not isinstance(tools, list):
            raise SourceError("tools is no list")
        tools = [_xlam_tool(_object(tool, "a tool")) for tool in tools] or None
    answer = Turn("assistant", "", structured_output("", answers))
    yield Conversation((Turn("user", query), answer), tools)


def _worked_example(row: Mapping[str, Any]) -> Iterator[Conversation]:
    try:
        example = WorkedExample.model_validate(row)
    except ValidationError as error:
        raise SourceError(f"the row is no worked example: {describe_validation_error(error)}") from None
    calls = [call.model_dump(mode="json") for call in example.calls]
    context = (Turn("system", example.system),) if example.system else ()
    answer = Turn("assistant", example.text, structured_output(example.text, calls))
    yield Conversation((*context, Turn("user", example.request), answer), category=example.category)


def _xlam_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool with a JSON Schema, under the keys that a catalogue knows."""
    parameters = schema_of_flat(_object(tool.get("parameters") or {}, "the parameters of a tool"))
    return {"name": tool.get("name"), "description": tool.get("description"), "parameters": parameters}


_READERS: dict[SourceFormat, Callable[[Mapping[str, Any]], Iterator[Conversation]]] = {
    "openai-chat": _openai_chat,
    "openai-messages": _openai_messages,
    "sharegpt": _sharegpt,
    "xlam": _xlam,
    "worked-examples": _worked_example,
}

_KEYS: dict[SourceFormat, set[str]] = {
    "openai-chat": {"request", "response"},
    "openai-messages": {"messages"},
    "sharegpt": {"conversations"},
    "xlam": {"query", "answers"},
    "worked-examples": {"request", "category"},
}
"""What the rows of each format have; that of chat logs comes before others' `request`."""


def _turns(messages: Any, where: str) -> Iterator[Turn]:
    if not isinstance(messages, list) or not messages:
        raise SourceError(f"the row has no list of {where}")
    for number, message in enumerate(messages, 1):
        yield _turn(_object(message, f"message {number} of {where}"), f"message {number} of {where}")


def _turn(message: Mapping[str, Any], where: str) -> Turn:
    """A message of OpenAI's chat API."""
    given = message.get("role")
    role = _OPENAI_ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise SourceError(f"{where} has the unknown role {given!r}")
    if isinstance(message.get("content"), list) and not all(map(_is_text, message["content"])):
        raise SourceError(f"{where} holds parts that are no text")
    if role == "assistant":
        calls = message.get("tool_calls")
        ids = [call.get("id") if isinstance(call, Mapping) else None for call in calls] if calls else []
        known = tuple(identity if isinstance(identity, str) else None for identity in ids)
        said, structured = content_text(message.get("content")), read_message(message)
        if structured is not None and structured.errors:  # what can't be read stays as it was written
            written = json.dumps(calls or message.get("function_call"), ensure_ascii=False)
            said = "\n".join(part for part in (said, written) if part)
        return Turn(role, said, structured, "" if structured else reasoning_text(message), call_ids=known)
    text = content_text(message.get("content"))
    if role != "tool":
        return Turn(role, text)
    identity, name = (message.get(key) for key in ("tool_call_id", "name"))
    return Turn(
        role,
        text,
        tool_call_id=identity if isinstance(identity, str) else None,
        name=name if isinstance(name, str) else None,
    )


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _tools(row: Mapping[str, Any]) -> Any:
    """A row's own tools; a list that is empty, and a text that is, are none."""
    return _decoded(row.get("tools") or row.get("functions") or None, "tools") or None


def _decoded(value: Any, what: str) -> Any:
    """JSON values that may be given as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return loads_strict(value)
    except StrictJsonError as error:
        raise SourceError(f"{what} is a string that is no JSON: {error}") from None


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        found: Sequence[Any] | str = "nothing" if value is None else type(value).__name__
        raise SourceError(f"{what} is no JSON object: found {found}")
    return value
