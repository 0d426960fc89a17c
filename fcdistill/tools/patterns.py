r"""Regular expressions of schemas, read as ECMA-262 means them and written for Python's `re`.

JSON Schema (2020-12 core, section 6.4) refers to ECMA-262 with its flag `u`: `\d` and `\w` are ASCII, `$` is the very
end, `\p{L}` is a Unicode property, `(?<year>...)` a named group. Everything that stands for one of several characters
becomes a set of code points, so that each reader can say it in its own words. What else a schema says is not known
here.
"""

import functools
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["WORD", "Pattern", "Ranges", "Token", "pattern_for", "set_text"]

Ranges = tuple[tuple[int, int], ...]
"""Code points, as ascending first and last ones that don't touch."""

_LAST = 0x10FFFF
_DIGIT: Ranges = ((0x30, 0x39),)
WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
r"""What `\w` stands for."""
_SPACE: Ranges = (
    (0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
    (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF),
)  # fmt: skip
_LINE_ENDS: Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_CLASSES = {"d": _DIGIT, "w": WORD, "s": _SPACE}
_CONTROLS = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B, "0": 0x00}
_END = r"\Z"
_ANCHORS = {"b": r"(?a:\b)", "B": r"(?a:\B)", "A": "^", "Z": _END, "z": _END}
r"""`\A`, `\Z` and `\z` are Python's and Rust's: ECMA-262 has no meaning for them that anyone could want instead."""
_REPEAT = re.compile(r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??")
_NAMED = re.compile(r"\(\?P?<([^\W\d][\w$]*|\$[\w$]*)>")
_NAMED_REFERENCE = re.compile(r"\\k<([\w$]+)>|\(\?P=(\w+)\)")
_GROUP = re.compile(r"\(\?(?::|i:|<?[=!])")
_HEX = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\})")
_PROPERTY = re.compile(r"\\([pP])\{([A-Za-z0-9_]+(?:=[A-Za-z0-9_]+)?)\}")
_ESCAPED_ALWAYS = frozenset(string.ascii_letters + string.digits)
_KEPT_PATTERNS = 4096


