"""Where in a model's output calls stand, or what tries to be one: one linear pass, no judgement of the content.

Beside explicit markers (`<tool_call>`, `<|python_tag|>`, `[TOOL_CALLS]`, fences) a JSON object counts as a call when it
has a string `name` and `arguments` or `parameters`. What a region says, and whether it is valid, is read in
`parsing`, to which this module belongs.
"""

import json
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from fcdistill.records import ParseError

__all__ = ["BETWEEN", "CLOSE_TAG", "ErrorKind", "Item", "MARKERS", "OPEN_TAG", "Region", "TOKEN", "find_regions"]

ErrorKind = Literal["invalid_json", "duplicate_key", "not_finite", "unclosed", "not_a_call"]
Span = tuple[int, int]

OPEN_TAG, CLOSE_TAG = "<tool_call>", "</tool_call>"
MARKERS = (OPEN_TAG, "<|python_tag|>", "[TOOL_CALLS]", "```")
BETWEEN = re.compile(r"[\s;,]*")
"""What may stand between the calls of one answer."""

_MARKER = re.compile("|".join(map(re.escape, MARKERS)))
_REGION_START = re.compile(_MARKER.pattern + r"""|(?:\[\s*)?\{(?=\s*(?:\{\s*)?(?:["']|name|arguments|parameters|\Z))""")
_STRING = r'"[^"\\\x00-\x1f]*(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*)*"'
TOKEN = re.compile(rf"[ \t\r\n]*(?:({_STRING})|([{{}}\[\]:,])|([A-Za-z0-9+.\-]+))")
"""A JSON token: a string, a mark or a scalar, in this order of groups."""
_STRING_LEFT_OPEN = re.compile(r'[ \t\r\n]*(?:"[^"\\\x00-\x1f]*(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*)*\\?)?\Z')
_LENIENT_TOKEN = re.compile(rf"{_STRING}|[{{}}\[\]]|\n[ \t]*\n|{_MARKER.pattern}")
_SPACE = re.compile(r"\s*")
_FENCE = re.compile(r"```[ \t]*([A-Za-z_+\-]*)\s*")
_MISTRAL_NAME = re.compile(r"\s*([A-Za-z0-9_.\-]+)(?:\[CALL_ID\][A-Za-z0-9]*)?(?:\[ARGS\])?\s*(?=\{)")
_BROKEN_CALL = re.compile(
    r"""\{\s*['"]?name['"]?\s*:\s*['"]?[^'"\n{}\[\]]{0,128}['"]?\s*,?\s*['"]?(?:arguments|parameters)['"]?\s*:"""
)
_DETAILS: dict[ErrorKind, str] = {
    "unclosed": "the block is not closed",
    "invalid_json": "the block does not hold one valid JSON value",
}
_JSON = json.JSONDecoder()


@dataclass(frozen=True)
class Item:
    """A JSON value that should be a call: the call's object, or with `name_span` only its arguments."""

    span: Span
    doubled: Set[int] = frozenset()
    """Positions of the outer braces of doubled pairs, here and elsewhere in the text, which are no JSON."""
    name_span: Span | None = None
    name_alone_is_a_call: bool = False


@dataclass(frozen=True)
class Region:
    """A part of the text that is calls or tries to be."""

    start: int
    end: int
    items: tuple[Item, ...] = ()
    error: ParseError | None = None

    @property
    def closed(self) -> bool:
        """Whether it does not just end because the text does."""
        return self.error is None or self.error.kind != "unclosed"


def find_regions(text: str, *, truncated: bool) -> list[Region]:
    """The parts of the text that are calls or try to be, in order and without overlap."""
    return _RegionFinder(text, truncated).regions


@dataclass
class _Frame:
    """An object, array or doubled brace (`(`) that the lexer is inside of."""

    kind: Literal["{", "[", "("]
    start: int
    expects: str
    """Token kinds that may follow: `k`ey, `v`alue, `:`, `,` or the closing `e`nd."""
    key: str = ""
    keys: set[str] = field(default_factory=set)
    named: bool = False

    @property
    def is_call_like(self) -> bool:
        has_arguments = not self.keys.isdisjoint(("arguments", "parameters"))
        is_tool_schema = {"description", "parameters"} <= self.keys
        return self.named and has_arguments and not is_tool_schema


@dataclass
class _Lexed:
    """How far a JSON value reaches, and what stands in it."""

    end: int = 0
    """End of the value, or where reading it failed."""
    complete: bool = False
    at_text_end: bool = False
    """Reading failed because the text ends."""
    root: Span = (0, 0)
    """The value without doubled braces round it."""
    elements: list[Span] = field(default_factory=list)
    """Values directly in the outermost array."""
    calls: list[Span] = field(default_factory=list)
    """Outermost objects that look like a call."""
    doubled: set[int] = field(default_factory=set)
    open: list[_Frame] = field(default_factory=list)

    def item(self, span: Span, *, name_alone_is_a_call: bool = False) -> Item:
        return Item(span, self.doubled, name_alone_is_a_call=name_alone_is_a_call)

    def call_items(self) -> list[Item]:
        """What looks like a call; in an array that holds one, every element should be one."""
        calls = set(self.calls)
        spans = self.calls if calls.isdisjoint(self.elements) else self.elements
        return [self.item(span) for span in spans]

    def declared_items(self, text: str, *, name_alone_is_a_call: bool = True) -> list[Item]:
        """What the surroundings declare to be calls: the object, or each element of the array."""
        is_object = self.complete and text[self.root[0]] != "["
        spans = [self.root] if is_object else self.elements
        return [self.item(span, name_alone_is_a_call=name_alone_is_a_call) for span in spans]


