"""The recorded source of a generation: files of answers that a strong teacher, or a log, has given already.

Each answer passes the ladder of recorded answers, for the generation's own catalogue, and finds a place in the plan
where there is one for it. That a place is held by an answer which later turns out to repeat another, or to fail when it
is carried out, is known to `assembly`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdistill.generation.dataset.collection import Collection
from fcdistill.generation.dataset.reuse import match_traces
from fcdistill.generation.dataset.turns import has_one_request
from fcdistill.generation.imports.recorded_reader import RecordedReader
from fcdistill.generation.plan.plan import PlanItem, time_of_context
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Category, Trace
from fcdistill.tools.parameters import optional_parameters
from fcdistill.traces.recorded_steps import category_of
from fcdistill.traces.source_formats import read_rows

__all__ = ["Recorded", "place_recorded", "read_recorded"]


@dataclass(frozen=True)
class Recorded:
    """The recorded answers of a generation.

    Attributes:
        candidates: all that was read, with its checks, in the order of the files.
        places: ids of the plan's items to those of the candidates that stand in their places.
        settled: these items as the candidates settle them: coverage counts what is there.
    """

    candidates: tuple[Trace, ...]
    places: Mapping[str, str]
    settled: Mapping[str, PlanItem]


def read_recorded(paths: Sequence[Path], verifier: Verifier) -> list[Trace]:
    """The answers that files record, with their checks; rows that can't be read are candidates that failed.

    Raises:
        DataError: a file can't be read as a whole, or is empty.
    """
    reader = RecordedReader("recorded", verifier.catalog, verifier.book, reads_tools=False, policy=verifier.policy)
    stems = [path.stem for path in paths]
    found = []
    for number, path in enumerate(paths):
        # Files of one name lie in different folders.
        name = path.stem if stems.count(path.stem) == 1 else f"{path.stem}-{stems[: number + 1].count(path.stem)}"
        for row_number, row in enumerate(read_rows(path, "recorded answers"), 1):
            identity = f"recorded-{name}-{row_number}"
            traces = [candidate.trace for candidate in reader.read(identity, row)]
            for trace in traces:
                # The steps of one conversation stay on one side of a split, however common their calls are.
                group = trace.split_group if len(traces) == 1 else identity
                meta = trace.meta.model_copy(update={"plan_cell": _cell(trace, verifier)})
                found.append(trace.model_copy(update={"split_group": group, "meta": meta}))
    return found


def place_recorded(
    plan: Sequence[PlanItem], candidates: Sequence[Trace], verifier: Verifier, collection: Collection
) -> Recorded:
    """Give each answer that passed its checks a place in the plan, where there is one.

    Args:
        plan: all items.
        candidates: recorded answers.
        verifier: of the domain.
        collection: knows what makes an answer no use beside others: that takes no place.
    """
    passed = [trace for trace in candidates if all(check.ok for check in trace.meta.checks)]
    useful = [trace for trace in passed if collection.check(trace)[-1].ok]
    # A later turn of a conversation asks for less than a request by itself does.
    useful.sort(key=lambda trace: not has_one_request(trace))
    pairs, _ = match_traces(plan, useful, verifier.catalog)
    return Recorded(
        candidates=tuple(candidates),
        places={item.id: trace.id for item, _, trace in pairs},
        settled={item.id: settled for item, settled, _ in pairs},
    )


def _cell(trace: Trace, verifier: Verifier) -> str:
    """The cell that a plan would have for the trace, with `recorded` as its register."""
    answer, category = trace.answer, trace.meta.category
    if answer.calls:
        known: Category = category_of(answer.calls)
        form = "+".join(
            f"{call.name}[{','.join(name for name in optional if name in call.arguments)}]"
            for call in answer.calls
            if call.name in verifier.catalog.by_name
            for optional in [optional_parameters(verifier.catalog.by_name[call.name])]
        )
        return f"{known}/{form}/recorded"
    if category != "clarify":
        return f"{category}/recorded"
    system, request = (
        next((message.content for message in reversed(trace.messages) if message.role == role), "")
        for role in ("system", "user")
    )
    tools = {value.tool for value in verifier.lacking(request, time_of_context(system))}
    return f"clarify/{next(iter(tools))}[]/recorded" if len(tools) == 1 else "clarify/recorded"
