"""Tests of `fcdistill.generation.plan.plan`."""

from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fcdistill.config import GenerateConfig, LocalBackendConfig
from fcdistill.generation.plan.plan import REGISTERS, PlanItem, calls_group, make_plan, time_context, time_of_context
from fcdistill.generation.plan.tool_results import ToolResults, read_results
from fcdistill.generation.verification.value_book import ValueBook, ValueEntry
from fcdistill.records import SeedRequest, ToolCall
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import required_parameters
from fcdistill.tools.validation import CallValidator
from tests.generation.home import NOW, TOOLS, book, catalog, catalog_of, tool, validator, verifier

NO_RESULTS = ToolResults({}, ())


def config(**fields: Any) -> GenerateConfig:
    return GenerateConfig(tools=TOOLS, out=Path("out"), teacher=LocalBackendConfig(model="none"), **fields)


def plan_of(own: Catalog, entries: dict[str, tuple[ValueEntry, ...]] | None = None, **fields: Any) -> list[PlanItem]:
    return make_plan(config(**fields), own, CallValidator(own.specs), ValueBook(entries or {}), (), NO_RESULTS)


@pytest.fixture(scope="module")
def plan() -> list[PlanItem]:
    return make_plan(config(num_call_first=400), catalog(), validator(), book(), (), NO_RESULTS)


def test_the_same_configuration_gives_the_same_plan(plan: list[PlanItem]) -> None:
    assert make_plan(config(num_call_first=400), catalog(), validator(), book(), (), NO_RESULTS) == plan
    assert make_plan(config(num_call_first=400, seed=1), catalog(), validator(), book(), (), NO_RESULTS) != plan


def test_ids_are_unique(plan: list[PlanItem]) -> None:
    assert len({item.id for item in plan}) == len(plan) == 400


def test_shares_of_the_categories(plan: list[PlanItem]) -> None:
    counts = Counter(item.category for item in plan)
    assert counts["clarify"] == 30 and counts["irrelevance"] == 30
    assert counts["parallel"] == round(340 * 0.12)
    assert counts["parallel_multiple"] == round(340 * 0.2)
    assert counts["simple"] == 340 - counts["parallel"] - counts["parallel_multiple"]


@pytest.mark.parametrize("total", [0, 1, 2, 7, 13])
def test_small_plans_have_exactly_the_wanted_size(total: int) -> None:
    assert len(make_plan(config(num_call_first=total), catalog(), validator(), book(), (), NO_RESULTS)) == total


def test_tools_come_equally_often(plan: list[PlanItem]) -> None:
    counts = Counter(item.calls[0].name for item in plan if item.category == "simple")
    assert counts.keys() == catalog().by_name.keys()
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_subsets_of_optional_parameters_take_turns(plan: list[PlanItem]) -> None:
    subsets = Counter(item.cell.split("/")[1] for item in plan if item.category == "simple")
    music = [count for cell, count in subsets.items() if cell.startswith("play_music[")]
    assert len(music) == 8 and max(music) - min(music) <= 1
    assert abs(subsets["set_timer[]"] - subsets["set_timer[label]"]) <= 1


def test_of_many_optional_parameters_each_is_given_half_of_the_time() -> None:
    names = [f"p{index}" for index in range(9)]
    own = catalog_of(tool("t", {name: {"type": "integer"} for name in names}))
    calls = [item.calls[0] for item in plan_of(own, num_call_first=200) if item.category == "simple"]
    given = Counter(name for call in calls for name in call.arguments)
    assert given.keys() == set(names) and all(0.35 < count / len(calls) < 0.65 for count in given.values())


def test_registers_take_turns(plan: list[PlanItem]) -> None:
    counts = Counter(item.register for item in plan)
    assert counts.keys() == set(REGISTERS) and max(counts.values()) - min(counts.values()) <= 1


def test_calls_are_valid_and_fit_their_category(plan: list[PlanItem]) -> None:
    for item in plan:
        names = {call.name for call in item.calls}
        if item.category == "irrelevance":
            assert bool(item.calls) != bool(item.topic)
        elif item.category != "clarify":
            assert verifier().check_schema(item.calls).ok
            size = len(item.calls)
            expected = {
                "simple": size == len(names) == 1,
                "parallel": len(names) == 1 < size,
                "parallel_multiple": len(names) == size > 1,
            }
            assert expected[item.category or ""]


def test_a_clarify_item_holds_a_whole_call_and_names_what_is_cut(plan: list[PlanItem]) -> None:
    asked = [item for item in plan if item.category == "clarify"]
    assert asked
    for item in asked:
        (call,) = item.calls
        assert item.missing in required_parameters(catalog().by_name[call.name])
        assert item.missing in call.arguments
        assert verifier().check_schema(item.calls).ok


