"""Nested values that are not JSON: Python's literals, and the notations of models that write keys without quotes.

One reader for all of them, told apart by a `Notation`. It reads each character once and without recursion, and notes
where keys and scalars stand.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fcdistill.storage import MAX_DEPTH
from fcdistill.toolcalls.dialect import ErrorKind, Part

__all__ = ["PYTHON", "Literal", "LiteralError", "Notation", "read_literal", "write_literal"]

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"[A-Za-z_][\w.\-]*")
_SPACE = re.compile(r"\s*")
_FOLLOWS = re.compile(r"\s*(?:[,:)\]}]|\Z)")
"""What may follow a value."""
_LONGEST_LENIENT = 4096
_ESCAPE = re.compile(r"\\(?:\r?\n|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0"} | {
    mark: mark for mark in "\\'\"/"
}
_PYTHON_STRING = re.compile(
    r'"""((?:[^\\"]|\\.|"(?!""))*)"""|\'\'\'((?:[^\\\']|\\.|\'(?!\'\'))*)\'\'\'|"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'',
    re.DOTALL,
)


class LiteralError(ValueError):
    """Text that is no value of its notation.

    Attributes:
        kind: what is wrong.
        position: character offset.
        at_text_end: it is wrong because the text ends.
    """

    def __init__(self, kind: ErrorKind, detail: str, position: int, *, at_text_end: bool = False) -> None:
        super().__init__(detail)
        self.kind: ErrorKind = kind
        self.position = position
        self.at_text_end = at_text_end


@dataclass(frozen=True)
class Notation:
    """A way to write nested values.

    Attributes:
        string: matches a text with its quotes; exactly one of its groups holds what stands between them.
        quotes: what opens a text.
        decode: what stands between quotes as the text that is meant.
        encode: a text with its quotes.
        words: values that are words.
        bare_keys: keys of objects stand without quotes.
        lenient_quotes: a quote that no mark follows is part of the text, since models forget to escape it.
        brackets: what opens and closes lists.
        comma: what is written between values.
        colon: what is written between a key and its value.
    """

    string: re.Pattern[str]
    quotes: tuple[str, ...]
    decode: Callable[[str], str]
    encode: Callable[[str], str]
    words: Mapping[str, Any]
    bare_keys: bool = False
    lenient_quotes: bool = False
    brackets: Mapping[str, str] = field(default_factory=lambda: {"[": "]"})
    comma: str = ", "
    colon: str = ": "


@dataclass(frozen=True)
class Literal:
    """A value as it was read: where it ends, and its keys and scalars."""

    value: Any
    end: int
    parts: tuple[Part, ...]


def read_literal(text: str, start: int, notation: Notation) -> Literal:
    """The value at `start`; `LiteralError` where there is none. White space before it is skipped."""
    parts: list[Part] = []
    stack: list[tuple[str, Any, str | None]] = []
    """Of each open list or object its closing mark, what it holds so far, and the key that waits for a value."""
    position = _skip(text, start)
    while True:
        mark = text[position : position + 1]
        if not mark:
            raise LiteralError("unclosed", "the value is not finished", position, at_text_end=True)
        if mark in notation.brackets or mark == "{":
            if len(stack) >= MAX_DEPTH:
                raise LiteralError("invalid_syntax", f"nested more than {MAX_DEPTH} levels", position)
            is_object = mark == "{"
            stack.append(("}" if is_object else notation.brackets[mark], {} if is_object else [], None))
            position = _skip(text, position + 1)
            done = _NOTHING
        else:
            done, position = _scalar(text, position, notation, parts)
        while True:  # what follows a value, or the opening of something that may be empty
            if done is not _NOTHING:
                if not stack:
                    return Literal(done, position, tuple(parts))
                closing, held, key = stack[-1]
                if isinstance(held, list):
                    held.append(done)
                else:
                    held[key] = done
                position = _skip(text, position)
                if text[position : position + 1] == ",":
                    position = _skip(text, position + 1)
                elif text[position : position + 1] != closing:
                    raise _unexpected(text, position, f"',' or '{closing}'")
            closing, held, _ = stack[-1]
            if text[position : position + 1] == closing:
                stack.pop()
                done, position = held, position + 1
                continue
            if isinstance(held, dict):
                position = _key(text, position, notation, parts, stack)
            break


_NOTHING = object()


def _scalar(text: str, position: int, notation: Notation, parts: list[Part]) -> tuple[Any, int]:
    if match := notation.string.match(text, position):
        start, stop, end = _string_span(text, match, notation)
        parts.append((start, stop, "arg_value"))
        return _decoded(notation, text[start:stop], position), end
    if match := _NUMBER.match(text, position):
        parts.append((*match.span(), "arg_value"))
        return _number(match[0], position), match.end()
    word = _WORD.match(text, position)
    if word is not None and word[0] in notation.words:
        parts.append((*word.span(), "arg_value"))
        return notation.words[word[0]], word.end()
    raise _unexpected_or_open(text, position, "a value", notation)


def _string_span(text: str, match: re.Match[str], notation: Notation) -> tuple[int, int, int]:
    """Where a text begins and ends between its quotes, and where reading goes on."""
    start, stop = match.span(match.lastindex or 0)
    end = match.end()
    quote = text[stop:end]
    while notation.lenient_quotes and not _FOLLOWS.match(text, end):
        further = text.find(quote, end, start + _LONGEST_LENIENT)
        if further < 0:
            return (*match.span(match.lastindex or 0), match.end())
        stop, end = further, further + len(quote)
    return start, stop, end


def _key(
    text: str, position: int, notation: Notation, parts: list[Part], stack: list[tuple[str, Any, str | None]]
) -> int:
    if match := notation.string.match(text, position):
        group = match.lastindex or 0
        key, span, position = _decoded(notation, match[group] or "", position), match.span(group), match.end()
    elif notation.bare_keys:
        end = text.find(":", position)
        end = len(text) if end < 0 else end
        key, span = text[position:end].strip(), (position, end)
        if not key or any(mark in key for mark in "{}[],\n"):
            raise _unexpected(text, position, "a key")
        position = end
    else:
        raise _unexpected_or_open(text, position, "a key", notation)
    closing, held, _ = stack[-1]
    if key in held:
        raise LiteralError("duplicate_key", f"key {key!r} occurs more than once in one object", position)
    parts.append((*span, "arg_key"))
    stack[-1] = (closing, held, key)
    position = _skip(text, position)
    if text[position : position + 1] != ":":
        raise _unexpected(text, position, "':'")
    return _skip(text, position + 1)


def write_literal(value: Any, notation: Notation) -> str:
    """A value in a notation; raises `ValueError` where a number in it is NaN or infinite."""
    if isinstance(value, str):
        return notation.encode(value)
    if isinstance(value, list):
        return "[" + notation.comma.join(write_literal(part, notation) for part in value) + "]"
    if isinstance(value, dict):
        pairs = (
            f"{key if notation.bare_keys else notation.encode(key)}{notation.colon}{write_literal(part, notation)}"
            for key, part in value.items()
        )
        return "{" + notation.comma.join(pairs) + "}"
    for word, meaning in notation.words.items():
        if meaning is value:
            return word
    return json.dumps(value, allow_nan=False)


def _number(text: str, position: int) -> int | float:
    if text.lstrip("+-").isdigit():
        if len(text) > 300:
            raise LiteralError("not_finite", "a number is beyond the range of a double", position)
        return int(text)
    value = float(text)
    if math.isinf(value):
        raise LiteralError("not_finite", "a number is beyond the range of a double", position)
    return value


def _decoded(notation: Notation, text: str, position: int) -> str:
    value = notation.decode(text)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise LiteralError("invalid_syntax", "half of a surrogate pair is not a character", position) from None
    return value


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _unexpected(text: str, position: int, wanted: str) -> LiteralError:
    if position >= len(text):
        return LiteralError("unclosed", "the block is not closed", position, at_text_end=True)
    return LiteralError("invalid_syntax", f"expected {wanted} at character {position}", position)


def _unexpected_or_open(text: str, position: int, wanted: str, notation: Notation) -> LiteralError:
    """What is wrong where no text, nor anything else that is wanted, can be read: a text may be left open."""
    if text.startswith(notation.quotes, position):
        return LiteralError("unclosed", "a text is not finished", position, at_text_end=True)
    return _unexpected(text, position, wanted)


def _python_text(text: str) -> str:
    """A Python string's body: escapes are read, also those of JSON; line breaks may stand in it as they are."""

    def replaced(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if code is not None:
            return chr(int(code, 16)) if int(code, 16) < 0x110000 else match[0]
        mark = match[4]
        return "" if mark is None else _SIMPLE.get(mark, match[0])

    decoded = _ESCAPE.sub(replaced, text)
    # JSON writes a character beyond 16 bits as two escapes.
    return decoded.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if "\\u" in text else decoded


PYTHON = Notation(
    string=_PYTHON_STRING,
    quotes=('"', "'"),
    decode=_python_text,
    encode=lambda text: json.dumps(text, ensure_ascii=False),
    words={"True": True, "False": False, "None": None, "true": True, "false": False, "null": None},
    brackets={"[": "]", "(": ")"},
    lenient_quotes=True,
)
"""Python's literals. The words of JSON are read too, since models mix them."""
