"""Patterns mean what ECMA-262 says, and what nobody can read is none."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.tools.patterns import Token, pattern_for, set_text


@pytest.mark.parametrize(
    ("written", "found", "not_found"),
    [
        ("^[a-z]+$", ["a"], ["a\n", "A", ""]),
        ("a$|^b", ["xa", "bx"], ["a\n", "xb"]),
        (r"^\d{3}$", ["407"], ["٤٠٧", "40"]),
        (r"^\w+$", ["grosse_uhr1"], ["große"]),
        (r"^\s\S$", ["\ufeffx", "\u2003x"], ["\u200bx", "  "]),
        (r"^[\d\s-]+$", ["1 -"], ["٤", "a"]),
        (r"^[^\d]$", ["٤"], ["4"]),
        (r"^[\D]$", ["٤"], ["4"]),
        (r"^.$", ["a", "😀", "\x85"], ["\n", "\r", "\u2028"]),
        (r"\bé", ["aé"], ["é"]),  # é is no letter of a word
        (r"^\p{L}+$", ["Žofie", "名"], ["Zofie2", ""]),
        (r"^\P{L}$", ["2"], ["Ž"]),
        (r"^\p{Lu}\p{Ll}+$", ["Åland"], ["åland", "ÅLAND"]),
        (r"^[\p{Script=Greek}\p{Nd}]+$", ["αβ٤"], ["a"]),
        (r"^[^\p{L}\P{Any}]$", ["2"], ["a"]),
        (r"^\p{gc=Uppercase_Letter}\p{Alphabetic}$", ["Ab"], ["ab"]),
        (r"^(?<year>[0-9]{4})-(?<day>[0-9]{3})$", ["2031-204"], ["31-204"]),
        (r"^(?<a>x|y)\k<a>$", ["xx", "yy"], ["xy"]),
        (r"^(?P<a>x|y)(?P=a)z$", ["xxz"], ["xyz"]),
        (r"^(a)?\1b$", ["b", "aab"], ["ab"]),  # what took no part is empty
        (r"^\1(a)$", ["a"], ["aa"]),
        (r"^(?:a|b)(?=c)(?!cd)c(?<=bc)(?<!x)", ["bc"], ["ac", "bcd"]),
        (r"(?<=^a+)b$", ["aab"], ["b", "xab"]),
        (r"^\u{1F600}\ud83d\ude00\x41\cA\0$", ["😀😀A\x01\0"], ["A"]),
        (r"^[\u{1F600}-\u{1F602}]$", ["😁"], ["\ud83d"]),
        (r"^[]$|^[^]$", ["\n", "x"], ["", "xy"]),
        (r"^[\w-.]$", ["-", ".", "w"], ["+"]),
        (r"^[a\-\]\\/&&~[]+$", ["-]\\/&~["], ["b"]),
        (r"^\/\.\-x\@$", ["/.-x@"], ["/a-x@"]),
        ("^x{,3}$", ["x{,3}"], ["xx"]),
        ("^{a}$", ["{a}"], ["a"]),
        ("^a{2,}?b{1}$", ["aaab"], ["ab"]),
        (r"\Aab\Z", ["ab"], ["ab\n"]),
        ("^ #$", [" #"], ["#"]),
        ("(?i)^abc$", ["ABC"], ["abd"]),  # Python's own
    ],
)
def test_what_a_pattern_finds(written: str, found: list[str], not_found: list[str]) -> None:
    pattern = pattern_for(written)
    assert pattern is not None
    assert all(map(pattern.found_in, found))
    assert not any(map(pattern.found_in, not_found))


@pytest.mark.parametrize(
    "written",
    [
        "(",
        ")",
        "[a",
        "a**",
        "\\",
        r"^(a)\2$",
        r"\k<a>",
        r"\p{Nonsense}",
        "[b-a]",
        r"\u{110000}",
        "(?x",
    ],
)
def test_what_no_library_takes_is_no_pattern(written: str) -> None:
    assert pattern_for(written) is None


def test_parts_tell_what_they_are() -> None:
    pattern = pattern_for(r"^[a-c]\d+(x)\1$")
    assert pattern is not None and pattern.is_plain and pattern.text == "".join(part.text for part in pattern.tokens)
    assert [part.kind for part in pattern.tokens] == [
        "other", "set", "set", "repeat", "other", "other", "other", "reference", "end",
    ]  # fmt: skip
    assert pattern.tokens[1] == Token("[a-c]", "set", ((97, 99),))
    assert pattern.tokens[7].group == 1


def test_python_alone_does_not_take_every_pattern() -> None:
    pattern = pattern_for("(?<=a+)b")
    assert pattern is not None and not pattern.is_plain


@given(st.lists(st.tuples(st.characters(), st.characters()).map(sorted), max_size=4), st.characters(), st.booleans())
def test_a_class_holds_what_it_names(pairs: list[list[str]], letter: str, negated: bool) -> None:
    inside = "".join(f"\\u{{{ord(first):x}}}-\\u{{{ord(last):x}}}" for first, last in pairs)
    pattern = pattern_for(f"^[{'^' if negated else ''}{inside}]$")
    assert pattern is not None
    assert pattern.found_in(letter) == (any(first <= letter <= last for first, last in pairs) != negated)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_and_escaped_text_finds_itself(text: str) -> None:
    pattern_for(text)
    escaped = pattern_for("".join(f"\\u{{{ord(letter):x}}}" for letter in text))
    assert escaped is not None and escaped.found_in(text)


@given(st.lists(st.integers(0, 0x10FFFF), max_size=5))
def test_the_text_of_a_set_is_that_set(codes: list[int]) -> None:
    ranges = tuple((code, code) for code in sorted(set(codes)))
    found = {code for code in codes if re.fullmatch(set_text(ranges), chr(code))}
    assert found == set(codes) and not re.match(set_text(()), "a")
