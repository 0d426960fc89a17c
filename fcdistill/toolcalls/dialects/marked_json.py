"""JSON between marks of a model's own: lists of calls, or one behind the other.

    Granite 3    <|tool_call|>[{"name": "set_light", "arguments": {"room": "kitchen"}}]
    Granite 20B  <function_call>{"name": "set_light", "arguments": {"room": "kitchen"}}; GigaChat with <|function_call|>
    Phi-4-mini   functools[{"name": "set_light", "arguments": {"room": "kitchen"}}]
    Nemotron 2   <TOOLCALL>[{"name": "set_light", "arguments": {"room": "kitchen"}}]</TOOLCALL>
    MiniMax M1   <tool_calls>, an object a line, </tool_calls>; Hunyuan and Jamba with a list
    Cohere       <|START_ACTION|>[{"tool_call_id": "0", "tool_name": "set_light", "parameters": {...}}]<|END_ACTION|>
    Apertus      <|tools_prefix|>[{"set_light": {"room": "kitchen"}}]<|tools_suffix|>
    InternLM 2   <|action_start|><|plugin|>{"name": "set_light", "parameters": {...}}<|action_end|>

Source: the chat templates of these models; vLLM's `granite_tool_parser.py`, `phi4mini_tool_parser.py`,
`nemotron_nano_v2_tool_parser.py`, `minimax_tool_parser.py`, `hunyuan_a13b_tool_parser.py`, `jamba_tool_parser.py`,
`cohere_command_tool_parser.py`, `apertus_tool_parser.py` and `internlm2_tool_parser.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import (
    Attempt,
    Dialect,
    ErrorKind,
    Found,
    ServerParsers,
    Source,
    Span,
    attempt_error,
    one_region,
)
from fcdistill.toolcalls.json_text import BETWEEN, Item, json_attempt, json_text, lex, named_attempt

__all__ = ["APERTUS", "COHERE", "GIGACHAT", "GRANITE3", "GRANITE_20B", "INTERNLM2", "MINIMAX_M1", "NEMOTRON2", "PHI4"]

_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*:\s*')


@dataclass(frozen=True)
class _Marks:
    """The marks of one format, and what the objects between them look like.

    Attributes:
        dialect: whose they are.
        opening: before the first call.
        closing: behind the last; empty where nothing stands there.
        name_key: of an object, the key of the tool's name; empty where the name itself is the key of the arguments.
        arguments_key: of an object, the key of the arguments.
        layout: how several calls are written: as a list, one a line, or each with the marks of its own.
        pad: stands inside of the marks, as they are written.
    """

    dialect: str
    opening: str
    closing: str
    name_key: str = "name"
    arguments_key: str = "arguments"
    layout: Literal["list", "lines", "marked"] = "list"
    pad: str = ""


def _read(source: Source, start: int, marks: _Marks) -> Found:
    text = source.text
    position = source.skip_space(start + len(marks.opening))
    attempts: list[Attempt] = []
    kind: ErrorKind | None = None
    end = position
    while text.startswith(("{", "["), position):
        value = lex(text, position)
        spans = [item.span for item in value.declared_items(text)]
        attempts += [_attempt(source, span, value.doubled, marks) for span in spans]
        end = value.end
        if not value.complete:
            kind = "unclosed" if value.at_text_end else "invalid_json"
            break
        between = BETWEEN.match(text, end)
        position = between.end() if between else end
    if kind is None and not attempts and end == source.skip_space(start + len(marks.opening)):
        kind = "unclosed" if end == len(text) else "invalid_json"
    if kind is None and marks.closing:
        after = source.skip_space(end)
        if text.startswith(marks.closing, after):
            return one_region(marks.dialect, start, after + len(marks.closing), attempts)
        if after < len(text) or source.truncated:
            kind = "unclosed" if after == len(text) else "invalid_json"
    if kind is None:
        return one_region(marks.dialect, start, end, attempts)
    close = source.find(marks.closing, end) if marks.closing else len(text)
    reached = close + len(marks.closing) if close < len(text) else source.next_marker(max(end, start + 1))
    return one_region(marks.dialect, start, reached, attempts, kind)


def _attempt(source: Source, span: Span, doubled: set[int], marks: _Marks) -> Attempt:
    if marks.name_key:
        return json_attempt(source, Item(span, doubled, name_alone_is_a_call=True, name_key=marks.name_key))
    key = _KEY.match(source.text, *span)
    if key is None:
        return Attempt(span, attempt_error("not_a_call", span, "found no object whose key is the name of a tool"))
    value = lex(source.text, key.end())
    if not value.complete or source.text[value.end : span[1]].strip() != "}":
        return Attempt(span, attempt_error("not_a_call", span, "found no object with one tool and its arguments"))
    return named_attempt(source, key.span(1), value.root, value.doubled)


def _write(calls: Sequence[ToolCall], marks: _Marks) -> str:
    texts = [json_text(_object(call, number, marks)) for number, call in enumerate(calls)]
    if not texts:
        return ""
    if marks.layout == "marked":
        return "".join(f"{marks.opening}{text}{marks.closing}" for text in texts)
    body = f"[{', '.join(texts)}]" if marks.layout == "list" else "\n".join(texts)
    return f"{marks.opening}{marks.pad}{body}{marks.pad}{marks.closing}"


def _object(call: ToolCall, number: int, marks: _Marks) -> dict[str, object]:
    if not marks.name_key:
        return {call.name: call.arguments}
    numbered = {"tool_call_id": str(number)} if marks.name_key == "tool_name" else {}
    return {**numbered, marks.name_key: call.name, marks.arguments_key: call.arguments}


def _dialect(marks: _Marks, servers: ServerParsers, openings: tuple[str, ...] = ()) -> Dialect:
    read, write = partial(_read, marks=marks), partial(_write, marks=marks)
    return Dialect(marks.dialect, openings or (marks.opening,), read, write, closing=marks.closing, servers=servers)


def _read_cohere(source: Source, start: int) -> Found:
    """Beside its calls, marks stand round what Cohere's models say in words."""
    for mark in _COHERE_PROSE:
        if source.text.startswith(mark, start):
            return one_region("cohere", start, start + len(mark))
    return _read(source, start, _COHERE)


