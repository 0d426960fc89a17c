"""Traces that are there already in the places of a new plan, so that a teacher is asked only for what is missing.

A trace takes the place of the planned item that it resembles most, which is of its tools and arguments at least; a
user's request finds its own item. Traces that the plan has no place for stay beside it. What a generation makes without
a teacher (varied, joined and continued requests, answered questions, steps of conversations, worked examples) is made
anew. Recorded answers find their places in the same way.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fcdistill.errors import DataError
from fcdistill.generation.dataset.dedupe import request_key, request_text
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.records import ToolCall, Trace
from fcdistill.storage import iter_unique_jsonl
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import property_schema
from fcdistill.tools.validation import CallValidator

__all__ = ["RECORDED", "REUSED", "Reused", "match_traces", "place_traces", "read_reusable"]

REUSED = -1
"""The attempt of a trace that was made before this generation's first attempt."""

RECORDED = -2
"""The attempt of a recorded answer."""

_MADE_ANEW = ("varied", "joined", "clarified", "continued", "step")
_EXAMPLES = "example/"
_PRECISIONS = 5


@dataclass(frozen=True)
class Reused:
    """Where the traces of earlier generations went.

    Attributes:
        settled: the items whose places were taken, by id, as the traces settle them: coverage counts what is there.
        placed: the traces that took them, by the id of the item, which is theirs now.
        beside: traces that no item asked for.
    """

    settled: Mapping[str, PlanItem]
    placed: Mapping[str, Trace]
    beside: tuple[Trace, ...]


def read_reusable(paths: Sequence[Path], catalog: Catalog, validator: CallValidator) -> list[Trace]:
    """The traces of earlier generations that needed a teacher, with the catalogue's own tools.

    Raises:
        DataError: a file can't be read, or a trace does not fit the catalogue.
    """
    found, tools = [], {tool.function.name: tool for tool in catalog.tools}
    for path in paths:
        for trace in iter_unique_jsonl(path, Trace, "traces file"):
            calls = [call for message in trace.messages for call in message.calls]
            problems = [
                f"{call.name}{bad.pointer}: {bad.detail}" for call in calls for bad in validator.check_call(call)
            ]
            if not problems and any(catalog.by_name.get(spec.name) != spec for spec in trace.specs):
                problems = ["it shows tools that the catalogue has no longer, or otherwise"]
            if problems:
                raise DataError(
                    f"traces file {path}, trace {trace.id!r}: {problems[0]}",
                    required="traces that fit the catalogue, to be reused",
                    fix=f"fcdistill traces check {path} --tools CATALOGUE --repair DIR, then reuse DIR/traces.jsonl",
                )
            if trace.meta.source not in _MADE_ANEW and not trace.meta.plan_cell.startswith(_EXAMPLES):
                # Read from the file, the same tools would fill most of the memory once more for each trace.
                found.append(trace.model_copy(update={"tools": tuple(tools[spec.name] for spec in trace.specs)}))
    return found


def place_traces(plan: Sequence[PlanItem], traces: Sequence[Trace], catalog: Catalog) -> Reused:
    """Give each trace a place in the plan, where there is one."""
    pairs, left = match_traces(plan, traces, catalog)
    return Reused(
        settled={item.id: settled for item, settled, _ in pairs},
        placed={item.id: trace.model_copy(update={"id": item.id}) for item, _, trace in pairs},
        beside=tuple(trace.model_copy(update={"id": f"reused-{n:05d}"}) for n, trace in enumerate(left, 1)),
    )


def match_traces(
    plan: Sequence[PlanItem], traces: Sequence[Trace], catalog: Catalog
) -> tuple[list[tuple[PlanItem, PlanItem, Trace]], list[Trace]]:
    """The traces with the places that they find in a plan, closest resemblance first, and those that find none.

    Returns:
        The items whose places are taken, each as it was planned and as the trace settles it, with the trace; and the
        traces that are left.
    """
    known = frozenset(call.name for trace in traces for call in trace.answer.calls)
    free: dict[Hashable, list[PlanItem]] = defaultdict(list)
    for item in reversed(plan):
        for key in _keys(item.source, item.cell, item.request, item.calls, catalog, known):
            free[key].append(item)
    taken: set[str] = set()
    pairs: list[tuple[PlanItem, PlanItem, Trace]] = []
    waiting = list(traces)
    for precision in range(_PRECISIONS):
        left = []
        for trace in waiting:
            meta, text = trace.meta, request_text(trace)
            places = free[_keys(meta.source, meta.plan_cell, text, trace.answer.calls, catalog, known)[precision]]
            while places and places[-1].id in taken:
                places.pop()
            if places:
                item = places.pop()
                taken.add(item.id)
                pairs.append((item, _settled(item, trace), trace))
            else:
                left.append(trace)
        waiting = left
    return pairs, waiting


def _keys(
    source: str, cell: str, request: str, calls: Sequence[ToolCall], catalog: Catalog, known: frozenset[str]
) -> tuple[Hashable, ...]:
    """What a trace and an item that it can stand for have in common, from the closest resemblance to the least.

    A user's request has one item, which a recorded answer to it finds too. Others share the cell and enum values, the
    cell, or all of it but the register; where several calls are made, of tools drawn at random, any tools that earlier
    traces call do; a recorded question tells the tool alone.
    """
    said = ("request", request_key(request))
    if source == "request_first":
        return (said,) * _PRECISIONS
    enums = [
        (call.name, name, repr(value))
        for call in calls
        for name, value in call.arguments.items()
        if "enum" in (property_schema(catalog.by_name[call.name].parameters, [name]) or {})
    ]
    form, _, _ = cell.rpartition("/")
    kind, _, _ = cell.partition("/")
    several = len(calls) > 1 and known.issuperset(call.name for call in calls)
    loosest: Hashable = (kind, len(calls)) if several else (form.partition("[")[0] if kind == "clarify" else form,)
    first: Hashable = said if source == "recorded" else (cell, tuple(sorted(enums)))
    return first, (cell, tuple(sorted(enums))), cell, (form,), loosest


def _settled(item: PlanItem, trace: Trace) -> PlanItem:
    """The item as the trace settles it."""
    cell = trace.meta.plan_cell
    if item.source == "request_first":
        return item
    if item.source == "multi_turn":
        return replace(item, cell=cell, register=cell.rpartition("/")[2])
    return replace(item, cell=cell, register=cell.rpartition("/")[2], calls=trace.answer.calls or item.calls)
