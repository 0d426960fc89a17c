"""Conversations as ShareGPT turns with Hermes's text: `from`/`value`, tools and calls written out in tags.

Tools stand in the system turn, since many trainers read nothing but the turns; what the system message says itself
comes after them, so that it can be told from them again. Published data writes tools and calls as Python shows them,
with single quotes; such text is read too. Whether the turns make a trace is not known here.
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

from fcdistill.records import FunctionTool, Message, ToolSpec
from fcdistill.toolcalls.parsing import render_calls
from fcdistill.toolcalls.results import tie_results

__all__ = ["TurnError", "own_system", "read_answer", "read_system", "read_tool_results", "write_turns"]

_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
_BEFORE_TOOLS = "You can call these functions, given as JSON Schemas:"
_AFTER_TOOLS = (
    "To call functions, answer with one such block per call and nothing else:\n"
    '<tool_call>\n{"name": "FUNCTION", "arguments": {"ARGUMENT": "VALUE"}}\n</tool_call>\n'
    "When no function fits or a required value is missing, answer in words."
)
# Instructions also name the tags, with nothing between them, before the block itself.
_TOOLS_OPEN = re.compile(r"<tools>\s*(?=[\[{])")
_TOOLS_CLOSE = "</tools>"
_CALL = re.compile(r"(?<=<tool_call>)(.*?)(?=</tool_call>)", re.DOTALL)
_BETWEEN_TOOLS = re.compile(r"[\s,]*")
_RESULT = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)


class TurnError(ValueError):
    """Turns that are no such conversation; the message says why."""


def write_turns(messages: Sequence[Message], specs: Sequence[ToolSpec]) -> list[dict[str, str]]:
    """The turns of a conversation, results in the order of their calls, since turns know no ids.

    `parsing.parse_output` reads the calls back from them.
    """
    own = messages[0].content if messages[0].role == "system" else ""
    rest = tie_results(messages[1:] if messages[0].role == "system" else messages)
    system = "\n\n".join(part for part in (_tools_text(specs), own) if part)
    turns = [{"from": "system", "value": system}] if system else []
    return turns + [{"from": _ROLES[message.role], "value": _value(message)} for message in rest]


def read_system(text: str) -> tuple[str, list[Any] | None]:
    """What a system turn says itself, and the tools in it; None where it holds none.

    A foreign wording round the tools only tells how to call, so it is dropped with them.

    Raises:
        TurnError: the tools can't be read.
    """
    opened = _TOOLS_OPEN.search(text)
    if opened is None:
        return text, None
    tools, end = _tools(text, opened.end())
    if tools is None:
        raise TurnError("the tools of the system turn are neither JSON nor Python's way to show it")
    return _after_tools(text[end:]), tools


def own_system(text: str) -> str:
    """What a system turn says itself, whether or not its tools can be read."""
    opened = _TOOLS_OPEN.search(text)
    return text if opened is None else _after_tools(text[_tools(text, opened.end())[1] :])


def read_answer(text: str) -> str:
    """An assistant's turn with JSON in its call tags, where Python's way to show a call stood."""
    return _CALL.sub(lambda block: _as_json(block.group(1)), text)


def read_tool_results(text: str) -> list[str]:
    """The results in a tool turn: those in tags, or else its whole text."""
    return _RESULT.findall(text) or [text]


def _tools_text(specs: Sequence[ToolSpec]) -> str:
    if not specs:
        return ""
    lines = [FunctionTool(function=spec).model_dump(mode="json") for spec in specs]
    tools = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    return f"{_BEFORE_TOOLS}\n<tools>\n{tools}\n</tools>\n\n{_AFTER_TOOLS}"


def _value(message: Message) -> str:
    if message.role == "tool":
        return f"<tool_response>\n{message.content}\n</tool_response>"
    return "\n".join(part for part in (message.content, render_calls(message.calls)) if part)


def _after_tools(text: str) -> str:
    _, ours, own = text.partition(_AFTER_TOOLS)
    return own.strip() if ours else ""


def _tools(text: str, place: int) -> tuple[list[Any] | None, int]:
    """The tools from a place on, one array or objects one after the other, and where their block ends."""
    start, found = place, []
    decoder = json.JSONDecoder()
    try:
        while not text.startswith(_TOOLS_CLOSE, place):
            value, place = decoder.raw_decode(text, place)
            found += value if isinstance(value, list) else [value]
            if between := _BETWEEN_TOOLS.match(text, place):
                place = between.end()
        return found, place
    except (ValueError, RecursionError):
        pass
    end = text.find(_TOOLS_CLOSE, start)
    inner = text[start : end if end >= 0 else len(text)].strip()
    try:
        shown = [_literal(inner)]
    except ValueError:
        try:
            shown = [_literal(line) for line in inner.splitlines() if line.strip()]
        except ValueError:
            return None, start + len(inner)
    return [tool for value in shown for tool in (value if isinstance(value, list) else [value])], start + len(inner)


def _as_json(text: str) -> str:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        try:
            return f"\n{json.dumps(_literal(text), ensure_ascii=False)}\n"
        except ValueError:
            return text
    return text


def _literal(text: str) -> Any:
    """The JSON value that a Python literal shows; nothing is run. Raises `ValueError` where it is none."""
    try:
        value = ast.literal_eval(text.strip())
        return json.loads(json.dumps(value, allow_nan=False))
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(str(error)) from None