@dataclass(frozen=True, slots=True)
class Token:
    """A part of a pattern.

    Attributes:
        text: as Python's `re` takes it.
        kind: set: one of several characters; repeat: how often; reference: what a group found before, `group`; end: the
            end of the text; other: characters, groups and other assertions.
        ranges: of a set.
        group: of a reference.
    """

    text: str
    kind: Literal["set", "repeat", "reference", "end", "other"] = "other"
    ranges: Ranges = ()
    group: int = 0

    def holds(self, letters: str) -> bool:
        """Whether all of these are in a set."""
        return all(any(first <= ord(letter) <= last for first, last in self.ranges) for letter in letters)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that can be used.

    Attributes:
        tokens: its parts, in their order; a single one where it is no ECMA-262 but a pattern of Python's.
        text: all of it, as Python's `re` takes it, or `regex` where that one alone does.
        compiled: its `search` says whether a text has it anywhere.
    """

    tokens: tuple[Token, ...]
    text: str
    compiled: Any

    @property
    def is_plain(self) -> bool:
        """Whether `re` takes it, and not `regex` alone."""
        return isinstance(self.compiled, re.Pattern)

    def found_in(self, text: str) -> bool:
        """Whether the pattern is found anywhere in a text."""
        return self.compiled.search(text) is not None


@functools.lru_cache(maxsize=_KEPT_PATTERNS)
def pattern_for(written: str) -> Pattern | None:
    """A schema's pattern in a form that judges texts; None where no library takes it.

    What ECMA-262 does not know, such as `(?i)`, is read as Python reads it.
    """
    try:
        tokens = tuple(_Reader(written).tokens())
    except re.error:
        tokens = (Token(written),)
    text = "".join(token.text for token in tokens)
    try:
        return Pattern(tokens, text, re.compile(text))
    except (re.error, OverflowError, RecursionError):
        pass
    import regex  # looks behind for a text of any length, which `re` does not; asked for by few schemas

    try:
        return Pattern(tokens, text, regex.compile(text))
    except (regex.error, OverflowError, RecursionError):
        return None


def set_text(ranges: Ranges) -> str:
    """A set of characters in brackets, with escapes that Python and Rust read alike."""
    if not ranges:
        return "(?!)"
    parts = [_written(first) if first == last else f"{_written(first)}-{_written(last)}" for first, last in ranges]
    return f"[{''.join(parts)}]"


class _Reader:
    """Reads one pattern from its beginning to its end."""

    def __init__(self, written: str) -> None:
        self._written = written
        self._at = 0
        self._names: dict[str, int] = {}
        self._open: list[int] = []
        """Groups that have begun; those that capture nothing as 0."""
        self._closed: set[int] = set()
        self._find_groups()

    def tokens(self) -> Iterable[Token]:
        """Its parts. Raises `re.error` where it is no pattern of ECMA-262."""
        number = 0
        while self._at < len(self._written):
            sign = self._written[self._at]
            if sign == "(":
                text, captures = self._opening()
                number += captures
                self._open.append(number if captures else 0)
                yield Token(text)
            elif sign == ")":
                if not self._open:
                    raise self._error("unbalanced parenthesis")
                self._closed.add(self._open.pop())
                self._at += 1
                yield Token(")")
            elif sign == "[":
                yield _of_set(self._character_class())
            elif sign == "\\":
                yield self._escape()
            elif (repeat := _REPEAT.match(self._written, self._at)) is not None:
                self._at = repeat.end()
                yield Token(repeat[0], "repeat")
            else:
                self._at += 1
                if sign == ".":
                    yield _of_set(_complement(_LINE_ENDS))
                elif sign == "$":
                    yield Token(_END, "end")
                else:
                    yield Token(sign if sign in "^|" else re.escape(sign))
        if self._open:
            raise self._error("missing )")

    def _find_groups(self) -> None:
        """Number the named groups, since a reference may stand before its group."""
        number, at, in_class = 0, 0, False
        while at < len(self._written):
            sign = self._written[at]
            if sign == "\\":
                at += 1
            elif in_class or sign == "[":
                in_class = sign != "]"
            elif sign == "(":
                named = _NAMED.match(self._written, at)
                number += named is not None or self._written[at + 1 : at + 2] != "?"
                if named is not None:
                    if named[1] in self._names:
                        raise self._error(f"two groups are called {named[1]}")
                    self._names[named[1]] = number
            at += 1
        self._num_groups = number

    def _opening(self) -> tuple[str, bool]:
        """A parenthesis with what belongs to it, and whether it captures what it finds."""
        if self._written[self._at + 1 : self._at + 2] != "?":
            self._at += 1
            return "(", True
        if (reference := _NAMED_REFERENCE.match(self._written, self._at)) is not None:
            # The parenthesis ends by itself; what stands for it is a group without anything.
            self._at = reference.end() - 1
            return f"(?:{self._reference(self._named(reference[2])).text}", False
        if (named := _NAMED.match(self._written, self._at)) is not None:
            self._at = named.end()
            return "(", True
        group = _GROUP.match(self._written, self._at)
        if group is None:
            raise self._error("unknown kind of group")
        self._at = group.end()
        return group[0], False

    def _escape(self) -> Token:
        """An escape outside of a class."""
        after = self._written[self._at + 1 : self._at + 2]
        if after in _ANCHORS:
            self._at += 2
            return Token(_ANCHORS[after], "end" if _ANCHORS[after] == _END else "other")
        if (named := _NAMED_REFERENCE.match(self._written, self._at)) is not None:
            self._at = named.end()
            return self._reference(self._named(named[1]))
        if after in tuple("123456789"):
            digits = re.compile("[0-9]+").match(self._written, self._at + 1)
            assert digits is not None
            self._at = digits.end()
            return self._reference(int(digits[0]))
        found = self._characters()
        return Token(re.escape(chr(found))) if isinstance(found, int) else _of_set(found)

    def _named(self, name: str) -> int:
        if name not in self._names:
            raise self._error(f"no group is called {name}")
        return self._names[name]

    def _reference(self, group: int) -> Token:
        """What a group found, which is nothing where it took no part or is not at its end yet."""
        if group > self._num_groups:
            raise self._error(f"there is no group {group}")
        if group not in self._closed:
            return Token("(?:)")
        return Token(f"(?({group})\\{group})", "reference", group=group)

    def _character_class(self) -> Ranges:
        self._at += 1
        negated = self._written.startswith("^", self._at)
        self._at += negated
        found: list[tuple[int, int]] = []
        while not self._written.startswith("]", self._at):
            first = self._class_atom()
            if not isinstance(first, int):
                found += first
                continue
            last = first
            if self._written.startswith("-", self._at) and not self._written.startswith("-]", self._at):
                before = self._at
                self._at += 1
                end = self._class_atom()
                if isinstance(end, int):
                    last = end
                else:  # a hyphen before a class is itself
                    self._at = before
            if last < first:
                raise self._error("the range ends before it begins")
            found.append((first, last))
        self._at += 1
        return _complement(_joined(found)) if negated else _joined(found)

    def _class_atom(self) -> int | Ranges:
        if self._at >= len(self._written):
            raise self._error("missing ]")
        if self._written[self._at] != "\\":
            self._at += 1
            return ord(self._written[self._at - 1])
        if self._written.startswith(r"\b", self._at):
            self._at += 2
            return 0x08
        return self._characters()

    def _characters(self) -> int | Ranges:
        """An escape that stands for one character, or for one of several."""
        written, at = self._written, self._at
        after = written[at + 1 : at + 2]
        if not after:
            raise self._error("an escape without a character")
        if (coded := _HEX.match(written, at)) is not None:
            self._at = coded.end()
            return self._code_point(int(coded[1] or coded[2] or coded[3], 16))
        if (named := _PROPERTY.match(written, at)) is not None:
            self._at = named.end()
            ranges = _property(named[2])
            return _complement(ranges) if named[1] == "P" else ranges
        if after == "c" and written[at + 2 : at + 3] in tuple(string.ascii_letters):
            self._at += 3
            return ord(written[at + 2]) % 32
        self._at += 2
        if after.lower() in _CLASSES:
            ranges = _CLASSES[after.lower()]
            return ranges if after.islower() else _complement(ranges)
        if after in _CONTROLS and not (after == "0" and written[at + 2 : at + 3].isdigit()):
            return _CONTROLS[after]
        if after in _ESCAPED_ALWAYS:
            raise self._error(f"unknown escape \\{after}")
        return ord(after)

    def _code_point(self, code: int) -> int:
        r"""A character's number; `\ud83d\ude00` are the halves of one."""
        if code > _LAST:
            raise self._error("there is no such character")
        if 0xD800 <= code <= 0xDBFF and (half := _HEX.match(self._written, self._at)) is not None and half[2]:
            low = int(half[2], 16)
            if 0xDC00 <= low <= 0xDFFF:
                self._at = half.end()
                return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return code

    def _error(self, problem: str) -> re.error:
        return re.error(problem, self._written, min(self._at, len(self._written)))


def _of_set(ranges: Ranges) -> Token:
    return Token(set_text(ranges), "set", ranges)


@functools.lru_cache(maxsize=256)
def _property(name: str) -> Ranges:
    """The characters that have a property. Raises `re.error` where `regex` knows none of this name."""
    import regex

    try:
        runs = regex.compile(rf"\p{{{name}}}+").finditer(_all_characters())
    except regex.error as error:
        raise re.error(str(error)) from None
    return tuple((run.start(), run.end() - 1) for run in runs)


def _all_characters() -> str:
    return "".join(map(chr, range(_LAST + 1)))


def _joined(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """The same code points in ascending ranges that don't touch."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def _complement(ranges: Ranges) -> Ranges:
    """All other code points."""
    starts = [0, *(last + 1 for _, last in ranges)]
    ends = [*(first - 1 for first, _ in ranges), _LAST]
    return tuple((first, last) for first, last in zip(starts, ends, strict=True) if first <= last)


def _written(code: int) -> str:
    """A character within brackets."""
    if chr(code) in _ESCAPED_ALWAYS:
        return chr(code)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
