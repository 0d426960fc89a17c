"""What a dialect is: one way in which models write calls. And what its reader is given and gives back.

A reader is a function that stands at a place of a model's output where its dialect may begin, and says which regions
of the text are calls, or try to be, and where reading goes on. It never raises: what is malformed is data.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fcdistill.records import ParseError, ToolCall

__all__ = [
    "ArgumentSyntax",
    "Attempt",
    "Dialect",
    "ErrorKind",
    "Found",
    "Part",
    "Reader",
    "Region",
    "ServerParsers",
    "Source",
    "Span",
    "Tags",
    "UNKNOWN_DIALECT",
    "attempt_error",
    "one_region",
]

ErrorKind = Literal[
    "invalid_json", "invalid_syntax", "duplicate_key", "not_finite", "unclosed", "not_a_call", "unknown_dialect"
]
UNKNOWN_DIALECT = "unknown"
"""Whose the marks of a call are that no dialect has."""

Span = tuple[int, int]
Part = tuple[int, int, Literal["name", "arg_key", "arg_value"]]
"""A stretch of a call: start, end, and what stands there."""
ArgumentSyntax = Literal["json", "python", "xml", "bare"]
"""How arguments are written: JSON; Python's keywords; a tag for each; keys without quotes."""

_DETAILS: dict[ErrorKind, str] = {
    "unclosed": "the block is not closed",
    "invalid_json": "the block does not hold one valid JSON value",
    "invalid_syntax": "the block does not hold a call as this format writes it",
    "unknown_dialect": "the marks of a call in no known format",
}


class Attempt(NamedTuple):
    """A call, or what tried to be one.

    Attributes:
        span: where it stands.
        verdict: the call, or why it is none.
        parts: gives the stretches of its name, its argument keys and the scalars of its values, in order.
    """

    span: Span
    verdict: ToolCall | ParseError
    parts: Callable[[], Sequence[Part]] = tuple


class Region(NamedTuple):
    """A part of the text that is no prose.

    Attributes:
        start: where it begins.
        end: where it ends, exclusive.
        dialect: whose it is.
        attempts: the calls in it.
        error: what is wrong with the region as a whole.
        is_thought: it is the model's thinking, or the marks round it.
    """

    start: int
    end: int
    dialect: str
    attempts: tuple[Attempt, ...] = ()
    error: ParseError | None = None
    is_thought: bool = False

    @property
    def closed(self) -> bool:
        """Whether it does not just end because the text does."""
        return self.error is None or self.error.kind != "unclosed"

    @property
    def is_call(self) -> bool:
        """Whether it holds calls, or tries to: some regions are marks alone, such as the heads of messages."""
        return bool(self.attempts) or self.error is not None


Found = tuple[list[Region], int]
"""Regions, and where reading goes on: behind the place where it began."""


@dataclass
class Source:
    """A model's output while it is read.

    Attributes:
        text: all of it, without its stop token, special tokens kept.
        tools: the parameters of the tools that could be called, by name; empty where they are not known.
        truncated: it ended at a length limit, not because the model was done.
        marker: finds the marks of all dialects.
        inside_fence: reading is between the fences of a code block that is not a call as a whole.
    """

    text: str
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    truncated: bool = False
    marker: re.Pattern[str] = re.compile(r"\Z")
    inside_fence: bool = False
    _next: dict[str, Span] = field(default_factory=dict)

    def find(self, needle: str, start: int) -> int:
        """Where `needle` stands next, the text's length where nowhere; linear in all over calls with rising starts."""
        searched_from, place = self._next.get(needle, (-1, -1))
        if not (searched_from <= start <= place):
            place = self.text.find(needle, start)
            place = len(self.text) if place < 0 else place
            self._next[needle] = (start, place)
        return place

    def next_marker(self, start: int, end: int | None = None) -> int:
        """Where the next mark of any dialect stands before `end`; else `end`, by default that of the text."""
        end = len(self.text) if end is None else end
        match = self.marker.search(self.text, start, end)
        return match.start() if match else end

    def skip_space(self, position: int) -> int:
        """The first place from `position` on that is no white space."""
        text, end = self.text, len(self.text)
        while position < end and text[position].isspace():
            position += 1
        return position