def _lex(text: str, start: int) -> _Lexed:
    """Read the object or array at `start` token by token, without recursion and each character once.

    Scalars are only delimited, not checked: that is left to the JSON parser.
    """
    found = _Lexed()
    frames = found.open
    position = start
    done: Span | None = None
    while done is None or frames:
        top = frames[-1] if frames else None
        if done is not None and top is not None:  # a value inside `top` has ended
            if top.kind == "[" and len(frames) == 1:
                found.elements.append(done)
            if top.kind == "(":
                found.root = done
            top.expects = "e" if top.kind == "(" else ",e"
            done = None
        match = TOKEN.match(text, position)
        if match is None:
            found.end = position
            found.at_text_end = _STRING_LEFT_OPEN.match(text, position) is not None
            return found
        string, mark, _ = match.groups()
        at, end = match.start(match.lastindex or 0), match.end()
        expects = top.expects if top else "v"
        if mark is not None and mark in "}]":
            if top is None or "e" not in expects or (mark == "]") != (top.kind == "["):
                found.end = at
                return found
            frames.pop()
            done = (top.start, end)
            if top.kind == "(":
                found.doubled.update((top.start, at))
                done = found.root
            elif top.kind == "{" and top.is_call_like:
                while found.calls and found.calls[-1][0] > top.start:
                    found.calls.pop()
                found.calls.append(done)
        elif mark == "{" and top is not None and top.kind == "{" and expects == "ke":
            if len(frames) > 1 and frames[-2].kind == "(":
                found.end = at
                return found
            top.kind = "("
            frames.append(_Frame("{", at, "ke"))
        elif mark is not None and mark in "{[" and "v" in expects:
            frames.append(_Frame("{", at, "ke") if mark == "{" else _Frame("[", at, "ve"))
        elif mark is not None and top is not None and mark in ":," and mark in expects:
            top.expects = "v" if mark == ":" or top.kind == "[" else "k"
        elif string is not None and top is not None and "k" in expects:
            top.key = string[1:-1]
            top.keys.add(top.key)
            top.expects = ":"
        elif mark is None and top is not None and "v" in expects:
            top.named |= string is not None and top.kind == "{" and top.key == "name"
            done = (at, end)
        else:
            found.end = at
            return found
        position = end
    found.end, found.complete, found.root = position, True, done
    return found


