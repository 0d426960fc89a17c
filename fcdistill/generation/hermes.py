"""Conversations as ShareGPT turns with Hermes's text: `from`/`value`, tools and calls written out in tags.

Tools stand in the system turn, since many trainers read nothing but the turns; what the system message says itself
comes after them, so that it can be told from them again. Whether the turns make a trace is not known here
(`importing`).
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from fcdistill.records import FunctionTool, Message, ToolSpec
from fcdistill.toolcalls import render_calls

__all__ = ["TurnError", "read_system", "read_tool_results", "write_turns"]

_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}
_BEFORE_TOOLS = "You can call these functions, given as JSON Schemas:"
_AFTER_TOOLS = (
    "To call functions, answer with one such block per call and nothing else:\n"
    '<tool_call>\n{"name": "FUNCTION", "arguments": {"ARGUMENT": "VALUE"}}\n</tool_call>\n'
    "When no function fits or a required value is missing, answer in words."
)
_TOOLS = re.compile(r"<tools>(.*)</tools>", re.DOTALL)
_RESULT = re.compile(r"<tool_response>\n?(.*?)\n?</tool_response>", re.DOTALL)


class TurnError(ValueError):
    """Turns that are no such conversation; the message says why."""


def write_turns(messages: Sequence[Message], specs: Sequence[ToolSpec]) -> list[dict[str, str]]:
    """The turns of a conversation; `toolcalls.parse_output` reads the calls back from them."""
    own = messages[0].content if messages[0].role == "system" else ""
    rest = messages[1:] if messages[0].role == "system" else messages
    system = "\n\n".join(part for part in (_tools_text(specs), own) if part)
    turns = [{"from": "system", "value": system}] if system else []
    return turns + [{"from": _ROLES[message.role], "value": _value(message)} for message in rest]


def read_system(text: str) -> tuple[str, list[Any] | None]:
    """What a system turn says itself, and the tools in it; None where it holds none.

    A foreign wording round the tools only tells how to call, so it is dropped with them.

    Raises:
        TurnError: the tools are not JSON.
    """
    block = _TOOLS.search(text)
    if block is None:
        return text, None
    _, ours, own = text[block.end() :].partition(_AFTER_TOOLS)
    return own.strip() if ours else "", _tools(block.group(1))


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


def _tools(text: str) -> list[Any]:
    """The tools between the tags: one array, or objects one after the other."""
    decoder = json.JSONDecoder()
    found: list[Any] = []
    place = 0
    while text[place:].strip(" \t\r\n,"):
        place += len(text[place:]) - len(text[place:].lstrip(" \t\r\n,"))
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise TurnError(f"the tools of the system turn are no JSON: {error}") from None
        found += value if isinstance(value, list) else [value]
    return found
