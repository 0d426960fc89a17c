"""What of the plan became traces is counted by cell."""

from pathlib import Path
from typing import Any

import pytest

from fcdistill.generation.dataset.coverage import count_cells, count_filled
from fcdistill.generation.journal.outcomes import Entry
from fcdistill.generation.plan.dialogues import Dialogue
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.records import CellCoverage, ToolCall
from fcdistill.storage import read_json
from tests.generation.home import EXAMPLES, catalog
from tests.generation.runs import run


def item(identity: str, *calls: ToolCall, **fields: Any) -> PlanItem:
    values: dict[str, Any] = {"source": "call_first", "category": "simple", "cell": "c", "split_group": "g"}
    return PlanItem(id=identity, calls=calls, **values | fields)


def light(**arguments: Any) -> ToolCall:
    return ToolCall(name="set_light", arguments={"room": "office", "state": "on"} | arguments)


def counted(plan: list[PlanItem], failed: dict[str, str], kept: set[str]) -> tuple[CellCoverage, ...]:
    last = {each.id: Entry(each.id, 0, failed.get(each.id, ""), "t", 0) for each in plan}
    return count_cells(plan, last, kept, {each.id: each.id for each in plan}, catalog())


def test_a_recorded_answer_stands_for_an_item_in_its_cell() -> None:
    plan = [item("a", light()), item("b", light(), register="recorded")]
    last = {name: Entry(name, 0, "", "t", 0) for name in ("a", "recorded-x-1")}
    cells = count_cells(plan, last, {"recorded-x-1"}, {"a": "a", "b": "recorded-x-1"}, catalog())
    assert [(cell.phrasing, cell.asked, cell.made, cell.kept) for cell in cells] == [
        ("casual", 1, 1, 0),
        ("recorded", 1, 1, 1),
    ]
    filled = [(plan[0], "call_first"), (plan[1], "recorded"), (plan[1], "recorded")]
    assert count_filled(filled, catalog()) == {"call_first": 1, "recorded": 1}


def test_edges_offered_tools_and_conversations_are_cells_too() -> None:
    dialogue = Dialogue("repeated", "brightness", None)
    plan = [
        item("a", light(brightness=0)),
        item("b", light(brightness=100)),
        item("c", light(), category="irrelevance", offered="others"),
        item("d", light(), light(color="red"), source="multi_turn", dialogue=dialogue),
    ]
    cells = counted(plan, {"d": "result"}, {"a"})
    assert [(cell.edges, cell.offered, cell.conversation, cell.made) for cell in cells] == [
        ({"brightness": "minimum"}, "all", None, 1),
        ({"brightness": "maximum"}, "all", None, 1),
        ({}, "others", None, 1),
        ({}, "all", "repeated", 0),
        ({}, "all", "repeated", 0),
    ]


def test_a_cell_is_tool_arity_optional_arguments_enum_values_and_register() -> None:
    plan = [
        item("a", light(brightness=30)),
        item("b", light(brightness=70)),  # no enum: the same cell
        item("c", light(color="red")),
        item("d", light(color="blue")),
        item("e", light(color="blue"), register="terse"),
        item("f", light(color="blue"), category="parallel"),
    ]
    cells = counted(plan, {}, {"a", "c"})
    assert [(cell.optional, cell.enums.get("color"), cell.phrasing, cell.arity) for cell in cells] == [
        (("brightness",), None, "casual", "simple"),
        (("color",), "red", "casual", "simple"),
        (("color",), "blue", "casual", "simple"),
        (("color",), "blue", "terse", "simple"),
        (("color",), "blue", "casual", "parallel"),
    ]
    assert [(cell.asked, cell.made, cell.kept) for cell in cells] == [
        (2, 2, 1), (1, 1, 1), (1, 1, 0), (1, 1, 0), (1, 1, 0)
    ]  # fmt: skip
    assert cells[0].enums == {"room": "office", "state": "on"}


@pytest.mark.parametrize(
    ("check", "made"), [("backend", 0), ("request", 0), ("parse", 0), ("grounding", 1), ("schema", 1)]
)
def test_what_failed_before_there_was_an_answer_is_not_made(check: str, made: int) -> None:
    (cell,) = counted([item("a", light())], {"a": check}, set())
    assert (cell.asked, cell.made, cell.kept) == (1, made, 0)


def test_a_trace_counts_once_in_the_cell_of_each_of_its_calls() -> None:
    lock = ToolCall(name="lock_door", arguments={"door": "front", "action": "lock"})
    plan = [item("a", light(brightness=1), light(brightness=2), lock, category="parallel_multiple")]
    assert [(cell.tool, cell.asked, cell.kept) for cell in counted(plan, {}, {"a"})] == [
        ("set_light", 1, 1), ("lock_door", 1, 1)
    ]  # fmt: skip


def test_requests_without_a_planned_call_have_cells_too() -> None:
    plan = [
        item("a", category="irrelevance", register="polite"),
        item("b", source="request_first", category=None),
        item("c", source="request_first", category="simple"),
    ]
    cells = counted(plan, {}, set())
    assert [(cell.tool, cell.arity, cell.phrasing) for cell in cells] == [
        ("", "irrelevance", "polite"), ("", "unknown", ""), ("", "simple", "")
    ]  # fmt: skip


def test_stats_hold_the_cells_of_the_plan_and_not_of_what_no_plan_asked_for(tmp_path: Path) -> None:
    stats = run(tmp_path / "out", num_call_first=20, num_varied=5, examples=EXAMPLES, no_call_fraction=0.1)
    assert stats.by_source["varied"].kept and stats.by_source["import"].kept
    assert all(cell.kept == cell.made == cell.asked > 0 for cell in stats.cells)
    of_one_cell = sum(cell.asked for cell in stats.cells if cell.arity in ("simple", "clarify", "irrelevance"))
    several = {cell.arity for cell in stats.cells} - {"simple", "clarify", "irrelevance"}
    assert several == {"parallel", "parallel_multiple"}
    assert of_one_cell == 20 - round(18 * 0.12) - round(18 * 0.2)
    assert read_json(tmp_path / "out" / "stats.json")["cells"] == [cell.model_dump(mode="json") for cell in stats.cells]
