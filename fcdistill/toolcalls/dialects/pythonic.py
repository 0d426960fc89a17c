"""Calls as Python writes them: `[set_light(room="kitchen", state="on"), lock(door="front")]`.

Written by Llama 3.2 and 4, ToolACE and Gemma 3, and between marks of their own by LFM2 and Olmo 3, by the latter one
call a line and without brackets. Arguments are keywords; where the tool is known, values without a keyword take its
parameters in their order.

Source: Meta's prompt format for Llama 3.2, section "Zero-shot function calling"; vLLM's `pythonic_tool_parser.py` and
`lfm2_tool_parser.py`; the chat templates of LiquidAI/LFM2.
"""

import re
from collections.abc import Sequence
from typing import Any

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Attempt, Dialect, Found, Part, ServerParsers, Source, attempt_error, one_region
from fcdistill.toolcalls.literals import PYTHON, LiteralError, read_literal, write_literal

__all__ = ["LFM2", "LLAMA4_PYTHONIC", "OLMO3", "PYTHONIC"]

_CALL_NAME = re.compile(r"\s*([A-Za-z_][\w.\-]*)\s*\(")
_KEYWORD = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)\s*")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*\Z")
_LIST = r"\[[ \t\n]*[A-Za-z_][\w.\-]*\("
_ALONE = r"\s*[A-Za-z_][\w.\-]*\((?=\s*(?:[A-Za-z_]\w*\s*=|\)))"
_BETWEEN = re.compile(r"[\s,;]*")


def _read_calls(source: Source, position: int, closing: str) -> tuple[list[Attempt], int, LiteralError | None]:
    """Calls up to a closing mark: where that stands, and what stopped the reading before it."""
    text, attempts = source.text, list[Attempt]()
    while True:
        between = _BETWEEN.match(text, position)
        position = between.end() if between else position
        if closing and text.startswith(closing, position):
            return attempts, position, None
        name = _CALL_NAME.match(text, position)
        if name is None:
            at_end = position >= len(text)
            error = LiteralError("unclosed" if at_end else "invalid_syntax", "", position, at_text_end=at_end)
            return attempts, position, error
        try:
            attempt, position = _read_call(source, name)
        except LiteralError as error:
            return attempts, position, error
        attempts.append(attempt)
        if not closing:
            return attempts, position, None


def _read_call(source: Source, name: re.Match[str]) -> tuple[Attempt, int]:
    text = source.text
    tool, start, position = name[1], name.start(1), name.end()
    parts: list[Part] = [(*name.span(1), "name")]
    arguments: dict[str, Any] = {}
    nameless: list[Any] = []
    while not text.startswith(")", position := source.skip_space(position)):
        keyword = _KEYWORD.match(text, position)
        is_mapping = text.startswith("**", position)
        begin = keyword.end() if keyword else position + 2 * is_mapping
        literal = read_literal(text, begin, PYTHON)
        if keyword:
            parts.append((*keyword.span(1), "arg_key"))
            given = {keyword[1]: literal.value}
        elif is_mapping and isinstance(literal.value, dict):
            given = literal.value
        else:
            nameless.append(literal.value)
            given = {}
        parts += literal.parts
        if twice := given.keys() & arguments.keys():
            raise LiteralError("duplicate_key", f"argument {min(twice)!r} is given more than once", position)
        arguments |= given
        position = source.skip_space(literal.end)
        if text.startswith(",", position):
            position += 1
        elif not text.startswith(")", position):
            at_end = position >= len(text)
            raise LiteralError(
                "unclosed" if at_end else "invalid_syntax", f"expected ',' or ')' at character {position}", position,
                at_text_end=at_end,
            )  # fmt: skip
    span = (start, position + 1)
    properties = source.tools.get(tool, {}).get("properties", {})
    free = [key for key in properties if key not in arguments]
    if len(nameless) > len(free):
        error = attempt_error("not_a_call", span, "a value has no name, and the tool has no parameter for it")
        return Attempt(span, error, lambda: parts), span[1]
    arguments = {**dict(zip(free, nameless, strict=False)), **arguments}
    return Attempt(span, ToolCall(name=tool, arguments=arguments), lambda: parts), span[1]


