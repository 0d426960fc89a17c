"""Text to tool calls and back, in every dialect that models write.

Malformed output is data: a region of the text that tries to be a call and fails becomes a `ParseError` and leaves the
other regions alone. Reading is strict about JSON (duplicate keys, NaN, unclosed blocks) and takes time linear in the
text. Whether a called tool exists and its arguments fit is not known here (`validation`), nor what a prompt looks like
(`prompts`).

Dialects: hermes/qwen `<tool_call>` blocks, llama3 `<|python_tag|>` and bare objects with `parameters`, mistral
`[TOOL_CALLS]`, fenced blocks, bare JSON. Braces may be doubled, `{{"name": ...}}`, as Qwen2.5-Coder writes them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from fcdistill.config import TokenClass
from fcdistill.records import ParseError, ToolCall
from fcdistill.storage import StrictJsonError, loads_strict
from fcdistill.toolcalls.regions import (
    BETWEEN,
    CLOSE_TAG,
    MARKERS,
    OPEN_TAG,
    TOKEN,
    ErrorKind,
    Item,
    Region,
    find_regions,
)

__all__ = ["Dialect", "ParsedOutput", "call_spans", "class_spans", "is_complete", "parse_output", "render_calls"]

Dialect = Literal["hermes", "llama3", "mistral", "json", "fenced"]

_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class ParsedOutput:
    """What one model output says.

    Attributes:
        calls: the calls, in the order in which they stand.
        errors: the regions that look like a call and are not one.
        text: what stands outside all of these, stripped.
    """

    calls: tuple[ToolCall, ...]
    errors: tuple[ParseError, ...]
    text: str


def parse_output(text: str, *, truncated: bool = False) -> ParsedOutput:
    """Read the calls of a model's output; never raises.

    Args:
        text: the output without its stop token, special tokens kept.
        truncated: the output ended at a length limit; then any JSON object left open at its end counts as a failed
            call, not as prose.
    """
    calls: list[ToolCall] = []
    errors: list[ParseError] = []
    regions = find_regions(text, truncated=truncated)
    for region in regions:
        for item in region.items:
            verdict = _read_item(text, item)
            if isinstance(verdict, ToolCall):
                calls.append(verdict)
            else:
                errors.append(verdict)
        if region.error is not None:
            errors.append(region.error)
    prose = [text[start:end].strip() for start, end, structural in _gaps(text, regions) if not structural]
    return ParsedOutput(tuple(calls), tuple(errors), "\n".join(part for part in prose if part))


def is_complete(text: str) -> bool:
    """Whether decoding can stop: a call block is closed and what follows it is no further call."""
    regions = find_regions(text, truncated=False)
    if not regions or not regions[-1].closed:
        return False
    rest = BETWEEN.sub("", text[regions[-1].end :], count=1)
    may_become_a_call = any(marker.startswith(rest) for marker in MARKERS) or rest.startswith(("{", "["))
    return bool(rest) and not may_become_a_call


def render_calls(calls: Sequence[ToolCall], dialect: Dialect = "hermes") -> str:
    """The text of these calls; `parse_output` reads them back from it.

    Raises:
        ValueError: an argument is NaN or infinite.
    """
    key = "parameters" if dialect == "llama3" else "arguments"
    texts = [
        json.dumps({"name": call.name, key: call.arguments}, ensure_ascii=False, allow_nan=False) for call in calls
    ]
    if not texts:
        return ""
    if dialect == "hermes":
        return "\n".join(f"{OPEN_TAG}\n{text}\n{CLOSE_TAG}" for text in texts)
    if dialect == "llama3":
        return "; ".join(texts)
    if dialect == "mistral":
        return f"[TOOL_CALLS] [{', '.join(texts)}]"
    if dialect == "fenced":
        return "```json\n" + "\n".join(texts) + "\n```"
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def class_spans(completion: str) -> list[tuple[int, int, TokenClass]]:
    """Character spans `(start, end, class)` that tile a completion, in order.

    Tool names are `name`, the keys inside the arguments `arg_key`, their scalars `arg_value`, prose `text`; quotes,
    braces, tags and the call's own keys are `structure`.
    """
    regions = find_regions(completion, truncated=False)
    spans: list[tuple[int, int, TokenClass]] = []

    def add(start: int, end: int, kind: TokenClass) -> None:
        if spans and spans[-1][2] == kind:
            start = spans.pop()[0]
        if end > start:
            spans.append((start, end, kind))

    gaps = {start: (end, structural) for start, end, structural in _gaps(completion, regions)}
    if 0 in gaps:
        add(0, gaps[0][0], "structure" if gaps[0][1] else "text")
    for region in regions:
        position = region.start
        for start, end, kind in (part for item in region.items for part in _item_parts(completion, item)):
            add(position, start, "structure")
            add(start, end, kind)
            position = end
        add(position, region.end, "structure")
        if region.end in gaps:
            end, structural = gaps[region.end]
            add(region.end, end, "structure" if structural else "text")
    return spans


def call_spans(completion: str) -> list[tuple[int, int, str]]:
    """Character spans `(start, end, tool)` of the calls of a completion that can be read, in order."""
    spans: list[tuple[int, int, str]] = []
    for item in (item for region in find_regions(completion, truncated=False) for item in region.items):
        call = _read_item(completion, item)
        if isinstance(call, ToolCall):
            start = item.span[0] if item.name_span is None else min(item.span[0], item.name_span[0])
            spans.append((start, item.span[1], call.name))
    return spans


def _gaps(text: str, regions: Sequence[Region]) -> Iterator[tuple[int, int, bool]]:
    """Spans outside the regions, and whether each is only what separates or surrounds calls."""
    edges = [0, *(edge for region in regions for edge in (region.start, region.end)), len(text)]
    for index in range(0, len(edges), 2):
        start, end = edges[index], edges[index + 1]
        if start < end:
            is_between = 0 < index < len(edges) - 2
            structural = bool(regions) and not text[start:end].strip(" \t\r\n;," if is_between else None)
            yield start, end, structural


def _read_item(text: str, item: Item) -> ToolCall | ParseError:
    start, end = item.span

    def error(kind: ErrorKind, detail: str) -> ParseError:
        return ParseError(kind=kind, detail=detail, start=start, end=end)

    raw = text[start:end]
    if item.doubled:
        raw = "".join(character for index, character in enumerate(raw, start) if index not in item.doubled)
    try:
        value = loads_strict(raw)
        if item.name_span is not None:
            value = {"name": text[slice(*item.name_span)], "arguments": value}
        if not isinstance(value, dict):
            return error("not_a_call", "found no JSON object")
        name = value.get("name")
        if not isinstance(name, str) or not name:
            return error("not_a_call", 'the object has no string "name"')
        key = "arguments" if "arguments" in value else "parameters"
        if {"description", "parameters"} <= value.keys():
            return error("not_a_call", "the object describes a tool and does not call it")
        if key not in value and not item.name_alone_is_a_call:
            return error("not_a_call", 'the object has no "arguments"')
        arguments: Any = value.get(key, {})
        if isinstance(arguments, str):
            arguments = loads_strict(arguments)
        if not isinstance(arguments, dict):
            return error("not_a_call", f'"{key}" is not an object')
    except StrictJsonError as problem:
        return error(cast(ErrorKind, problem.kind), str(problem))
    return ToolCall(name=name, arguments=arguments)


def _item_parts(text: str, item: Item) -> Iterator[tuple[int, int, TokenClass]]:
    """Spans of names, argument keys and argument values inside an item, in order; the rest is structure."""
    if item.name_span is not None:
        yield (*item.name_span, "name")
    envelope_depth = 0 if item.name_span is not None else None
    section = "arguments" if item.name_span is not None else ""
    depth = 0
    position, end = item.span
    while position < end and (match := TOKEN.match(text, position, end)):
        string, mark, _ = match.groups()
        start, position = match.start(match.lastindex or 0), match.end()
        if mark is not None:
            depth += (mark in "{[") - (mark in "}]")
            continue
        after = _SPACE.match(text, position, end)
        is_key = string is not None and after is not None and text[after.end() : after.end() + 1] == ":"
        if string is not None:
            start, stop = start + 1, position - 1
        else:
            stop = position
        if is_key and envelope_depth is None:
            envelope_depth = depth
        if is_key and depth == envelope_depth:
            section = text[start:stop]
        elif section == "name" and depth == envelope_depth:
            yield start, stop, "name"
        elif section in ("arguments", "parameters"):
            yield start, stop, "arg_key" if is_key else "arg_value"