_COHERE_PROSE = ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>")
_COHERE = _Marks("cohere", "<|START_ACTION|>", "<|END_ACTION|>", "tool_name", "parameters")

GRANITE3 = _dialect(_Marks("granite3", "<|tool_call|>", ""), ServerParsers("granite"))
GRANITE_20B = _dialect(_Marks("granite_20b", "<function_call>", "", layout="marked"), ServerParsers("granite-20b-fc"))
GIGACHAT = _dialect(
    _Marks("gigachat", "<|function_call|>", "", layout="marked"), ServerParsers("gigachat3", "gigachat3")
)
PHI4 = _dialect(_Marks("phi4", "functools", ""), ServerParsers("phi4_mini_json"), ("functools[",))
NEMOTRON2 = _dialect(_Marks("nemotron2", "<TOOLCALL>", "</TOOLCALL>"), ServerParsers("nemotron_json"))
MINIMAX_M1 = _dialect(
    _Marks("minimax_m1", "<tool_calls>", "</tool_calls>", layout="lines", pad="\n"), ServerParsers("minimax")
)
COHERE = Dialect(
    name="cohere",
    openings=("<|START_ACTION|>", *_COHERE_PROSE),
    read=_read_cohere,
    write=partial(_write, marks=_COHERE),
    closing=_COHERE.closing,
    servers=ServerParsers("cohere_command3", "cohere_command4"),
)
APERTUS = _dialect(
    _Marks("apertus", "<|tools_prefix|>", "<|tools_suffix|>", name_key=""), ServerParsers("apertus", "apertus2509")
)
INTERNLM2 = _dialect(
    _Marks("internlm2", "<|action_start|><|plugin|>", "<|action_end|>", arguments_key="parameters", layout="lines"),
    ServerParsers("internlm", "interns1"),
)
