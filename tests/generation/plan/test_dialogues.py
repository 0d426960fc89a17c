"""Conversations are planned from calls, and results are made to hold what the next call takes."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import pytest

from fcdistill.errors import ConfigError
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.dialogues import DialoguePlan, DialoguePlanner, kinds_in_turn
from fcdistill.generation.plan.tool_results import Feed, ToolResults, holds, read_results, result_problem
from fcdistill.generation.verification.value_book import ValueBook, ValueEntry
from fcdistill.records import ConversationKind, FollowUpKind, ResultKind
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import optional_parameters
from fcdistill.tools.validation import CallValidator
from tests.generation.home import NOW, book, catalog, catalog_of, tool


def draw(
    own: Catalog,
    results: ToolResults,
    count: int = 30,
    values: ValueBook | None = None,
    kinds: Sequence[ConversationKind] = get_args(ResultKind),
) -> list[DialoguePlan]:
    validator, values = CallValidator(own.specs), values or ValueBook()
    sampler = ArgumentSampler(validator, values, seed=1, now=NOW)
    generator = random.Random(1)
    planner = DialoguePlanner(
        own,
        validator,
        values,
        results,
        sampler,
        lambda spec, most: tuple(
            generator.sample(optional_parameters(spec), min(most, len(optional_parameters(spec))))
        ),
        generator,
    )
    return list(planner.draw(count, dict.fromkeys(kinds, 1.0)))


@pytest.fixture(scope="module")
def plans() -> list[DialoguePlan]:
    return draw(catalog(), read_results(None, catalog()), 60, book())


def test_the_kinds_take_turns_and_all_calls_are_valid(plans: list[DialoguePlan]) -> None:
    assert [plan.dialogue.kind for plan in plans] == ["chained", "referring", "repeated"] * 20
    validator = CallValidator(catalog().specs)
    assert all(not validator.check_call(call) for plan in plans for call in plan.calls)


def test_a_value_of_a_result_is_said_nowhere_and_referred_to(plans: list[DialoguePlan]) -> None:
    for plan in plans:
        first, last = plan.calls
        if plan.dialogue.kind == "repeated":
            continue
        assert first.name == "get_sensor" and first.arguments["sensor"] == "temperature"
        assert plan.dialogue.argument == "temperature" and plan.dialogue.result is None
        assert last.arguments["temperature"] not in first.arguments.values()
        assert not any(character.isdigit() for character in dict(plan.facts[1])["temperature"])
        if plan.dialogue.kind == "chained":
            rooms = [call.arguments.get("room") for call in plan.calls]
            assert None not in rooms and rooms[0] != rooms[1], "else nobody could say whose room was meant"


def test_a_repeated_call_differs_in_the_one_argument_that_is_said(plans: list[DialoguePlan]) -> None:
    repeated = [plan for plan in plans if plan.dialogue.kind == "repeated"]
    assert {plan.calls[0].name for plan in repeated} == catalog().by_name.keys()
    for plan in repeated:
        first, last = plan.calls
        name = plan.dialogue.argument
        assert first.name == last.name and first.arguments[name] != last.arguments[name]
        assert {**first.arguments, name: None} == {**last.arguments, name: None}
        assert [fact for fact, _ in plan.facts[1]] == [name.replace("_", " ")]
        reads = first.name.startswith("get_")
        assert plan.dialogue.result == (None if reads else '{"status": "ok"}')


FLIGHTS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "flights": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"id": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$"}, "seats": {"type": "integer"}},
                "required": ["id"],
            },
        },
    },
    "required": ["city", "flights"],
}


def flights(pattern: str) -> tuple[Catalog, ToolResults]:
    own = catalog_of(
        tool("find_flights", {"city": {"enum": ["Rome", "Oslo"]}}, ("city",)),
        tool("book_flight", {"flight_id": {"type": "string", "pattern": pattern}}, ("flight_id",)),
    )
    feed = Feed("find_flights", ("flights", 0, "id"), "book_flight", "flight_id")
    return own, ToolResults({"find_flights": FLIGHTS}, (feed,))


def test_a_sampled_result_fits_its_schema_repeats_the_call_and_holds_the_value() -> None:
    fed = [plan for plan in draw(*flights("^[A-Z]{2}[0-9]{3}$")) if plan.dialogue.kind != "repeated"]
    for plan in fed:
        result: Any = json.loads(plan.dialogue.result or "")
        assert result_problem(result, FLIGHTS) == "" and result["city"] == plan.calls[0].arguments["city"]
        assert result["flights"][0]["id"] == plan.calls[1].arguments["flight_id"]
        assert holds(result, plan.calls[1].arguments["flight_id"])


def test_a_value_that_no_result_can_hold_is_not_planned() -> None:
    assert {plan.dialogue.kind for plan in draw(*flights("^[a-z]{9}$"))} == {"repeated"}


def test_a_result_of_texts_that_nobody_can_make_up_is_the_teachers() -> None:
    own = catalog_of(tool("set_note", {"line": {"enum": [1, 2]}}, ("line",)))
    results = ToolResults(
        {"set_note": {"type": "object", "properties": {"t": {"type": "string"}}, "required": ["t"]}}, ()
    )
    assert {plan.dialogue.result for plan in draw(own, results, 5)} == {None}


@pytest.mark.parametrize("properties", [{}, {"only": {"const": 1}}, {"fast": {"type": "boolean"}}])
def test_nothing_to_build_on_is_an_error(properties: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no conversation can be planned"):
        draw(catalog_of(tool("go", properties, tuple(properties))), ToolResults({}, ()), 1)


def test_what_another_argument_implies_is_not_changed() -> None:
    light = catalog_of(catalog().by_name["set_light"])
    implied = {**book().entries, "set_light.brightness": (ValueEntry(30), ValueEntry(60))}
    for plan in draw(light, ToolResults({}, ()), 40, ValueBook(implied)):
        if {"brightness", "color"} & plan.calls[0].arguments.keys():
            assert plan.dialogue.argument != "state"


# --- kinds without results

NO_RESULTS: tuple[ConversationKind, ...] = get_args(FollowUpKind)
BANK = catalog_of(
    tool("greeting", {}),
    tool("check_balance", {"account": {"enum": ["checking", "savings"]}}),
    tool("pay_bill", {"payee": {"enum": ["Luigi", "Priya"]}, "amount": {"enum": [10, 20]}}, ("payee",)),
)


def test_shares_say_how_often_a_kind_has_its_turn() -> None:
    turns = kinds_in_turn({"completed": 2, "corrected": 1, "social": 0.5})
    assert Counter(itertools.islice(turns, 70)) == {"completed": 40, "corrected": 20, "social": 10}
    equal = kinds_in_turn(dict.fromkeys(NO_RESULTS, 0.3))
    assert [*itertools.islice(equal, 6)] == list(NO_RESULTS)


@pytest.mark.parametrize("kind", NO_RESULTS)
def test_plans_without_results_are_valid_and_of_their_kind(kind: ConversationKind) -> None:
    validator = CallValidator(BANK.specs)
    for plan in draw(BANK, ToolResults({}, ()), 12, kinds=[kind]):
        calls, dialogue = plan.calls, plan.dialogue
        assert dialogue.kind == kind and dialogue.result is None
        assert not any(validator.check_call(call) for call in calls)
        assert len(plan.facts) == (3 if kind == "resumed" else 2)
        if kind == "completed":
            (told,) = plan.facts[-1]
            assert told[0] == dialogue.argument and dialogue.argument in calls[-1].arguments
            assert dialogue.argument not in dict(plan.facts[0])
            assert dialogue.asks_back == (dialogue.argument == "payee") == (len(calls) == 1)
        elif kind in ("corrected", "carried_over", "resumed"):
            first, last = calls[0], calls[-1]
            name = dialogue.argument
            assert first.name == last.name and first.arguments[name] != last.arguments[name]
            assert {**first.arguments, name: None} == {**last.arguments, name: None}
        elif kind == "social":
            assert [call.name for call in calls][0] == "greeting" != calls[1].name
        if kind in ("switched", "resumed"):
            assert calls[0].name != calls[1].name
        if kind == "resumed":
            assert plan.facts[-1][0][0] == "about"


def test_a_kind_that_the_tools_have_nothing_for_is_passed_over_and_all_such_kinds_an_error() -> None:
    home = catalog()
    assert {plan.dialogue.kind for plan in draw(home, ToolResults({}, ()), 10, book(), ["social", "corrected"])} == {
        "corrected"
    }
    with pytest.raises(ConfigError, match="nothing for any of social") as raised:
        draw(home, ToolResults({}, ()), 1, book(), ["social"])
    assert "multi_turn_shares" in str(raised.value)
