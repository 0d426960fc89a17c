"""JSON in a model's output: how far a value reaches, which objects in it are calls, and what such a call says.

Values are delimited in one linear pass without recursion; what they say is left to the strict JSON parser. Which marks
stand round them is known to the dialects.
"""

import json
import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, cast

from fcdistill.records import ParseError, ToolCall
from fcdistill.storage import StrictJsonError, loads_strict
from fcdistill.toolcalls.dialect import Attempt, ErrorKind, Part, Source, Span, attempt_error

__all__ = [
    "BETWEEN",
    "Item",
    "Lexed",
    "call_json",
    "failed_call",
    "json_attempt",
    "json_attempts",
    "json_text",
    "lenient_end",
    "lex",
    "named_attempt",
    "plain_end",
]

BETWEEN = re.compile(r"[\s;,]*")
"""What may stand between the calls of one answer."""

_STRING = r'"[^"\\\x00-\x1f]*(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*)*"'
_TOKEN = re.compile(rf"[ \t\r\n]*(?:({_STRING})|([{{}}\[\]:,])|([A-Za-z0-9+.\-]+))")
"""A JSON token: a string, a mark or a scalar, in this order of groups."""
_STRING_LEFT_OPEN = re.compile(r'[ \t\r\n]*(?:"[^"\\\x00-\x1f]*(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*)*\\?)?\Z')
_SPACE = re.compile(r"\s*")
_BROKEN_CALL = re.compile(
    r"""\{\s*['"]?name['"]?\s*:\s*['"]?[^'"\n{}\[\]]{0,128}['"]?\s*,?\s*['"]?(?:arguments|parameters)['"]?\s*:"""
)
_JSON = json.JSONDecoder()


class Item(NamedTuple):
    """A JSON value that should be a call's object."""

    span: Span
    doubled: Set[int] = frozenset()
    """Positions of the outer braces of doubled pairs, here and elsewhere in the text, which are no JSON."""
    name_alone_is_a_call: bool = False
    name_key: str = "name"


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
class Lexed:
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
        """A value in it that should be a call's object."""
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


def lex(text: str, start: int) -> Lexed:
    """Read the object or array at `start` token by token, without recursion and each character once.

    Scalars are only delimited, not checked: that is left to the JSON parser.
    """
    found = Lexed()
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
        match = _TOKEN.match(text, position)
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


def plain_end(text: str, start: int) -> int | None:
    """Where the JSON value at `start` ends, as most models write it; None where it is not JSON throughout.

    Much faster than `lex`, which also knows doubled braces and says what stands in a value that is not whole.
    """
    try:
        return _JSON.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None


def json_attempts(source: Source, items: Iterable[Item]) -> list[Attempt]:
    """What each item says."""
    return [json_attempt(source, item) for item in items]


def json_attempt(source: Source, item: Item) -> Attempt:
    """The call whose object an item is: a string `name`, and `arguments` or `parameters`."""
    return Attempt(item.span, _call(source.text, item), partial(_parts, source.text, item.span, None, item.name_key))


def named_attempt(source: Source, name: Span, arguments: Span, doubled: Set[int] = frozenset()) -> Attempt:
    """The call of a name that stands apart from its arguments, which are a JSON object.

    Args:
        source: what is read.
        name: where the name stands.
        arguments: where the object stands, behind the name.
        doubled: as of an `Item`.
    """
    text = source.text
    verdict: ToolCall | ParseError
    try:
        verdict = _named(text[slice(*name)], loads_strict(_raw(text, arguments, doubled)), arguments)
    except StrictJsonError as problem:
        verdict = attempt_error(cast(ErrorKind, problem.kind), arguments, str(problem))
    return Attempt((name[0], arguments[1]), verdict, partial(_parts, text, arguments, name, ""))


def call_json(call: ToolCall, *, key: str = "arguments") -> str:
    """A call's object as JSON; raises `ValueError` where an argument is NaN or infinite."""
    return json_text({"name": call.name, key: call.arguments})


def json_text(value: Any) -> str:
    """A value as JSON; raises `ValueError` where a number in it is NaN or infinite."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def failed_call(source: Source, value: Lexed) -> int | None:
    """Where a call begins that an unfinished value was to become, if it looks so."""
    if value.open and value.open[0].kind == "[" and not set(value.calls).isdisjoint(value.elements):
        return value.open[0].start
    for index, frame in enumerate(value.open):
        if frame.kind == "[":
            continue
        is_innermost = index + 1 == len(value.open)
        if frame.kind == "(" and is_innermost and value.calls and value.calls[-1][0] > frame.start:
            return frame.start
        called = frame if frame.kind == "{" or is_innermost else value.open[index + 1]
        at_end = value.at_text_end and (source.truncated or "name" in called.keys)
        if at_end or called.is_call_like or _BROKEN_CALL.match(source.text, called.start):
            return frame.start
    return None


def lenient_end(text: str, start: int, marker: str) -> int:
    """Where the brackets that open at `start` balance, or an empty line or a marker stands.

    Args:
        text: what is read.
        start: of a value that is not JSON.
        marker: a regular expression of what begins another region.
    """
    depth = 0
    for match in re.compile(rf"{_STRING}|[{{}}\[\]]|\n[ \t]*\n|{marker}").finditer(text, start):
        token = match.group()
        if token in ("{", "["):
            depth += 1
        elif token in ("}", "]"):
            depth -= 1
            if depth == 0:
                return match.end()
        elif not token.startswith('"'):
            return match.start()
    return len(text)


def _raw(text: str, span: Span, doubled: Set[int]) -> str:
    raw = text[span[0] : span[1]]
    if doubled:
        raw = "".join(character for index, character in enumerate(raw, span[0]) if index not in doubled)
    return raw


def _call(text: str, item: Item) -> ToolCall | ParseError:
    def error(detail: str) -> ParseError:
        return attempt_error("not_a_call", item.span, detail)

    try:
        value = loads_strict(_raw(text, item.span, item.doubled))
        if not isinstance(value, dict):
            return error("found no JSON object")
        name = value.get(item.name_key)
        if not isinstance(name, str) or not name:
            return error(f'the object has no string "{item.name_key}"')
        key = "arguments" if "arguments" in value else "parameters"
        if "description" in value and "parameters" in value:
            return error("the object describes a tool and does not call it")
        if key not in value and not item.name_alone_is_a_call:
            return error('the object has no "arguments"')
        arguments: Any = value.get(key, {})
        if isinstance(arguments, str):
            arguments = loads_strict(arguments)
        return _named(name, arguments, item.span, key)
    except StrictJsonError as problem:
        return attempt_error(cast(ErrorKind, problem.kind), item.span, str(problem))


def _named(name: str, arguments: Any, span: Span, key: str = "arguments") -> ToolCall | ParseError:
    if not isinstance(arguments, dict):
        return attempt_error("not_a_call", span, f'"{key}" is not an object')
    return ToolCall(name=name, arguments=arguments)


def _parts(text: str, span: Span, name: Span | None, name_key: str) -> Sequence[Part]:
    """The stretches of a call's object, or with `name` of its arguments alone; the rest is structure."""
    parts: list[Part] = [] if name is None else [(*name, "name")]
    envelope_depth = None if name is None else 0
    section = "" if name is None else "arguments"
    depth = 0
    position, end = span
    while position < end and (match := _TOKEN.match(text, position, end)):
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
        elif section == name_key and depth == envelope_depth:
            parts.append((start, stop, "name"))
        elif section in ("arguments", "parameters"):
            parts.append((start, stop, "arg_key" if is_key else "arg_value"))
    return parts
