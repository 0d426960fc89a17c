"""Tests of `fcdistill.generation.verification.verifier`."""

import random
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.verification.clarifying import Lacking
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.spoken_forms import heard_forms, spoken_forms
from fcdistill.records import ToolCall
from fcdistill.tools.parameters import optional_parameters, property_schema
from tests.generation.home import NOW, book, catalog, validator, verifier

VERIFIER = verifier()


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


@pytest.mark.parametrize("text", ["kitchen light on", "Search the web for me?", "I'm cold, 22 degrees please"])
def test_plain_requests_pass(text: str) -> None:
    assert VERIFIER.check_request(text).ok


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("?!", "empty"),
        ("one line\nanother", "more than one line"),
        ("word " * 61, "61 words"),
        ("Sure, I'll turn it on", "as the assistant"),
        ("I’m turning the light on", "as the assistant"),
        ("I can turn the light on", "as the assistant"),
        ("Would you like the light on?", "as the assistant"),
        ("Do you need the kitchen light?", "as the assistant"),
        ("please call set_light", "names a function"),
        ('light {"room": 1}', "holds JSON"),
    ],
)
def test_what_is_no_request_is_refused_with_its_reason(text: str, said: str) -> None:
    check = VERIFIER.check_request(text)
    assert (check.name, check.ok) == ("request", False) and said in check.detail


@pytest.mark.parametrize("text", ["the same in the office", "Heat it to THAT", "whatever you find there"])
def test_a_request_may_refer_to_a_result(text: str) -> None:
    assert VERIFIER.check_reference(text).ok


def test_a_request_that_refers_to_no_result_is_told() -> None:
    check = VERIFIER.check_reference("heat the office, Thatcher style")
    assert (check.name, check.detail) == ("reference", "the request does not refer to the result of the first call")


def test_all_reasons_of_a_missing_ground_are_told() -> None:
    calls = [call("set_light", room="office", state="on", brightness=20), call("play_music", query="jazz", volume=20)]
    check = VERIFIER.check_grounding("red light in the kitchen at 20, 30 percent, jazz", calls, None)
    assert not check.ok
    for said in (
        "not in the request: set_light.room = 'office'",
        "said once for several arguments: 20",
        "in no argument: 30",
        "in no argument: 'red' (set_light.color)",
    ):
        assert said in check.detail


@pytest.mark.parametrize(
    ("request_text", "before", "after"),
    [
        (
            "kitchen light on",
            call("set_light", room="kitchen", state="on", brightness=50),
            {"room": "kitchen", "state": "on"},
        ),
        (
            "kitchen light on and red",
            call("set_light", room="kitchen", state="on"),
            {"room": "kitchen", "state": "on", "color": "red"},
        ),
        (
            "kitchen light on",
            call("set_light", room="office", state="on"),
            {"room": "kitchen", "state": "on"},
        ),
        ("play Adele", call("play_music", query="Adele", room="adele", loud=True), {"query": "Adele"}),
        ("light on in the office", call("set_light", room="study", state="on"), {"room": "office", "state": "on"}),
        ("dim the lounge light", call("set_light", room="lounge", state="on"), None),
        ("office light on", call("set_light", room="office", state="off"), None),
        ("kitchen light on at 30", call("set_light", room="kitchen", state="on"), None),
        ("pause, I'm halfway home", call("control_playback", action="pause"), None),
        (
            "milk and eggs",
            call("add_shopping_items", items=[{"name": "milk", "quantity": 1}, {"name": "eggs"}]),
            {"items": [{"name": "milk"}, {"name": "eggs"}]},
        ),
        (
            "12 eggs and milk",
            call("add_shopping_items", items=[{"name": "eggs", "quantity": 12}, {"name": "milk", "quantity": 3}]),
            None,
        ),
        ("vacuum the kitchen and the garage", call("start_vacuum", rooms=["kitchen"]), None),
    ],
)
def test_repairs(request_text: str, before: ToolCall, after: dict[str, Any] | None) -> None:
    untouched = before.model_copy(deep=True)
    repaired = VERIFIER.repaired(request_text, [before], None)
    assert (repaired and [fixed.arguments for fixed in repaired]) == ([after] if after else None)
    assert before == untouched


