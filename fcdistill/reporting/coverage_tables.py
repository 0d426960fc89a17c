"""How much of a generation's plan became traces, as tables per axis of its cells; the cells that stay empty by name."""

import json
from collections.abc import Callable, Iterable, Sequence

from rich.table import Table
from rich.text import Text

from fcdistill.records import CellCoverage
from fcdistill.reporting.terminal import rich_table
from fcdistill.reporting.wording import visible

__all__ = ["render_cells"]

_MOST_ROWS = 20
_MOST_EMPTY = 10


def render_cells(cells: Sequence[CellCoverage]) -> list[Text | Table]:
    """Asked, made and kept per tool and arity, optional arguments, enum value and register; then what stays empty.

    A long axis shows the values of which the smallest share was kept; all cells stand in stats.json.
    Where an item plans several calls, each counts: the sums of an axis are of calls, not of traces.
    """
    if not cells:
        return []
    parts: list[Text | Table] = []
    for title, values in _AXES:
        rows = _rows(cells, values)
        if rows:
            shown = title if len(rows) <= _MOST_ROWS else f"{title} ({_MOST_ROWS} of {len(rows)}, least kept first)"
            parts.append(rich_table(shown, ("planned", "asked", "made", "kept"), rows[:_MOST_ROWS]))
    empty = [cell for cell in cells if not cell.kept]
    if empty:
        named = [f"  {_cell_name(cell)}: asked {cell.asked}, made {cell.made}" for cell in empty[:_MOST_EMPTY]]
        if len(empty) > _MOST_EMPTY:
            named.append(f"  {len(empty) - _MOST_EMPTY} more stand in stats.json")
        parts.append(Text(f"{len(empty)} of {len(cells)} planned cells stay empty", style="bold yellow"))
        parts.append(Text(visible("\n".join(named))))
    return parts


def _tool_and_arity(cell: CellCoverage) -> Iterable[str]:
    return () if cell.conversation else (f"{cell.tool} {_arity(cell)}".strip(),)


def _arity(cell: CellCoverage) -> str:
    return {"all": cell.arity, "others": "without the tool", "none": "without any tool"}[cell.offered]


def _optional(cell: CellCoverage) -> Iterable[str]:
    return (f"{cell.tool}[{','.join(cell.optional)}]",) if cell.tool else ()


def _enums(cell: CellCoverage) -> Iterable[str]:
    return (f"{cell.tool}.{name} = {_value(value)}" for name, value in cell.enums.items())


def _edges(cell: CellCoverage) -> Iterable[str]:
    return (f"{cell.tool}.{path} at {edge}" for path, edge in cell.edges.items())


def _register(cell: CellCoverage) -> Iterable[str]:
    return (cell.phrasing,) if cell.phrasing else ()


def _conversation(cell: CellCoverage) -> Iterable[str]:
    return (f"{cell.conversation} {cell.tool}",) if cell.conversation else ()


_AXES: tuple[tuple[str, Callable[[CellCoverage], Iterable[str]]], ...] = (
    ("Coverage by tool and arity", _tool_and_arity),
    ("Coverage by optional arguments", _optional),
    ("Coverage by enum value", _enums),
    ("Coverage by edge of a range", _edges),
    ("Coverage by register", _register),
    ("Coverage by conversation", _conversation),
)


def _rows(
    cells: Sequence[CellCoverage], values: Callable[[CellCoverage], Iterable[str]]
) -> list[tuple[str, str, str, str]]:
    """A row per value of one axis, the least kept first where there are more than are shown."""
    counts: dict[str, list[int]] = {}
    for cell in cells:
        for value in values(cell):
            count = counts.setdefault(value, [0, 0, 0])
            for position, number in enumerate((cell.asked, cell.made, cell.kept)):
                count[position] += number
    items = list(counts.items())
    if len(items) > _MOST_ROWS:
        items.sort(key=lambda item: item[1][2] / item[1][0])
    return [(value, str(asked), str(made), str(kept)) for value, (asked, made, kept) in items]


def _cell_name(cell: CellCoverage) -> str:
    tool = f"{cell.tool}[{','.join(cell.optional)}]" if cell.tool else ""
    enums = ", ".join(
        [
            *(f"{name} = {_value(value)}" for name, value in cell.enums.items()),
            *(f"{path} at {edge}" for path, edge in cell.edges.items()),
        ]
    )
    kind = cell.conversation or _arity(cell)
    return " ".join(filter(None, (kind, tool, enums, cell.phrasing and f"({cell.phrasing})")))


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
