"""How much of the plan became traces, cell by cell.

A cell is a tool, an arity, the optional arguments given, the values of arguments that have an `enum`, the arguments on
an edge of their range, the tools that the prompt shows, a register, and how calls of several turns build on one
another.
Each call of a plan item counts in the cell of its own tool. Traces that no plan asked for (worked examples, varied and
joined ones) fill no cell.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fcdistill.generation.journal.outcomes import Entry
from fcdistill.generation.plan.edges import call_edges
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.records import CellCoverage
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import optional_parameters, property_schema

__all__ = ["count_cells", "count_filled"]

_NOTHING_MADE = frozenset({"backend", "request", "parse", "result"})
"""Checks that fail where there is no usable request, or no answer or result to it."""


def count_cells(
    plan: Sequence[PlanItem],
    last: Mapping[str, Entry],
    kept: Collection[str],
    standing: Mapping[str, str],
    catalog: Catalog,
) -> tuple[CellCoverage, ...]:
    """The planned cells in the plan's order, each with what was asked, made and kept.

    Args:
        plan: all items.
        last: the last attempt at each trace, by id.
        kept: ids of the traces that passed all checks.
        standing: by item the id of the trace that stands for it: its own, or that of a recorded answer.
        catalog: the tools.
    """
    cells: dict[str, dict[str, Any]] = {}
    counts: dict[str, list[int]] = {}
    for item in plan:
        identity = standing[item.id]
        made = identity in last and last[identity].failed not in _NOTHING_MADE
        # Two calls of one cell in one trace are one trace.
        for key, cell in {json.dumps(cell, sort_keys=True): cell for cell in _cells(item, catalog)}.items():
            cells.setdefault(key, cell)
            count = counts.setdefault(key, [0, 0, 0])
            for position, holds in enumerate((True, made, identity in kept)):
                count[position] += holds
    return tuple(
        CellCoverage(**cell, asked=counts[key][0], made=counts[key][1], kept=counts[key][2])
        for key, cell in cells.items()
    )


def count_filled(filled: Iterable[tuple[PlanItem, str]], catalog: Catalog) -> dict[str, int]:
    """How many planned cells have a kept trace of each source.

    Args:
        filled: items whose traces are kept, each with the source of its trace.
        catalog: the tools.
    """
    cells: defaultdict[str, set[str]] = defaultdict(set)
    for item, source in filled:
        cells[source].update(json.dumps(cell, sort_keys=True) for cell in _cells(item, catalog))
    return {source: len(found) for source, found in cells.items()}


def _cells(item: PlanItem, catalog: Catalog) -> Iterator[dict[str, Any]]:
    if not item.calls:
        # The phrasing of a seed is its author's.
        register = item.register if item.source == "call_first" else ""
        yield {"arity": item.category or "unknown", "tool": "", "optional": [], "enums": {}, "phrasing": register}
    for call in item.calls:
        spec = catalog.by_name[call.name]
        enums = {
            name: value
            for name, value in call.arguments.items()
            if "enum" in (property_schema(spec.parameters, [name]) or {})
        }
        yield {
            "arity": item.category,
            "tool": call.name,
            "optional": [name for name in optional_parameters(spec) if name in call.arguments],
            "enums": enums,
            "phrasing": item.register,
            "edges": call_edges(call, spec),
            "offered": item.offered,
            "conversation": item.dialogue.kind if item.dialogue is not None else None,
        }
