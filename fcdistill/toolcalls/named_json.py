"""Calls whose name stands between marks and whose arguments are a JSON object behind it.

One reader for the formats of this kind, told apart by their `Marks`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fcdistill.records import ToolCall
from fcdistill.toolcalls.dialect import Attempt, ErrorKind, Found, Source, one_region
from fcdistill.toolcalls.json_text import json_text, lex, named_attempt, plain_end

__all__ = ["Marks", "read_named", "write_named"]


@dataclass(frozen=True)
class Marks:
    """The marks of one format.

    Attributes:
        dialect: whose they are.
        opening: opens a block of calls; empty where each call stands for itself.
        call: matches what stands before a call's arguments, with its name in the group `name`.
        call_end: matches what stands behind them.
        closing: closes a block of calls.
        write_call: what is written before the arguments, for a `name` and its `number` in the answer, from 0.
        write_end: what is written behind them.
        between: stands between calls, as they are written.
    """

    dialect: str
    opening: str
    call: re.Pattern[str]
    call_end: re.Pattern[str]
    closing: str
    write_call: str
    write_end: str
    between: str = ""


def read_named(source: Source, start: int, marks: Marks) -> Found:
    """The block of calls at `start`. A block whose end the stop token took is whole if its last call is."""
    text = source.text
    position = start + len(marks.opening)
    attempts: list[Attempt] = []
    kind: ErrorKind | None = None
    while True:
        position = source.skip_space(position)
        opened = marks.call.match(text, position)
        if opened is None:
            break
        begin = opened.end()
        end, doubled = plain_end(text, begin) if text.startswith("{", begin) else None, frozenset[int]()
        root = (begin, end or begin)
        if end is None:
            value = lex(text, begin) if text.startswith("{", begin) else None
            if value is None or not value.complete:
                kind = "unclosed" if begin == len(text) or (value is not None and value.at_text_end) else "invalid_json"
                position = value.end if value is not None else begin
                break
            end, root, doubled = value.end, value.root, frozenset(value.doubled)
        attempts.append(named_attempt(source, opened.span("name"), root, doubled))
        position = end
        closed = marks.call_end.match(text, end)
        if closed is not None:
            position = closed.end()
        elif source.skip_space(end) < len(text) or source.truncated:
            kind = "invalid_json" if source.skip_space(end) < len(text) else "unclosed"
            break
        if not marks.opening:
            return one_region(marks.dialect, start, position, attempts)
    if kind is None and attempts:
        after = source.skip_space(position)
        if text.startswith(marks.closing, after):
            return one_region(marks.dialect, start, after + len(marks.closing), attempts)
        if after == len(text) and not source.truncated:
            return one_region(marks.dialect, start, after, attempts)
        kind = "unclosed" if after == len(text) else "invalid_syntax"
    kind = kind or ("unclosed" if source.skip_space(position) == len(text) else "invalid_syntax")
    close = source.find(marks.closing, position) if marks.closing else len(text)
    end = close + len(marks.closing) if close < len(text) else source.next_marker(max(position, start + 1))
    return one_region(marks.dialect, start, end, attempts, kind)


def write_named(calls: Sequence[ToolCall], marks: Marks) -> str:
    """Calls in a format. Raises `ValueError` where an argument is NaN or infinite."""
    texts = [
        f"{marks.write_call.format(name=call.name, number=number)}{json_text(call.arguments)}{marks.write_end}"
        for number, call in enumerate(calls)
    ]
    return f"{marks.opening}{marks.between.join(texts)}{marks.closing}" if texts else ""