class _RegionFinder:
    """One pass over the text; each method consumes a region that starts at `start` and returns where to go on."""

    def __init__(self, text: str, truncated: bool) -> None:
        self.text = text
        self.truncated = truncated
        self.regions: list[Region] = []
        self._inside_fence = False
        self._next_close = -1
        position = 0
        while match := _REGION_START.search(text, position):
            start, marker = match.start(), match.group()
            if marker == OPEN_TAG:
                position = self._tag(start)
            elif marker == "```":
                position = self._fence(start)
            elif marker in MARKERS:
                position = self._marked_sequence(start, match.end(), mistral=marker == "[TOOL_CALLS]")
            else:
                position = self._bare(start)

    def _add(self, start: int, end: int, items: Sequence[Item] = (), kind: ErrorKind | None = None) -> int:
        error = None if kind is None else ParseError(kind=kind, detail=_DETAILS[kind], start=start, end=end)
        self.regions.append(Region(start, end, tuple(items), error))
        return end

    def _marker_or_end(self, start: int, end: int | None = None) -> int:
        end = len(self.text) if end is None else end
        match = _MARKER.search(self.text, start, end)
        return match.start() if match else end

    def _tag(self, start: int) -> int:
        body = self._skip(_SPACE, start + len(OPEN_TAG))
        if (block := self._plain_block(start, body)) is not None:
            return block
        if self.text.startswith(("{", "["), body):
            value = _lex(self.text, body)
            after = self._skip(_SPACE, value.end)
            if value.complete and self.text.startswith(CLOSE_TAG, after):
                item = value.item(value.root, name_alone_is_a_call=True)
                return self._add(start, after + len(CLOSE_TAG), [item])
            if value.at_text_end:  # a closing tag that stands in between is part of a string
                return self._add(start, len(self.text), kind="unclosed")
            body = after if value.complete else body
        if self._next_close < body and self._next_close != len(self.text):
            close = self.text.find(CLOSE_TAG, body)
            self._next_close = close if close >= 0 else len(self.text)
        reopened = self.text.find(OPEN_TAG, body)
        limit = reopened if reopened >= 0 else len(self.text)
        if self._next_close < limit:
            return self._add(start, self._next_close + len(CLOSE_TAG), kind="invalid_json")
        return self._add(start, limit, kind="unclosed")

    def _plain_block(self, start: int, body: int) -> int | None:
        """Consume the block of a tag as most models write it, JSON throughout, which is read much faster than lexed."""
        try:
            _, end = _JSON.raw_decode(self.text, body)
        except (ValueError, RecursionError):
            return None
        after = self._skip(_SPACE, end)
        if self.text[body] not in "{[" or not self.text.startswith(CLOSE_TAG, after):
            return None
        return self._add(start, after + len(CLOSE_TAG), [Item((body, end), name_alone_is_a_call=True)])

    def _marked_sequence(self, start: int, body: int, *, mistral: bool) -> int:
        """`<|python_tag|>` or `[TOOL_CALLS]`: objects, an array of them, or mistral's newer form: a name, an object."""
        named = _MISTRAL_NAME.match(self.text, body) if mistral else None
        position = named.end() if named else self._skip(_SPACE, body)
        items: list[Item] = []
        end = None
        while self.text.startswith(("{", "["), position):
            value = _lex(self.text, position)
            if not value.complete:
                items += value.declared_items(self.text)
                kind: ErrorKind = "unclosed" if value.at_text_end else "invalid_json"
                return self._add(start, self._marker_or_end(value.end), items, kind)
            end = value.end
            if named:
                item = value.item(value.root)
                return self._add(start, end, [Item(item.span, item.doubled, named.span(1))])
            items += value.declared_items(self.text)
            position = self._skip(BETWEEN, end)
        if end is None:
            end = self._marker_or_end(body)
            return self._add(start, end, kind="invalid_json" if self.text[body:end].strip() else "unclosed")
        return self._add(start, end, items)

    def _fence(self, start: int) -> int:
        match = _FENCE.match(self.text, start)
        assert match is not None
        body, language = match.end(), match.group(1)
        if self._inside_fence and not language:
            self._inside_fence = False
            return start + 3
        marked = language in ("tool_call", "tool_calls")
        position = body
        values: list[_Lexed] = []
        while self.text.startswith(("{", "["), position) and (not values or values[-1].complete):
            values.append(_lex(self.text, position))
            position = self._skip(BETWEEN, values[-1].end)
        tries = marked or any(value.calls or self._failed_call(value) is not None for value in values)
        items: list[Item] = []
        for value in values if tries else ():
            looks_so = not marked and value.calls
            items += value.call_items() if looks_so else value.declared_items(self.text, name_alone_is_a_call=marked)
        if values and values[-1].complete and self.text.startswith("```", position):
            return self._add(start, position + 3, items) if tries else position + 3
        close = self.text.find("```", items[-1].span[1] if items else body)
        if tries and close < 0:
            return self._add(start, len(self.text), kind="unclosed")
        if tries:
            return self._add(start, close + 3, items, "invalid_json")
        if close < 0:
            return body
        if self._marker_or_end(body, close) < close:
            self._inside_fence = True
            return body
        return close + 3

    def _bare(self, start: int) -> int:
        value = _lex(self.text, start)
        if value.complete:
            return self._add(start, value.end, value.call_items()) if value.calls else value.end
        failed = self._failed_call(value)
        items = value.call_items()
        if failed is None:
            for item in items:
                self._add(*item.span, [item])
            return self._marker_or_end(start + 1, max(value.end, start + 1))
        if self.text[start] == "[":
            failed = start
        else:
            for item in items:
                if item.span[0] < failed:
                    self._add(*item.span, [item])
            items = []
        if value.at_text_end:
            return self._add(failed, len(self.text), items, "unclosed")
        return self._add(failed, max(self._lenient_end(failed), value.end), items, "invalid_json")

    def _failed_call(self, value: _Lexed) -> int | None:
        """Where a call begins that this unfinished value was to become, if it looks so."""
        if value.open and value.open[0].kind == "[" and not set(value.calls).isdisjoint(value.elements):
            return value.open[0].start
        for index, frame in enumerate(value.open):
            if frame.kind == "[":
                continue
            is_innermost = index + 1 == len(value.open)
            if frame.kind == "(" and is_innermost and value.calls and value.calls[-1][0] > frame.start:
                return frame.start
            called = frame if frame.kind == "{" or is_innermost else value.open[index + 1]
            at_end = value.at_text_end and (self.truncated or "name" in called.keys)
            if at_end or called.is_call_like or _BROKEN_CALL.match(self.text, called.start):
                return frame.start
        return None

    def _lenient_end(self, start: int) -> int:
        """Where the brackets that open at `start` balance, or an empty line or a marker stands."""
        depth = 0
        for match in _LENIENT_TOKEN.finditer(self.text, start):
            token = match.group()
            if token in ("{", "["):
                depth += 1
            elif token in ("}", "]"):
                depth -= 1
                if depth == 0:
                    return match.end()
            elif not token.startswith('"'):
                return match.start()
        return len(self.text)

    def _skip(self, pattern: re.Pattern[str], position: int) -> int:
        match = pattern.match(self.text, position)
        return match.end() if match else position
