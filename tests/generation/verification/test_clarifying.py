"""Tests of `fcdistill.generation.verification.clarifying`."""

import pytest

from fcdistill.generation.verification.clarifying import Lacking, is_asked, lacking_values, question_problem
from tests.generation.home import catalog, catalog_of, tool

SHOP = catalog_of(
    tool(
        "give_voucher",
        {
            "customer_id": {"type": "string", "pattern": "^C[0-9]{4}$"},
            "amount": {"type": "object", "properties": {"value": {"type": "number"}, "currency": {"type": "string"}}},
        },
        ("customer_id", "amount"),
    ),
    tool("plan_visit", {"date": {"type": "string", "format": "date"}}, ("date",)),
)


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("set_light.room", "In which room should I turn the light on?"),
        ("set_light.state", "Should I switch it on or off?"),
        ("set_thermostat.temperature", "What should I set the temperature to?"),
        ("set_thermostat.temperature", "How warm should it be?"),
        ("set_timer.duration", "How long should the timer run?"),
        ("set_timer.duration", "How many minutes should it run?"),
        ("set_alarm.time", "At what time should the alarm ring?"),
        ("create_reminder.at", "When should I remind you?"),
        ("create_reminder.text", "What should I remind you of?"),
        ("play_music.query", "Which song should I play?"),
        ("play_music.query", "What should I play?"),
        ("get_weather.city", "Where?"),
        ("lock_door.door", "Which door should I lock?"),
    ],
)
def test_questions_for_a_value(name: str, question: str) -> None:
    assert is_asked(catalog(), Lacking(*name.split(".")), question)


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("set_light.room", "How should I dim the lights?"),
        ("set_light.room", "Which color should I make the room?"),
        ("set_light.room", "What should I do?"),
        ("set_timer.duration", "What time should the countdown start?"),
        ("get_sensor.sensor", "What's the temperature in the office?"),
        ("get_weather.city", "What will the weather be like in the city?"),
        ("lock_door.door", "What should I lock the door?"),
        ("lock_door.door", "When should I lock the door?"),
        ("lock_door.action", "Should I lock it?"),
        ("play_music.query", "What should I do with the music?"),
    ],
)
def test_questions_for_something_else(name: str, question: str) -> None:
    assert not is_asked(catalog(), Lacking(*name.split(".")), question)


def test_kinds_have_their_question_words_in_any_catalogue() -> None:
    assert is_asked(SHOP, Lacking("give_voucher", "amount"), "How much should it be?")
    assert is_asked(SHOP, Lacking("give_voucher", "amount"), "What amount should it have, and in which currency?")
    assert is_asked(SHOP, Lacking("give_voucher", "customer_id"), "Who should get it?")
    assert is_asked(SHOP, Lacking("plan_visit", "date"), "On which day?")
    assert not is_asked(SHOP, Lacking("plan_visit", "date"), "Which voucher?")


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Which room?", ""),
        ("Please name a room.", "not one question"),
        ("Which room?\nThis one?", "not one question"),
        ("Which room should I dim to 50?", "a number that nobody said"),
        ("Which room should I dim to 30?", ""),
        ("Dim it to 30?", "repeats the request"),
        ("When?", "missing: room"),
    ],
)
def test_a_bad_question_is_refused_with_its_reason(question: str, said: str) -> None:
    problem = question_problem(catalog(), "dim it to 30", question, [Lacking("set_light", "room")])
    assert said in problem and bool(problem) == bool(said)
    assert "not known" in question_problem(catalog(), "dim it to 30", question, []) or "not one" in problem


@pytest.mark.parametrize(
    ("request_text", "tools"),
    [
        ("Set an alarm, I can't oversleep again.", {"set_alarm"}),
        ("remind me to call her", {"create_reminder"}),
        ("run the robot on turbo", {"start_vacuum"}),
        ("hm", set()),
    ],
)
def test_the_words_of_a_request_tell_its_tool(request_text: str, tools: set[str]) -> None:
    assert {value.tool for value in lacking_values(catalog(), request_text)} == tools


@pytest.mark.parametrize(
    ("pattern", "is_time"), [(r"^(?<h>\d\d):\p{Nd}{2}$", True), (r"^\p{Lu}$", False), ("(", False)]
)
def test_a_pattern_of_times_asks_for_a_time(pattern: str, is_time: bool) -> None:
    known = catalog_of(tool("wake", {"moment": {"type": "string", "pattern": pattern}}, ("moment",)))
    assert is_asked(known, Lacking("wake", "moment"), "At what time?") == is_time
