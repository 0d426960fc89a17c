"""Tests of `fcdistill.generation.verification.languages.neutral`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.verification.grounding import Grounder
from fcdistill.generation.verification.languages.neutral import NEUTRAL
from fcdistill.records import ToolCall
from tests.generation.home import NOW, book, catalog

GROUNDER = Grounder(catalog(), book(), NEUTRAL)


def unsaid(request: str, name: str, **arguments: Any) -> list[str]:
    return [path for _, path, _ in GROUNDER.compare(request, [ToolCall(name=name, arguments=arguments)], NOW).unsaid]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auf 21,5 Grad", ["auf", "21.5", "grad"]),
        ("1.200,50 €", ["1200.5", "eur"]),
        ("1,200.50", ["1200.5"]),
        ("um 19:30", ["um", "19", "30"]),
        ("-5 °C", ["-5", "c"]),
        ("zwanzig", ["zwanzig"]),
    ],
)
def test_digits_are_read_and_words_are_left_as_they_are(text: str, words: list[str]) -> None:
    assert [word.text for word in NEUTRAL.words(text)] == words


def test_digits_and_copies_speak() -> None:
    assert unsaid("Heizung im Büro auf 21,5 Grad", "set_thermostat", room="office", temperature=21.5) == [
        "set_thermostat.room"
    ]
    assert unsaid("Timer auf 10 Minuten", "set_timer", duration={"minutes": 10}) == []
    assert unsaid("Timer auf zehn Minuten", "set_timer", duration={"minutes": 10}) == ["set_timer.duration.minutes"]
    assert unsaid("Wie ist das Wetter in Köln?", "get_weather", city="Köln") == []
    assert unsaid("Wecker um 7 Uhr", "set_alarm", time="07:00") == []
    assert unsaid("Wecker um 7:15", "set_alarm", time="19:15") == ["set_alarm.time"]


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert all(word.text for word in NEUTRAL.words(text))


@given(st.decimals(min_value=-999, max_value=999, places=2))
def test_a_number_is_found_as_it_is_written(number: Any) -> None:
    value = float(number)
    (form,) = NEUTRAL.number_forms(value)
    assert [word.text for word in NEUTRAL.words(form)] == [form]
