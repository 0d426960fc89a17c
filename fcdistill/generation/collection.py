"""What only all traces together show: duplicates, contamination, doubtful tools, and the counts of a generation.

Knows nothing of how traces are made, asked for or stored.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from fcdistill.catalog import Catalog
from fcdistill.generation.agreement import ToolAgreement
from fcdistill.generation.dedupe import (
    Contamination,
    NearDuplicates,
    Similar,
    contaminated_detail,
    near_duplicate_detail,
    request_text,
)
from fcdistill.generation.reuse import REUSED
from fcdistill.generation.turns import conversation_key, user_texts
from fcdistill.records import (
    CellCoverage,
    Check,
    DedupeReport,
    GenerationStats,
    Outcome,
    PlannedKept,
    RemovedPair,
    StageCount,
    Trace,
)

__all__ = ["Collection", "count_generation"]

_CHECK_ORDER = (
    "backend", "request", "parse", "tool", "schema", "count", "repair", "grounding", "cut", "question", "reference",
    "result", "vote", "blind", "judge", "execution", "duplicate", "near_duplicate", "contaminated", "agreement",
)  # fmt: skip

_PAIRS_PER_CHECK = 5


class Collection:
    """Judges traces by those that came before them.

    Args:
        known: traces of which some tell the tools of requests: those of the call-first road and imported ones.
        contamination: finds wording of eval cases.
        near_duplicates: finds traces that say almost the same; empty.
    """

    def __init__(self, known: Iterable[Trace], contamination: Contamination, near_duplicates: NearDuplicates) -> None:
        self._agreement = ToolAgreement(_labelled(known))
        self._contamination = contamination
        self._near_duplicates = near_duplicates
        self._first_by_key: dict[str, Trace] = {}
        self._removed: list[RemovedPair] = []

    def check(self, trace: Trace) -> list[Check]:
        """The checks that look beyond one trace, up to the first that fails; of duplicates the first one stays.

        Args:
            trace: passed its own checks, and was not judged before.
        """
        first = self._first_by_key.setdefault(conversation_key(trace), trace)
        if first is not trace:
            self._remove("duplicate", trace, Similar(first.id, request_text(first), 1.0))
            return [Check(name="duplicate", ok=False, detail=f"repeats {first.id}")]
        checks = [Check(name="duplicate", ok=True)]
        like = self._near_duplicates.find(trace)
        if like is not None:
            self._remove("near_duplicate", trace, like)
            return [*checks, Check(name="near_duplicate", ok=False, detail=near_duplicate_detail(like))]
        checks.append(Check(name="near_duplicate", ok=True))
        case = next(filter(None, map(self._contamination.find, user_texts(trace))), None)
        if case is not None:
            self._remove("contaminated", trace, case)
            return [*checks, Check(name="contaminated", ok=False, detail=contaminated_detail(case))]
        self._near_duplicates.add(trace)
        checks.append(Check(name="contaminated", ok=True))
        if trace.meta.source == "request_first" and trace.answer.calls:
            problem = self._agreement.problem(request_text(trace), [call.name for call in trace.answer.calls])
            checks.append(Check(name="agreement", ok=not problem, detail=problem))
        return checks

    def _remove(self, check: str, trace: Trace, like: Similar) -> None:
        pair = RemovedPair(
            check=check,
            id=trace.id,
            request=request_text(trace),
            of=like.id,
            of_request=like.text,
            jaccard=round(like.jaccard, 3),
        )
        self._removed.append(pair)

    def report(self) -> DedupeReport:
        """What was removed as a repetition so far."""
        pairs = sorted(self._removed, key=lambda pair: pair.jaccard)
        shown = {check: [pair for pair in pairs if pair.check == check] for check in _CHECK_ORDER}
        return DedupeReport(
            near_duplicate_jaccard=self._near_duplicates.jaccard,
            contamination_jaccard=self._contamination.jaccard,
            removed={check: len(found) for check, found in shown.items() if found},
            pairs=tuple(pair for found in shown.values() for pair in found[:_PAIRS_PER_CHECK]),
        )


def count_generation(
    candidates: Sequence[Trace],
    kept: Sequence[Trace],
    stages: Mapping[tuple[str, bool], int],
    outcomes: Sequence[Outcome],
    cells: tuple[CellCoverage, ...],
    catalog: Catalog,
    dedupe: DedupeReport,
) -> GenerationStats:
    """The counts of a generation.

    Args:
        candidates: the last candidate of every planned trace, with examples and joined traces.
        kept: those that passed all checks.
        stages: how many candidates met each check, by (name, passed).
        outcomes: every attempt.
        cells: what became of the plan's cells.
        catalog: the tools, so that one without a call shows.
        dedupe: what was removed as a repetition.
    """
    counts = Counter(stages)
    seconds = sum(outcome.seconds for outcome in outcomes)
    completion_tokens = sum(outcome.completion_tokens for outcome in outcomes)
    votes = Counter(outcome.votes for outcome in outcomes if outcome.votes is not None)
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
        votes={str(votes): count for votes, count in sorted(votes.items())},
        dedupe=dedupe,
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
