"""Realistic texts: what formats, patterns and names suggest, and nothing where nothing does."""

import re
from typing import Any

import pytest

from fcdistill.generation.plan.realistic import RealisticTexts
from fcdistill.records import ToolCall
from fcdistill.tools.validation import CallValidator
from tests.generation.home import tool

FORMATS = (
    "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6", "uri", "iri", "uri-reference", "iri-reference",
    "uri-template", "uuid", "duration", "json-pointer", "relative-json-pointer", "regex",
)  # fmt: skip
PATTERNS = (
    "^[A-Z]{2}-[0-9]{4}$", r"^\d{3}-\d{2}$", "^([01][0-9]|2[0-3]):[0-5][0-9]$", "[a-z]+", "^[^@]+@[^@]+$", r"^\w+$",
    "^a*b?c{2,}$", "^(red|green)$", r"^.{3,6}$", r"^\S+\.txt$", "^[^a-z ]{3}$", r"^\+[1-9]\d{6,14}$", "^(?:x|y){2}$",
    r"^\p{Lu}\p{Ll}+( \p{Lu}\p{Ll}+)?$", r"^(?<year>[0-9]{4})-(?<day>\d{3})$", r"^(?<a>x|y)-\k<a>$", r"^[\p{L}\d]{3,}$",
    r"^\P{L}{2}$", r"^.+?\S*?$", r"^[^]{2}$", r"^\p{Script=Greek}{3}$",
)  # fmt: skip


def draw(name: str, schema: dict[str, Any], count: int = 8, seed: int = 3) -> list[str | None]:
    texts = RealisticTexts(seed)
    return [texts.draw(name, schema) for _ in range(count)]


def valid(text: str | None, schema: dict[str, Any]) -> bool:
    call = ToolCall(name="t", arguments={"p": text})
    return CallValidator([tool("t", {"p": {"type": "string", **schema}})]).check_call(call) == []


@pytest.mark.parametrize("name", FORMATS)
def test_texts_of_a_format_are_of_that_format(name: str) -> None:
    drawn = draw("p", {"format": name})
    assert len(set(drawn)) > 1 and all(valid(text, {"format": name}) for text in drawn)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_texts_of_a_pattern_match_it_and_are_short_and_plain(pattern: str) -> None:
    drawn = draw("p", {"pattern": pattern})
    assert all(valid(text, {"pattern": pattern}) for text in drawn)
    assert all(text is not None and len(text) <= 20 and text.isprintable() for text in drawn)


@pytest.mark.parametrize("pattern", ["^[", r"^(?P<a>x)(?P=b)$", r"^(a)\2$", r"\p{None}"])
def test_a_pattern_that_can_not_be_written_gives_nothing(pattern: str) -> None:
    assert draw("p", {"pattern": pattern}, 1) == [None]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("email", r"\S+@example\.(com|org|net)"),
        ("customerEmail", r"\S+@example\.(com|org|net)"),
        ("recipients", r"[A-Z].* [A-Z].*"),
        ("order_id", r"[A-Z]{2}-\d{4}"),
        ("phone-number", r"202-555-01\d\d"),
        ("zip_code", r"\d{5}"),
        ("website", r"https://www\.example\.com/\S+"),
        ("country_code", "[A-Z]{2}"),
        ("last_name", r"[A-Z]\w+"),
    ],
)
def test_names_suggest_texts(name: str, shape: str) -> None:
    assert all(re.fullmatch(shape, text or "") for text in draw(name, {}))


@pytest.mark.parametrize("name", ["query", "text", "label", "name", "title", "p", "", "idea", "emails sent"])
def test_names_that_suggest_nothing_get_nothing(name: str) -> None:
    assert draw(name, {}, 1) == [None]


def test_lengths_are_kept_or_there_is_no_text() -> None:
    assert all(len(text or "") <= 12 for text in draw("first_name", {"maxLength": 12}))
    assert draw("city", {"minLength": 90}, 1) == draw("email", {"maxLength": 3}, 1) == [None]


def test_the_same_seed_gives_the_same_texts() -> None:
    for name, schema in (("person", {}), ("p", {"pattern": "^[^x]{4}.*$"}), ("p", {"format": "uuid"})):
        assert draw(name, schema) == draw(name, schema) != draw(name, schema, seed=4)