def _read_list(source: Source, start: int) -> Found | None:
    """A list of calls, with which a line begins."""
    opening, line = start, source.text.rfind("\n", 0, start) + 1
    if source.text[line:opening].strip():
        return None
    attempts, end, error = _read_calls(source, opening + 1, "]")
    names = [attempt.verdict.name for attempt in attempts if isinstance(attempt.verdict, ToolCall)]
    first = _CALL_NAME.match(source.text, opening + 1)
    is_known = first is not None and first[1] in source.tools
    if error is None:
        return one_region("pythonic", opening, end + 1, attempts) if names or is_known else None
    # A list in prose, such as "[see(page 3)]", is no call; one of a known tool, or with a keyword, tries to be.
    has_keyword = first is not None and _KEYWORD.match(source.text, first.end())
    if not (is_known or has_keyword):
        return None
    return one_region("pythonic", opening, _error_end(source, error), attempts, error.kind, str(error))


def _read_alone(source: Source, start: int) -> Found | None:
    """A call that is the whole answer, without brackets: of a known tool alone."""
    name = _CALL_NAME.match(source.text, start)
    if name is None or name[1] not in source.tools:
        return None
    attempts, end, error = _read_calls(source, name.start(1), "")
    if error is not None:
        return one_region("pythonic", name.start(1), _error_end(source, error), attempts, error.kind, str(error))
    return one_region("pythonic", name.start(1), end, attempts)


def _read_pythonic(source: Source, start: int) -> Found | None:
    return _read_list(source, start) if source.text[start] == "[" else _read_alone(source, start)


def _marked(name: str, opening: str, closing: str, servers: ServerParsers, *, is_list: bool = True) -> Dialect:
    """Calls between two marks of a model: a list, or one call a line; brackets may be left out in either case."""

    def read(source: Source, start: int) -> Found:
        text, body = source.text, source.skip_space(start + len(opening))
        has_brackets = text.startswith("[", body)
        attempts, end, error = _read_calls(source, body + has_brackets, "]" if has_brackets else closing)
        if error is not None and error.at_text_end and attempts and not has_brackets and not source.truncated:
            return one_region(name, start, len(text), attempts)  # the closing token ended the answer
        if error is not None:
            # A closing mark behind a text that is left open is part of it.
            close = len(text) if error.at_text_end else source.find(closing, error.position)
            end = min(close + len(closing), len(text))
            return one_region(name, start, end, attempts, error.kind, str(error))
        end = source.skip_space(end + has_brackets)
        if text.startswith(closing, end):
            return one_region(name, start, end + len(closing), attempts)
        if end == len(text) and not source.truncated:
            return one_region(name, start, end, attempts)
        return one_region(name, start, end, attempts, "unclosed" if end == len(text) else "invalid_syntax")

    def write(calls: Sequence[ToolCall]) -> str:
        inner = _write(calls) if is_list else "\n".join(map(_call_text, calls))
        return f"{opening}{inner}{closing}" if calls else ""

    return Dialect(name, (opening,), read, write, closing=closing, syntax="python", servers=servers)


def _write(calls: Sequence[ToolCall]) -> str:
    return f"[{', '.join(map(_call_text, calls))}]" if calls else ""


def _call_text(call: ToolCall) -> str:
    named = {key: value for key, value in call.arguments.items() if _IDENTIFIER.match(key)}
    others = {key: value for key, value in call.arguments.items() if key not in named}
    texts = [f"{key}={write_literal(value, PYTHON)}" for key, value in named.items()]
    return f"{call.name}({', '.join([*texts, *([f'**{write_literal(others, PYTHON)}'] if others else [])])})"


def _error_end(source: Source, error: LiteralError) -> int:
    """Where a list ends that is broken: at the end of its line, or before the next mark."""
    line_end = source.text.find("\n", error.position)
    end = len(source.text) if line_end < 0 or error.at_text_end else line_end
    return max(source.next_marker(error.position, end), error.position)


PYTHONIC = Dialect(
    name="pythonic",
    openings=(),
    pattern=_LIST,
    beginning=_ALONE,
    read=_read_pythonic,
    write=_write,
    syntax="python",
    servers=ServerParsers(vllm="pythonic", sglang="pythonic"),
)
LFM2 = _marked("lfm2", "<|tool_call_start|>", "<|tool_call_end|>", ServerParsers("lfm2", "lfm2"))
LLAMA4_PYTHONIC = _marked("llama4", "<|python_start|>", "<|python_end|>", ServerParsers("llama4_pythonic", "pythonic"))
OLMO3 = _marked("olmo3", "<function_calls>", "</function_calls>", ServerParsers("olmo3"), is_list=False)