Reader = Callable[[Source, int], Found | None]
"""Reads what begins at a place; None where that is not this dialect's, so that another one is asked."""


@dataclass(frozen=True)
class ServerParsers:
    """What servers call the parser of this dialect (`--tool-call-parser` of vLLM and SGLang); None: they have none.

    llama.cpp's server has no names for them: it derives its parser from the chat template.
    """

    vllm: str | None = None
    sglang: str | None = None

    @property
    def by_server(self) -> dict[str, str]:
        """The names that there are, by server."""
        return {name: value for name, value in (("vllm", self.vllm), ("sglang", self.sglang)) if value is not None}


@dataclass(frozen=True)
class Tags:
    """The marks of a format in which each argument has a tag of its own (`tagged`).

    Attributes:
        dialect: whose they are.
        opening: opens a block of calls; empty where each call stands for itself.
        call: matches what opens a call, with its name in the group `name`.
        argument: matches what opens an argument, with its key in the group `key`; where it has a group `string`, that
            says `true` for texts and `false` for JSON, and the schema is not asked.
        value_end: closes an argument's value.
        call_end: closes a call; empty where the block's end closes it.
        closing: closes a block of calls.
        write_call: a call's opening, for a name.
        write_argument: an argument's opening, for its key and value.
        between: stands between calls of one block, or between blocks, as they are written.
        call_space: stands behind a call's opening and each of its arguments, as they are written.
        pads_values: a line break stands before and behind each value.
        one_block: all calls of an answer stand in one block.
    """

    dialect: str
    opening: str
    call: re.Pattern[str]
    argument: re.Pattern[str]
    value_end: str
    call_end: str
    closing: str
    write_call: str
    write_argument: str
    between: str = "\n"
    call_space: str = "\n"
    pads_values: bool = False
    one_block: bool = False


@dataclass(frozen=True)
class Dialect:
    """One way to write calls.

    Attributes:
        name: what configurations, cards and reports call it.
        openings: texts that only this dialect, or those named beside it in the table, begins a region with.
        read: its reader; called where one of its openings, or its `pattern`, begins.
        write: calls as text that `read` reads back.
        closing: the mark behind the last call of an answer; empty where none stands there.
        syntax: how arguments are written.
        pattern: a regular expression for where it may begin without any of the openings; it begins with a bracket.
        beginning: one for where it may begin at the very start of an answer.
        servers: who can read it behind an API.
        tags: with syntax `xml`, the tags.
        quote: with syntax `bare`, what stands before and behind a text.
        follows: of an opening that other dialects have too, one of which characters stands first behind it, white space
            aside; so that who can't have written it need not be asked.
    """

    name: str
    openings: tuple[str, ...]
    read: Reader
    write: Callable[[Sequence[ToolCall]], str]
    closing: str = ""
    syntax: ArgumentSyntax = "json"
    pattern: str = ""
    beginning: str = ""
    servers: ServerParsers = ServerParsers()
    tags: Tags | None = None
    quote: str = ""
    follows: Mapping[str, str] = field(default_factory=dict)


def attempt_error(kind: ErrorKind, span: Span, detail: str = "") -> ParseError:
    """Why a stretch of text is no call."""
    return ParseError(kind=kind, detail=detail or _DETAILS.get(kind, ""), start=span[0], end=span[1])


def one_region(
    dialect: str,
    start: int,
    end: int,
    attempts: Sequence[Attempt] = (),
    kind: ErrorKind | None = None,
    detail: str = "",
) -> Found:
    """A single region; reading goes on behind it.

    Args:
        dialect: whose it is.
        start: where it begins.
        end: where it ends, exclusive.
        attempts: the calls in it.
        kind: of what is wrong with the region as a whole, if something is.
        detail: what is wrong, in words.
    """
    error = None if kind is None else attempt_error(kind, (start, end), detail)
    return [Region(start, end, dialect, tuple(attempts), error)], end
