"""How the coverage of a plan is shown."""

import re
from typing import Any

from rich.console import Group

from fcdistill.records import CellCoverage
from fcdistill.reporting.coverage_tables import render_cells
from tests.reporting.reports import printed


def cell(asked: int = 2, made: int = 2, kept: int = 1, **fields: Any) -> CellCoverage:
    values: dict[str, Any] = {"tool": "set_light", "arity": "simple", "phrasing": "terse"} | fields
    return CellCoverage(asked=asked, made=made, kept=kept, **values)


def shown(*cells: CellCoverage, width: int = 120) -> str:
    return printed(Group(*render_cells(cells)), width=width)


def rows(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_each_axis_sums_over_the_others() -> None:
    text = shown(
        cell(enums={"color": "red"}, optional=["color"]),
        cell(enums={"color": "red"}, optional=["color"], phrasing="polite", arity="parallel"),
        cell(enums={"color": "blue"}, optional=["color"], asked=5, made=4, kept=3),
        cell(tool="", arity="irrelevance"),
        cell(tool="", arity="unknown", phrasing=""),
    )
    found = rows(text)
    assert ["set_light simple", "7", "6", "4"] in found
    assert ["set_light parallel", "2", "2", "1"] in found
    assert ["irrelevance", "2", "2", "1"] in found
    assert ["set_light[color]", "9", "8", "5"] in found
    assert ["set_light.color = red", "4", "4", "2"] in found
    assert ["terse", "9", "8", "5"] in found
    assert "empty" not in text


def test_edges_prompts_without_the_tool_and_conversations_have_rows() -> None:
    text = shown(
        cell(edges={"level": "minimum"}),
        cell(offered="others", arity="irrelevance"),
        cell(offered="none", arity="irrelevance", kept=0),
        cell(conversation="chained", kept=0),
    )
    found = rows(text)
    assert ["set_light.level at minimum", "2", "2", "1"] in found
    assert ["set_light without the tool", "2", "2", "1"] in found
    assert ["set_light without any tool", "2", "2", "0"] in found
    assert ["chained set_light", "2", "2", "0"] in found
    assert ["set_light simple", "2", "2", "1"] in found, "calls of conversations have a table of their own"
    assert "  without any tool set_light[] (terse): asked 2, made 2" in text.splitlines()
    assert "  chained set_light[] (terse): asked 2, made 2" in text.splitlines()


def test_a_cell_that_stays_empty_is_named() -> None:
    empty = cell(kept=0, made=1, optional=["level"], enums={"state": "on", "level": 3})
    text = shown(cell(), empty)
    assert "1 of 2 planned cells stay empty" in text
    assert "  simple set_light[level] state = on, level = 3 (terse): asked 2, made 1" in text.splitlines()


def test_many_empty_cells_are_counted_and_some_named() -> None:
    text = shown(*(cell(kept=0, enums={"level": level}) for level in range(14)))
    assert "14 of 14 planned cells stay empty" in text
    assert text.count("simple set_light[] level = ") == 10
    assert "4 more stand in stats.json" in text


def test_a_long_axis_shows_what_was_kept_least() -> None:
    cells = [cell(enums={"level": level}, asked=30, made=30, kept=level + 1) for level in reversed(range(25))]
    text = shown(*cells)
    assert "Coverage by enum value (20 of 25, least kept first)" in " ".join(text.split())
    assert re.findall(r"set_light\.level = (\d+) ", text) == [str(level) for level in range(20)]


def test_nothing_is_shown_of_no_cells_and_all_fits_eighty_columns() -> None:
    assert render_cells(()) == []
    long = cell(kept=0, tool="t" * 60, enums={"an_argument": "v" * 60})
    assert max(map(len, shown(long, width=80).splitlines())) <= 80