def test_a_clarify_request_says_nothing_from_which_the_missing_value_follows() -> None:
    light = catalog_of(catalog().by_name["set_light"])
    implied = {"set_light.state": book().entries["set_light.state"]}
    items = plan_of(light, implied, num_call_first=100, no_call_fraction=0.5)
    asked = [item for item in items if item.missing == "state"]
    assert asked and not any({"brightness", "color"} & item.calls[0].arguments.keys() for item in asked)


def test_facts_say_every_argument_that_no_other_implies(plan: list[PlanItem]) -> None:
    for item in plan:
        assert len(item.facts) == len(item.calls)
        for call, facts in zip(item.calls, item.facts, strict=True):
            said = [name.replace(" ", "_") for name, _ in facts]
            implied = (
                {"state"} if call.name == "set_light" and {"brightness", "color"} & call.arguments.keys() else set()
            )
            assert set(said) == set(call.arguments) - implied
            assert all(phrase for _, phrase in facts)


def test_the_facts_of_every_item_ground_its_calls(plan: list[PlanItem]) -> None:
    for item in plan:
        request = " then ".join(phrase for facts in item.facts for _, phrase in facts)
        check = verifier().check_grounding(request, item.calls, item.now)
        assert check.ok, (item, check.detail)


def test_some_date_times_are_told_relatively(plan: list[PlanItem]) -> None:
    reminders = [item for item in plan if [call.name for call in item.calls] == ["create_reminder"]]
    relative = [item for item in reminders if item.now is not None]
    assert relative and len(relative) < len(reminders)
    for item in relative:
        if item.category != "clarify":
            assert item.now is not None and datetime.fromisoformat(item.calls[0].arguments["at"]) > item.now
            assert "2027" not in dict(item.facts[0])["at"]
        assert time_of_context(item.system) == item.now


def test_some_calls_lie_on_an_edge_and_each_edge_has_its_turn() -> None:
    spec = tool("t", {"level": {"type": "integer", "minimum": 0, "maximum": 1000}}, ("level",))
    items = plan_of(catalog_of(spec), num_call_first=400, no_call_fraction=0.0, edge_fraction=0.25)
    levels = Counter(item.calls[0].arguments["level"] for item in items if item.category == "simple")
    assert abs(levels[0] - levels[1000]) <= 3 and 60 < levels[0] + levels[1000] < 120
    without = plan_of(catalog_of(spec), num_call_first=400, no_call_fraction=0.0, edge_fraction=0.0)
    assert sum(item.calls[0].arguments["level"] in (0, 1000) for item in without) < 10


def test_how_often_an_edge_is_drawn_changes_no_other_category() -> None:
    plans = [plan_of(catalog(), dict(book().entries), num_call_first=60, edge_fraction=share) for share in (0.0, 1.0)]
    topics, registers = ([[getattr(item, name) for item in each] for each in plans] for name in ("topic", "register"))
    assert [sorted(each) for each in topics][0] and registers[0] == registers[1]
    assert [item.category for item in plans[0]] == [item.category for item in plans[1]]


def test_some_requests_lack_their_tool_in_the_prompt_and_some_lack_all() -> None:
    items = plan_of(catalog(), dict(book().entries), num_call_first=200, no_call_fraction=0.4)
    irrelevant = [item for item in items if item.category == "irrelevance"]
    counts = Counter(item.offered for item in irrelevant)
    assert counts == {"all": 20, "others": 14, "none": 6}
    for item in irrelevant:
        assert bool(item.topic) == (item.offered == "all") == (not item.calls)
        if item.calls:
            assert verifier().check_schema(item.calls).ok and item.cell.startswith(f"irrelevance:{item.offered}/")
            assert item.cell.endswith(f"/{item.register}")
    assert {item.offered for item in items if item.category != "irrelevance"} == {"all"}
    plain = plan_of(catalog(), dict(book().entries), num_call_first=200, removed_tools_fraction=0.0)
    assert {item.offered for item in plain} == {"all"}


def test_conversations_stand_between_the_two_sources() -> None:
    seeds = [SeedRequest(id="a", text="kitchen light on")]
    made = config(num_call_first=2, num_multi_turn=6)
    items = make_plan(made, catalog(), validator(), book(), seeds, read_results(None, catalog()))
    assert [item.source for item in items] == ["call_first"] * 2 + ["multi_turn"] * 6 + ["request_first"]
    for item in items[2:-1]:
        assert item.dialogue is not None and len(item.calls) == len(item.facts) == 2
        assert item.register != "typos" and item.split_group == calls_group(item.calls)


