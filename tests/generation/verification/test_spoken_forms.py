"""Tests of `fcdistill.generation.verification.spoken_forms`."""

from typing import Any

import pytest

from fcdistill.generation.verification.spoken_forms import heard_forms, plain_forms, spoken_forms
from fcdistill.generation.verification.value_book import ValueBook, ValueEntry
from tests.generation.home import NOW, book

EMPTY = ValueBook()


def spoken(value: Any, **schema: Any) -> list[str]:
    return spoken_forms(value, "tool.some_flag", schema, EMPTY, None)


@pytest.mark.parametrize(
    ("value", "forms"),
    [
        (30, ["30"]),
        (21.0, ["21"]),
        (21.5, ["21.5", "21 and a half", "21 and half"]),
        (-2.5, ["-2.5"]),
        (1, ["1", "a single"]),
        (True, ["some flag"]),
        (False, []),
        (None, []),
        ("living_room", ["living room"]),
        ("sat", ["Saturday", "sat"]),
        (["a"], []),
        ({"name": "milk"}, []),
    ],
)
def test_plain_forms(value: Any, forms: list[str]) -> None:
    assert spoken(value) == forms


def test_formats_are_said_as_people_say_them() -> None:
    assert "7 am" in spoken("07:00")
    assert "6 pm" in spoken("18:00:00Z", format="time")
    assert "3rd of May 2027" in spoken("2027-05-03", format="date")
    assert "3 May 2027 at 6 pm" in spoken("2027-05-03T18:00:00Z", format="date-time")
    assert spoken("2027-05-03T18:00:00Z") == ["2027-05-03T18:00:00Z"]
    assert "tomorrow at 6 pm" in spoken_forms("2027-05-03T18:00:00Z", "t.p", {"format": "date-time"}, EMPTY, NOW)
    assert "half an hour" in spoken({"minutes": 30})


@pytest.mark.parametrize(
    ("value", "pattern", "forms"),
    [
        ("ORD-104711", "^ORD-[0-9]{6}$", ["ORD-104711", "104711"]),
        ("inv/2027.8", r"^inv\/[0-9]{4}\.[0-9]+$", ["inv/2027.8", "2027.8"]),
        ("ORD104711", "^ORD-?[0-9]{6}$", ["ORD104711", "104711"]),
        ("A7", "^AB?[0-9]$", ["A7"]),
        ("A7", "^A|B[0-9]$", ["A7"]),
        ("KTL-330", "^[A-Z]{3}-[0-9]{3}$", ["KTL-330"]),
        ("ORD-open", "^ORD-[a-z]+$", ["ORD-open"]),
        ("104711", "ORD", ["104711"]),
    ],
)
def test_an_id_is_said_without_what_its_pattern_fixes(value: str, pattern: str, forms: list[str]) -> None:
    assert spoken(value, pattern=pattern) == forms


def test_money_and_currencies_are_said_as_people_say_them() -> None:
    assert spoken({"value": 20, "currency": "EUR"})[0] == "€20"
    assert spoken("USD") == ["dollars", "bucks", "USD"]
    assert "19 euros and 99 cents" in heard_forms({"value": 19.99, "currency": "EUR"}, "t.p", {}, EMPTY, None)


def test_dates_are_told_relative_to_now_first() -> None:
    told = plain_forms("2027-05-03", "t.p", {"format": "date"}, EMPTY, NOW)
    assert "tomorrow" in told and "3 May" in told
    assert not any("2027" in form or "afternoon" in form for form in told)


def test_the_books_phrases_replace_the_plain_form_and_others_are_only_heard() -> None:
    own = ValueBook({"t.p": (ValueEntry("cool", ("cool mode",), ("on cool",)), ValueEntry("dry", hear=("drying",)))})
    assert spoken_forms("cool", "t.p", {}, own, None) == ["cool mode"]
    assert heard_forms("cool", "t.p", {}, own, None) == ["cool mode", "on cool"]
    assert spoken_forms("dry", "t.p", {}, own, None) == ["dry"]
    assert heard_forms("dry", "t.p", {}, own, None) == ["dry", "drying"]
    assert spoken_forms("cool", "t.q", {}, own, None) == ["cool"]


def test_odd_forms_of_numbers_are_heard_and_not_told() -> None:
    heard = heard_forms(21.5, "t.p", {}, EMPTY, None)
    assert "21 point 5" in heard and "21 point 5" not in spoken(21.5)
    assert "half a dozen" in heard_forms(6, "t.p", {}, EMPTY, None)


@pytest.mark.parametrize(("path", "entries"), sorted(book().entries.items()))
def test_every_spoken_form_of_the_demo_is_heard(path: str, entries: tuple[ValueEntry, ...]) -> None:
    for entry in entries:
        said = spoken_forms(entry.value, path, {}, book(), None)
        assert said or isinstance(entry.value, list)
        assert set(said) <= set(heard_forms(entry.value, path, {}, book(), None))
