"""Text to tool calls and back, in every dialect that models write.

Malformed output is data: a region of the text that tries to be a call and fails becomes a `ParseError` and leaves the
other regions alone. What a model thinks is set apart before anything is read. Reading is strict about JSON (duplicate
keys, NaN, unclosed blocks) and takes time linear in the text. Whether a called tool exists and its arguments fit is
not known here (`validation`), nor what a prompt looks like (`rendering`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fcdistill.config import TokenClass
from fcdistill.records import ParseError, ToolCall, ToolSpec
from fcdistill.toolcalls.dialect import Region
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.json_text import BETWEEN
from fcdistill.toolcalls.regions import MARKERS, find_regions, is_settled
from fcdistill.toolcalls.thinking import thought_marks, thought_text

__all__ = ["ParsedOutput", "call_spans", "class_spans", "is_complete", "markup_spans", "parse_output", "render_calls"]

_LONGEST_FIRST = sorted(MARKERS, key=len, reverse=True)

_SEPARATORS = " \t\r\n;,"
"""What stands between calls and is no text."""


@dataclass(frozen=True)
class ParsedOutput:
    """What one model output says.

    Attributes:
        calls: the calls, in the order in which they stand.
        errors: the regions that look like a call and are not one.
        text: what stands outside all of these and of thoughts, stripped.
        thought: what the model thought, without the marks round it; empty where it did not.
        is_unfinished: the last thought is not finished, so that there is no answer.
        dialects: of the regions that are calls or try to be, in the order in which they stand.
    """

    calls: tuple[ToolCall, ...]
    errors: tuple[ParseError, ...]
    text: str
    thought: str = ""
    is_unfinished: bool = False
    dialects: tuple[str, ...] = ()


def parse_output(
    text: str, specs: Sequence[ToolSpec] = (), *, truncated: bool = False, expected: str | None = None
) -> ParsedOutput:
    """Read the calls of a model's output; never raises.

    Args:
        text: the output without its stop token, special tokens kept.
        specs: the tools that could be called: some dialects do not say of what type a value is.
        truncated: the output ended at a length limit; then any JSON object left open at its end counts as a failed
            call, not as prose.
        expected: the dialect that the model's template writes; others are read too.
    """
    calls: list[ToolCall] = []
    errors: list[ParseError] = []
    dialects: dict[str, None] = {}
    thoughts: list[Region] = []
    regions = find_regions(text, _tools(specs), truncated=truncated, expected=expected)
    for region in regions:
        if region.is_thought:
            thoughts.append(region)
            continue
        for attempt in region.attempts:
            if isinstance(attempt.verdict, ToolCall):
                calls.append(attempt.verdict)
            else:
                errors.append(attempt.verdict)
        if region.error is not None:
            errors.append(region.error)
        if region.is_call:
            dialects[region.dialect] = None
    prose = [text[start:end].strip() for start, end, structural in _gaps(text, regions) if not structural]
    return ParsedOutput(
        calls=tuple(calls),
        errors=tuple(errors),
        text="\n".join(filter(None, prose)),
        thought="\n".join(map(partial(_thought_of, text), thoughts)) if thoughts else "",
        is_unfinished=bool(thoughts) and not all(region.closed for region in thoughts),
        dialects=tuple(dialects),
    )


def is_complete(text: str, *, expected: str | None = None) -> bool:
    """Whether decoding can stop: all call blocks are closed, and what follows the last one is no further call."""
    regions = find_regions(text, expected=expected, going_on=True)
    if not regions or not regions[-1].is_call or regions[-1].is_thought:
        return False
    if not all(is_settled(text, region) for region in regions):
        return False
    rest = BETWEEN.sub("", text[regions[-1].end :], count=1)
    may_become_a_call = any(marker.startswith(rest) for marker in MARKERS) or rest.startswith(("{", "["))
    return bool(rest) and not may_become_a_call


def render_calls(calls: Sequence[ToolCall], dialect: str = "hermes") -> str:
    """The text of these calls; `parse_output` reads them back from it.

    Raises:
        ValueError: an argument is NaN or infinite.
    """
    return DIALECTS[dialect].write(calls)


def class_spans(
    completion: str, specs: Sequence[ToolSpec] = (), *, expected: str | None = None
) -> list[tuple[int, int, TokenClass]]:
    """Character spans `(start, end, class)` that tile a completion, in order.

    Tool names are `name`, the keys inside the arguments `arg_key`, their scalars `arg_value`, prose `text`, thoughts
    with the marks round them `thought`; quotes, braces, tags and the call's own keys are `structure`.
    """
    regions = find_regions(completion, _tools(specs), expected=expected)
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
        for start, end, kind in (part for attempt in region.attempts for part in attempt.parts()):
            add(position, start, "structure")
            add(start, end, kind)
            position = end
        add(position, region.end, "thought" if region.is_thought else "structure")
        if region.end in gaps:
            end, structural = gaps[region.end]
            add(region.end, end, "structure" if structural else "text")
    return spans


def call_spans(
    completion: str, specs: Sequence[ToolSpec] = (), *, expected: str | None = None
) -> list[tuple[int, int, str]]:
    """Character spans `(start, end, tool)` of the calls of a completion that can be read, in order."""
    return [
        (*attempt.span, attempt.verdict.name)
        for region in find_regions(completion, _tools(specs), expected=expected)
        for attempt in region.attempts
        if isinstance(attempt.verdict, ToolCall)
    ]


def markup_spans(completion: str, *, expected: str | None = None) -> list[tuple[int, int]]:
    """Character spans of what frames calls and thoughts and is part of no name, key, value, thought or prose.

    Of a call that can't be read only the mark that opens it is one, since what is text in the rest nobody can say.
    """
    spans: list[tuple[int, int]] = []
    for region in find_regions(completion, expected=expected):
        if region.is_thought:
            spans += thought_marks(completion, region.start, region.end)
        elif region.error is None and all(isinstance(attempt.verdict, ToolCall) for attempt in region.attempts):
            parts = [part[:2] for attempt in region.attempts for part in attempt.parts()]
            edges = [region.start, *(edge for part in parts for edge in part), region.end]
            spans += zip(edges[::2], edges[1::2], strict=True)
        elif mark := next((mark for mark in _LONGEST_FIRST if completion.startswith(mark, region.start)), ""):
            spans.append((region.start, region.start + len(mark)))
    return spans


def _tools(specs: Sequence[ToolSpec]) -> Mapping[str, Mapping[str, Any]]:
    return {spec.name: spec.parameters for spec in specs}


def _gaps(text: str, regions: Sequence[Region]) -> Iterator[tuple[int, int, bool]]:
    """Spans outside the regions, and whether each is only what separates or surrounds calls."""
    position = 0
    for index, region in enumerate(regions):
        if position < region.start:
            yield position, region.start, not text[position : region.start].strip(_SEPARATORS if index else None)
        position = region.end
    if position < len(text):
        yield position, len(text), bool(regions) and not text[position:].strip()


def _thought_of(text: str, region: Region) -> str:
    return thought_text(text[region.start : region.end])