def test_a_choice_goes_to_no_call_where_two_could_take_it() -> None:
    calls = [call("get_weather", city="Oslo"), call("get_weather", city="Rome")]
    assert VERIFIER.repaired("Oslo and Rome tomorrow", calls, None) is None


def test_arguments_come_in_the_schemas_order() -> None:
    ordered = VERIFIER.tidied(call("set_light", state="on", color="red", room="office"))
    assert list(ordered.arguments) == ["room", "state", "color"]


def test_texts_lose_the_spaces_around_them() -> None:
    items = [{"name": " limes ", "quantity": 2}]
    assert VERIFIER.tidied(call("add_shopping_items", items=items)).arguments == {
        "items": [{"name": "limes", "quantity": 2}]
    }


def test_mixed_calls_are_refused_with_their_names() -> None:
    swapped = [call("lock_door", door="front", action="unlock"), call("lock_door", door="back", action="lock")]
    check = VERIFIER.check_grounding("lock the front door and unlock the back one", swapped, None)
    assert not check.ok and "mixes what belongs to different parts: lock_door" in check.detail


def test_a_named_set_of_weekdays_is_taken_over_and_a_listed_text_is_not() -> None:
    repaired = VERIFIER.repaired("ring at 7 am on weekdays", [call("set_alarm", time="07:00")], None)
    assert repaired is not None and repaired[0].arguments["days"] == ["mon", "tue", "wed", "thu", "fri"]
    timer = call("set_timer", duration={"minutes": 10})
    assert VERIFIER.repaired("my hands are in dough, 10 minutes please", [timer], None) is None


@pytest.mark.parametrize(
    ("request_text", "lacking"),
    [
        ("dim the light to 30", [Lacking("set_light", "room")]),
        ("set it to 21.5 degrees", [Lacking("set_thermostat", "room")]),
        ("Lock the door behind me", [Lacking("lock_door", "door")]),
        ("light", [Lacking("set_light", "room"), Lacking("set_light", "state")]),
        ("hm", []),
    ],
)
def test_what_a_request_lacks_is_told_from_its_words(request_text: str, lacking: list[Lacking]) -> None:
    assert VERIFIER.lacking(request_text, None) == lacking


def test_a_question_may_be_no_call() -> None:
    room = [Lacking("set_light", "room")]
    assert VERIFIER.check_question("light on", "In which room?", room).ok
    assert not VERIFIER.check_question("light on", "What should I do?", room).ok


def test_free_words_are_those_of_texts_without_a_closed_set() -> None:
    calls = [
        call("set_light", room="kitchen", state="on"),
        call("add_shopping_items", items=[{"name": "oat milk", "quantity": 2}]),
        call("create_reminder", text="feed the fish", at="2027-05-03T18:00:00Z", priority="high"),
    ]
    words = VERIFIER.free_words(calls)
    assert {"oat", "milk", "feed", "fish"} <= words
    assert not {"kitchen", "high", "on"} & words


# --- properties over sampled calls


def forms_of(tool: str, name: str, value: Any, now: datetime | None) -> list[str]:
    """One phrase for a value: any of its spoken forms, or its parts' forms in a row."""
    spec = catalog().by_name[tool]

    def say(value: Any, path: str, steps: list[str]) -> list[str]:
        schema = property_schema(spec.parameters, steps) or {}
        forms = spoken_forms(value, path, schema, book(), now)
        if forms:
            return forms
        if isinstance(value, list):
            return [" and ".join(say(item, path, steps)[0] for item in value)]
        parts = [(key, say(part, f"{path}.{key}", [*steps, key])[0]) for key, part in value.items()]
        return [" ".join(said for _, said in sorted(parts, key=lambda part: part[0] != "quantity"))]

    return say(value, f"{tool}.{name}", [name])


def sampled(seed: int, number: int) -> ToolCall:
    generator = random.Random(seed)
    sampler = ArgumentSampler(validator(), book(), seed=seed, now=NOW)
    spec = catalog().specs[number % len(catalog().specs)]
    return sampler.sample(spec, [name for name in optional_parameters(spec) if generator.random() < 0.5])


SAMPLES = given(st.integers(0, 10**6), st.integers(0, 11), st.booleans(), st.randoms(use_true_random=False))
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def phrases_of(sample: ToolCall, now: datetime | None, generator: random.Random) -> dict[str, str]:
    said = {}
    for name, value in sample.arguments.items():
        entry = book().entry(f"{sample.name}.{name}", value)
        if entry is None or not any(other in sample.arguments for other in entry.implied_by):
            said[name] = generator.choice(forms_of(sample.name, name, value, now))
    return said


