"""What only all traces together show: duplicates, contamination, doubtful tools, and the counts of a generation.

Knows nothing of how traces are made, asked for or stored.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from fcdistill.catalog import Catalog
from fcdistill.generation.agreement import ToolAgreement
from fcdistill.generation.dedupe import Contamination, request_text
from fcdistill.generation.reuse import REUSED
from fcdistill.generation.turns import conversation_key, user_texts
from fcdistill.records import CellCoverage, Check, GenerationStats, Outcome, PlannedKept, StageCount, Trace

__all__ = ["check_collection", "count_generation"]

_CHECK_ORDER = (
    "backend", "request", "parse", "tool", "schema", "count", "repair", "grounding", "cut", "question", "reference",
    "result", "duplicate", "contaminated", "agreement",
)  # fmt: skip


def check_collection(traces: Sequence[Trace], contamination: Contamination) -> dict[str, list[Check]]:
    """The checks that look beyond one trace, by trace id.

    Args:
        traces: traces that passed their own checks; of duplicates the first is the one that stays.
        contamination: finds wording of eval cases.
    """
    agreement = ToolAgreement(_labelled(traces))
    first_by_key: dict[str, str] = {}
    checks: dict[str, list[Check]] = {}
    for trace in traces:
        first = first_by_key.setdefault(conversation_key(trace), trace.id)
        if first != trace.id:
            checks[trace.id] = [Check(name="duplicate", ok=False, detail=f"repeats {first}")]
            continue
        case = next(filter(None, map(contamination.find, user_texts(trace))), None)
        detail = f"shares its wording with eval case {case}" if case else ""
        checks[trace.id] = [
            Check(name="duplicate", ok=True),
            Check(name="contaminated", ok=case is None, detail=detail),
        ]
        if case is None and trace.meta.source == "request_first" and trace.answer.calls:
            problem = agreement.problem(request_text(trace), [call.name for call in trace.answer.calls])
            checks[trace.id].append(Check(name="agreement", ok=not problem, detail=problem))
    return checks


def count_generation(
    candidates: Sequence[Trace],
    kept: Sequence[Trace],
    stages: Mapping[tuple[str, bool], int],
    outcomes: Sequence[Outcome],
    cells: tuple[CellCoverage, ...],
    catalog: Catalog,
) -> GenerationStats:
    """The counts of a generation.

    Args:
        candidates: the last candidate of every planned trace, with examples and joined traces.
        kept: those that passed all checks.
        stages: how many candidates met each check, by (name, passed).
        outcomes: every attempt.
        cells: what became of the plan's cells.
        catalog: the tools, so that one without a call shows.
    """
    counts = Counter(stages)
    seconds = sum(outcome.seconds for outcome in outcomes)
    completion_tokens = sum(outcome.completion_tokens for outcome in outcomes)
    tools = Counter(call.name for trace in kept for call in trace.answer.calls)
    return GenerationStats(
        planned=len(candidates),
        kept=len(kept),
        rejected=len(candidates) - len(kept),
        reused=sum(outcome.attempt == REUSED for outcome in outcomes),
        attempts=sum(outcome.attempt != REUSED for outcome in outcomes),
        stages={
            name: StageCount(checked=counts[name, True] + counts[name, False], passed=counts[name, True])
            for name in _CHECK_ORDER
            if counts[name, True] + counts[name, False]
        },
        by_source=_planned_kept(candidates, kept, lambda trace: trace.meta.source),
        by_category=_planned_kept(candidates, kept, lambda trace: trace.meta.category),
        calls_by_tool={spec.name: tools[spec.name] for spec in catalog.specs},
        cells=cells,
        prompt_tokens=sum(outcome.prompt_tokens for outcome in outcomes),
        completion_tokens=completion_tokens,
        seconds=round(seconds, 2),
        completion_tokens_per_s=round(completion_tokens / seconds, 2) if seconds else None,
    )


def _planned_kept(
    candidates: Iterable[Trace], kept: Iterable[Trace], key: Callable[[Trace], str]
) -> dict[str, PlannedKept]:
    planned, kept_counts = Counter(map(key, candidates)), Counter(map(key, kept))
    return {name: PlannedKept(planned=planned[name], kept=kept_counts[name]) for name in sorted(planned)}


def _labelled(traces: Iterable[Trace]) -> Iterator[tuple[str, str]]:
    """Requests whose tool was known before they were written."""
    for trace in traces:
        if trace.meta.source in ("call_first", "import") and len(trace.answer.calls) == 1:
            yield request_text(trace), trace.answer.calls[0].name