def test_the_year_is_left_out_in_any_decade() -> None:
    spec = tool("remind", {"at": {"type": "string", "format": "date-time"}}, ("at",))
    items = plan_of(catalog_of(spec), num_call_first=20, current_time=datetime.fromisoformat("2041-01-05T08:00:00Z"))
    assert any(item.now for item in items)
    assert not any("204" in phrase for item in items if item.now for facts in item.facts for _, phrase in facts)


def test_dates_are_told_relatively_too() -> None:
    spec = tool("call_back", {"on": {"type": "string", "format": "date"}}, ("on",))
    items = plan_of(catalog_of(spec), num_call_first=40)
    told = {phrase for item in items if item.now for facts in item.facts for _, phrase in facts}
    assert told & {"tomorrow", "the day after tomorrow"}
    assert all(
        item.now.date().isoformat() <= item.calls[0].arguments["on"] for item in items if item.now and item.calls
    )


def test_split_groups_follow_the_arguments(plan: list[PlanItem]) -> None:
    groups: dict[str, Any] = {}
    for item in plan:
        assert groups.setdefault(item.split_group, (item.calls, item.topic)) == (item.calls, item.topic)
    one, other = ToolCall(name="t", arguments={"a": 1, "b": 2}), ToolCall(name="t", arguments={"b": 2, "a": 1})
    assert calls_group([one]) == calls_group([other]) != calls_group([one, other])


def test_one_tool_has_no_mixed_calls_and_one_without_parameters_no_parallel_ones() -> None:
    items = plan_of(catalog_of(tool("ping", {})), num_call_first=20)
    assert Counter(item.category for item in items) == {"simple": 17, "irrelevance": 3}
    assert all(len(item.calls) == 1 for item in items if item.category == "simple")


def test_parallel_calls_differ_or_become_one() -> None:
    items = plan_of(catalog_of(tool("go", {"fast": {"const": True}})), num_call_first=60, no_call_fraction=0.0)
    for item in items:
        assert len({call.model_dump_json() for call in item.calls}) == len(item.calls)
        assert item.category == ("parallel" if len(item.calls) > 1 else "simple")


def test_nested_facts_are_said_in_order_with_counts_first() -> None:
    spec = catalog().by_name["add_shopping_items"]
    entries = {
        "add_shopping_items.items.name": (ValueEntry("limes"),),
        "add_shopping_items.items.quantity": (ValueEntry(3),),
    }
    items = plan_of(catalog_of(spec), entries, num_call_first=20, no_call_fraction=0.0, edge_fraction=0.0)
    assert {phrase for item in items for facts in item.facts for _, phrase in facts} <= {
        "limes",
        "3 limes",
        "3 limes and limes",
        "limes and 3 limes",
    }


def test_topics_are_foreign_to_the_catalogue() -> None:
    spec = tool("translate", {"text": {"enum": ["a poem", "the news"]}}, ("text",))
    items = plan_of(catalog_of(spec), num_call_first=300, no_call_fraction=0.5, removed_tools_fraction=0.0)
    topics = {item.topic for item in items}
    assert "a joke" in topics and not {"a poem", "the news"} & topics


def test_seeds_become_request_first_items_in_order() -> None:
    seeds = [
        SeedRequest(id="a", text="kitchen light on", category="simple"),
        SeedRequest(id="b", text="ring tomorrow", system="Current time: 2027-05-02T09:15:00Z (Sunday)."),
        SeedRequest(id="c", text="hello", system="You are at home."),
    ]
    items = make_plan(config(num_call_first=0), catalog(), validator(), book(), seeds, NO_RESULTS)
    assert [(item.id, item.request, item.category, item.now) for item in items] == [
        ("request-first-a", "kitchen light on", "simple", None),
        ("request-first-b", "ring tomorrow", None, NOW),
        ("request-first-c", "hello", None, None),
    ]
    assert len({item.split_group for item in items}) == 3 and items[2].system == "You are at home."
    limited = make_plan(
        config(num_call_first=0, num_request_first=2), catalog(), validator(), book(), seeds, NO_RESULTS
    )
    assert limited == items[:2]


def test_the_time_context_is_utc_and_reads_back() -> None:
    assert time_context(NOW) == "Current time: 2027-05-02T09:15:00Z (Sunday)."
    assert time_context(NOW.astimezone(timezone(timedelta(hours=20)))) == time_context(NOW)
    assert time_of_context(time_context(NOW)) == NOW
    assert time_of_context("Current time: 2027-05-02T09:15:00Z.") == NOW
    assert time_of_context("Current time: soon") is None
    assert time_of_context("It is 2027-05-02T09:15:00Z") is None
