"""Where in a model's output its thoughts and its calls stand, or what tries to be a call: one pass over the text.

Whoever's mark comes first reads on from there. What is read inside of a thought is no call. Marks that look like those
of a call and belong to no known dialect are an error, since a call that nobody can read is no answer in words.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

from fcdistill.records import ParseError
from fcdistill.toolcalls.dialect import UNKNOWN_DIALECT, Found, Reader, Region, Source, attempt_error
from fcdistill.toolcalls.dialects.table import DIALECTS
from fcdistill.toolcalls.thinking import OPENINGS, closing_before, thought_mark

__all__ = ["MARKERS", "UNKNOWN_MARK", "find_regions", "is_settled"]

MARKERS = tuple(dict.fromkeys(opening for dialect in DIALECTS.values() for opening in dialect.openings))
"""The marks with which calls begin."""

_THOUGHT = "thought"
UNKNOWN_MARK = (
    r"<[|｜]?[A-Za-z_▁:. -]{0,24}?(?:tool|function|func|action)[▁_ :-]?(?:call|calls|use|invoke|request)"
    r"(?:[▁_ :=-][^<>\n]{0,40})?[|｜]?>|\[TOOL_REQUEST\]|<invoke name=|<function=|<function name="
)
"""What looks like the mark of a call: the words for it in a tag or a special token, whatever else stands there."""


def find_regions(
    text: str,
    tools: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    truncated: bool = False,
    expected: str | None = None,
    going_on: bool = False,
) -> list[Region]:
    """The parts of a text that are thoughts or calls, or try to be calls, in order and without overlap.

    Args:
        text: an output without its stop token, special tokens kept.
        tools: the parameters of the tools that could be called, by name.
        truncated: it ended at a length limit.
        expected: the dialect that its model writes, which is asked first.
        going_on: more of it may be written: a call that is not settled is no draft of a thought, whatever mark of one
            stands in it.
    """
    source = Source(text, tools or {}, truncated, marker=_marker())
    regions: list[Region] = []
    position = 0
    while match := _next_start(text, position):
        start = match.start()
        if match.lastgroup == "thought":
            position = _read_thought(source, regions, start, match.group())
            continue
        found, position = _read(source, start, match.lastgroup or "", match.group(), expected)
        for region in found:
            closing = None
            if not _is_sound(region) and (is_settled(text, region) or not going_on):
                closing = closing_before(text, region.start, region.end)
            if closing is not None:  # what broke the call off is the end of a thought that the prompt has opened
                _close_thought(regions, closing)
                position = closing
                source.inside_fence = False
                break
            regions.append(region)
        position = max(position, start + 1)
    return regions


def _is_sound(region: Region) -> bool:
    """Whether nothing is wrong in it."""
    for attempt in region.attempts:
        if isinstance(attempt.verdict, ParseError):
            return False
    return region.error is None


def is_settled(text: str, region: Region) -> bool:
    """Whether a region of a text stays what it is, whatever is written behind it.

    One that can't be read is settled by its dialect's closing mark alone: where that is written by several tokens, what
    there is of it so far may look like something else, and so may a text in which other marks stand. Where a dialect
    has none, there has to be something behind the region.
    """
    if region.error is None:
        return True
    if not region.closed or region.dialect not in DIALECTS:
        return False
    closing = DIALECTS[region.dialect].closing
    return text.endswith(closing, region.start, region.end) if closing else region.end < len(text)


def _read(source: Source, start: int, kind: str, mark: str, expected: str | None) -> Found:
    """What begins at a place: read by the dialect that is expected, else by the first that knows it."""
    candidates = ((DIALECTS[kind].read, ""),) if kind in DIALECTS else _candidates(mark, expected)
    first: str | None = None
    for read, follows in candidates:
        if follows:
            if first is None:
                behind = source.skip_space(start + len(mark))
                first = source.text[behind : behind + 1]
            if first not in follows:
                continue
        found = read(source, start)
        if found is not None:
            return found
    if kind in DIALECTS:
        return [], start + len(mark)
    end = source.next_marker(start + len(mark))
    return [Region(start, end, UNKNOWN_DIALECT, error=attempt_error("unknown_dialect", (start, end)))], end


@functools.lru_cache(maxsize=1024)
def _candidates(mark: str, expected: str | None) -> tuple[tuple[Reader, str], ...]:
    """Who reads what begins with a mark, and what must follow there; the expected dialect first."""
    candidates = [dialect for dialect in DIALECTS.values() if mark in dialect.openings]
    candidates.sort(key=lambda dialect: dialect.name != expected)
    return tuple((dialect.read, dialect.follows.get(mark, "")) for dialect in candidates)


def _read_thought(source: Source, regions: list[Region], start: int, mark: str) -> int:
    """Note a thought, from what opens it to what closes it; returns where reading goes on."""
    closing = OPENINGS.get(mark)
    if closing is None:
        end = start + len(mark)
        _close_thought(regions, end)
        return end
    end = source.find(closing, start + len(mark))
    error = None
    if end == len(source.text):
        error = attempt_error("unclosed", (start, end), "the thought is not finished")
    else:
        end += len(closing)
    regions.append(Region(start, end, _THOUGHT, error=error, is_thought=True))
    return end


def _close_thought(regions: list[Region], end: int) -> None:
    """All up to here is a thought, whatever was read in it."""
    regions[:] = [Region(0, end, _THOUGHT, is_thought=True)]


@functools.cache
def _marker() -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(MARKERS, key=len, reverse=True))))


def _next_start(text: str, position: int) -> re.Match[str] | None:
    """What a thought or a call may begin with, from a place on."""
    if position == 0 and (match := _beginning().match(text)):
        return match
    possible, start = _possible(), _start()
    while found := possible.search(text, position):
        if match := start.match(text, found.start()):
            return match
        position = found.start() + 1
    return None


@functools.cache
def _start() -> re.Pattern[str]:
    """What a thought or a call may begin with: the groups are named for what it is."""
    patterns = [f"(?P<{dialect.name}>{dialect.pattern})" for dialect in DIALECTS.values() if dialect.pattern]
    known = [f"(?P<thought>{thought_mark()})", f"(?P<mark>{_marker().pattern})", *patterns]
    return re.compile("|".join([*known, f"(?P<unknown>{UNKNOWN_MARK})"]))


@functools.cache
def _possible() -> re.Pattern[str]:
    """Where that may be: found much faster than by trying all of it everywhere."""
    words = [mark for mark in MARKERS if mark[0].isalpha()]
    signs = {mark[0] for mark in (*MARKERS, *OPENINGS, *OPENINGS.values()) if not mark[0].isalpha()} | set("[{<")
    return re.compile(f"[{re.escape(''.join(sorted(signs)))}]" + "".join(f"|{re.escape(word)}" for word in words))


@functools.cache
def _beginning() -> re.Pattern[str]:
    """What a call may begin with at the very start of an answer alone."""
    patterns = [f"(?P<{dialect.name}>{dialect.beginning})" for dialect in DIALECTS.values() if dialect.beginning]
    return re.compile("|".join(patterns))