@FEW
@SAMPLES
def test_a_request_that_says_every_argument_is_grounded(
    seed: int, number: int, with_now: bool, generator: random.Random
) -> None:
    sample, now = sampled(seed, number), NOW if with_now else None
    phrases = list(phrases_of(sample, now, generator).values())
    generator.shuffle(phrases)
    check = VERIFIER.check_grounding(", then ".join(phrases), [sample], now)
    assert check.ok, (phrases, sample, check.detail)


@FEW
@SAMPLES
def test_a_request_that_leaves_an_argument_out_is_not(
    seed: int, number: int, with_now: bool, generator: random.Random
) -> None:
    sample, now = sampled(seed, number), NOW if with_now else None
    phrases = phrases_of(sample, now, generator)
    dropped = generator.choice(sorted(phrases))
    rest = ", then ".join(phrase for name, phrase in phrases.items() if name != dropped)
    schema = property_schema(catalog().by_name[sample.name].parameters, [dropped]) or {}
    heard = heard_forms(sample.arguments[dropped], f"{sample.name}.{dropped}", schema, book(), now)
    assume(not {word.text for form in heard for word in words_of(form)} & {word.text for word in words_of(rest)})
    assert not VERIFIER.check_grounding(rest, [sample], now).ok


@FEW
@SAMPLES
def test_a_request_that_says_more_than_the_call_is_not(
    seed: int, number: int, with_now: bool, generator: random.Random
) -> None:
    sample, now = sampled(seed, number), NOW if with_now else None
    spec = catalog().by_name[sample.name]
    schemas = {name: property_schema(spec.parameters, [name]) or {} for name in sample.arguments}
    countable = [
        name
        for name, value in sample.arguments.items()
        if name in optional_parameters(spec)
        and ("enum" in schemas[name] or isinstance(value, int | float) and not isinstance(value, bool))
    ]
    assume(countable)
    dropped = generator.choice(countable)
    text = ", then ".join(phrases_of(sample, now, generator).values())
    forgetful = call(sample.name, **{name: value for name, value in sample.arguments.items() if name != dropped})
    assert not VERIFIER.check_grounding(text, [forgetful], now).ok


@FEW
@given(st.integers(0, 10**6), st.integers(0, 11), st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_what_is_repaired_passes_all_checks(seed: int, number: int, other: int, generator: random.Random) -> None:
    """The request says one call, the model made another of the same tool."""
    said, made = sampled(seed, number), sampled(other, number)
    text = ", then ".join(phrases_of(said, NOW, generator).values())
    repaired = VERIFIER.repaired(text, [made], NOW)
    if repaired is not None:
        assert VERIFIER.check_schema(repaired).ok and VERIFIER.check_grounding(text, repaired, NOW).ok
        assert [fixed.name for fixed in repaired] == [made.name]


def test_a_step_takes_values_from_all_that_was_said_and_shares_the_request_with_other_steps() -> None:
    weather = call("get_weather", city="Oslo")
    lamp = call("set_light", room="kitchen", state="on", brightness=40)
    request = "The weather there, then the kitchen light on at 40."
    said = f"Where am I?\nOslo\n{request}"
    assert VERIFIER.check_step_grounding(said, request, [weather], [lamp], None).ok
    unsaid = VERIFIER.check_step_grounding(request, request, [weather], [lamp], None)
    assert unsaid.detail == "not in the request: get_weather.city = 'Oslo'"
    assert "in no argument: 40" in VERIFIER.check_step_grounding(said, request, [weather], [], None).detail


@FEW
@given(st.integers(0, 10**6), st.integers(0, 11), st.integers(0, 10**6), st.randoms(use_true_random=False))
@example(seed=11, number=11, other=3110, generator=random.Random(0))
def test_a_conversation_of_one_step_is_judged_as_a_request(
    seed: int, number: int, other: int, generator: random.Random
) -> None:
    said, made = sampled(seed, number), sampled(other, number)
    text = ", then ".join(phrases_of(said, NOW, generator).values())
    assert VERIFIER.check_step_grounding(text, text, [made], [], NOW) == VERIFIER.check_grounding(text, [made], NOW)
