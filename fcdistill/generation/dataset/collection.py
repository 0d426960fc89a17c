"""What only all traces together show: duplicates, contamination, doubtful tools, and the counts of a generation.

Knows nothing of how traces are made, asked for or stored.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from fcdistill.generation.dataset.agreement import ToolAgreement
from fcdistill.generation.dataset.dedupe import Contamination, NearDuplicates, request_text
from fcdistill.generation.dataset.reuse import RECORDED, REUSED
from fcdistill.generation.dataset.turns import conversation_key
from fcdistill.generation.verification.ladder import Similar, collected_trace
from fcdistill.records import (
    CellCoverage,
    Check,
    DedupeReport,
    GenerationStats,
    Outcome,
    PlannedKept,
    RemovedPair,
    SourceYield,
    StageCount,
    Trace,
)
from fcdistill.tools.catalog import Catalog

__all__ = ["Collection", "Tally", "count_generation"]

_CHECK_ORDER = (
    "format", "tools", "context",
    "backend", "request", "parse", "tool", "schema", "count", "repair", "grounding", "cut", "question", "reference",
    "result", "vote", "blind", "judge", "execution", "duplicate", "near_duplicate", "contaminated", "agreement",
)  # fmt: skip

_PAIRS_PER_CHECK = 5


class Collection:
    """Judges traces by those that came before them.

    Args:
        known: traces of which some tell the tools of requests: call-first, imported and recorded ones.
        contamination: finds wording of eval cases.
        near_duplicates: finds traces that say almost the same; empty.
    """

    def __init__(self, known: Iterable[Trace], contamination: Contamination, near_duplicates: NearDuplicates) -> None:
        self._agreement = ToolAgreement(_labelled(known))
        self._contamination = contamination
        self._near_duplicates = near_duplicates
        self._first_by_key: dict[bytes, Similar] = {}
        self._num_removed: Counter[str] = Counter()
        self._least_alike: defaultdict[str, list[RemovedPair]] = defaultdict(list)

    def check(self, trace: Trace, past: str | None = None) -> list[Check]:
        """The checks that look beyond one trace, up to the first that fails; of duplicates the first one stays.

        Args:
            trace: passed its own checks, and was not judged before.
            past: what only traces share of which one repeats the other; None for `conversation_key`.
        """
        key = conversation_key(trace) if past is None else past
        this = Similar(trace.id, request_text(trace), 1.0)
        first = self._first_by_key.setdefault(hashlib.sha256(key.encode()).digest(), this)
        checks, like = collected_trace(
            trace,
            repeated=None if first is this else first,
            near_duplicate=self._near_duplicates.find,
            eval_case=self._contamination.find,
            doubt=self._doubt if trace.meta.source == "request_first" and trace.answer.calls else None,
        )
        if like is None:
            self._near_duplicates.add(trace)
        else:
            self._remove(checks[-1].name, trace, like)
        return checks

    def _doubt(self, trace: Trace) -> str:
        return self._agreement.problem(request_text(trace), [call.name for call in trace.answer.calls])

    def _remove(self, check: str, trace: Trace, like: Similar) -> None:
        pair = RemovedPair(
            check=check,
            id=trace.id,
            request=request_text(trace),
            of=like.id,
            of_request=like.text,
            jaccard=round(like.jaccard, 3),
        )
        self._num_removed[check] += 1
        pairs = sorted([*self._least_alike[check], pair], key=lambda pair: pair.jaccard)
        self._least_alike[check] = pairs[:_PAIRS_PER_CHECK]

    def report(self) -> DedupeReport:
        """What was removed as a repetition so far."""
        found = [check for check in _CHECK_ORDER if self._num_removed[check]]
        return DedupeReport(
            near_duplicate_jaccard=self._near_duplicates.jaccard,
            contamination_jaccard=self._contamination.jaccard,
            removed={check: self._num_removed[check] for check in found},
            pairs=tuple(pair for check in found for pair in self._least_alike[check]),
        )


class Tally:
    """Counts traces as what becomes of each is decided, so that none has to be kept for it."""

    def __init__(self) -> None:
        self.num_kept = 0
        self.num_rejected = 0
        self.stages: Counter[tuple[str, bool]] = Counter()
        self.sources: Counter[tuple[str, bool]] = Counter()
        self.reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.categories: Counter[tuple[str, bool]] = Counter()
        self.tools: Counter[str] = Counter()

    def met(self, checks: Iterable[Check]) -> None:
        """Some trace met these checks."""
        self.stages.update((check.name, check.ok) for check in checks)

    def decided(self, trace: Trace, failed: Check | None) -> None:
        """A trace is one of those that stay, or of the rejects for the check that it failed."""
        kept = failed is None
        if failed is not None:
            self.reasons[trace.meta.source][failed.name] += 1
        self.num_kept += kept
        self.num_rejected += not kept
        self.sources[trace.meta.source, kept] += 1
        self.categories[trace.meta.category, kept] += 1
        if kept:
            self.tools.update(call.name for call in trace.answer.calls)


def count_generation(
    tally: Tally,
    outcomes: Iterable[Outcome],
    cells: tuple[CellCoverage, ...],
    filled: Mapping[str, int],
    catalog: Catalog,
    dedupe: DedupeReport | None,
) -> GenerationStats:
    """The counts of a generation.

    Args:
        tally: the last candidate of every planned trace, with examples and joined traces, and the checks that were met
            beside those of the attempts.
        outcomes: every attempt.
        cells: what became of the plan's cells.
        filled: how many of them have a kept trace of each source.
        catalog: the tools, so that one without a call shows.
        dedupe: what was removed as a repetition; None where nobody looked for any.
    """
    reused = attempts = prompt_tokens = completion_tokens = 0
    seconds = 0.0
    votes: Counter[int] = Counter()
    for outcome in outcomes:
        reused += outcome.attempt == REUSED
        attempts += outcome.attempt not in (RECORDED, REUSED)
        prompt_tokens += outcome.prompt_tokens
        completion_tokens += outcome.completion_tokens
        seconds += outcome.seconds
        tally.met(outcome.candidate.meta.checks)
        if outcome.votes is not None:
            votes[outcome.votes] += 1
    counts = tally.stages
    return GenerationStats(
        planned=tally.num_kept + tally.num_rejected,
        kept=tally.num_kept,
        rejected=tally.num_rejected,
        reused=reused,
        attempts=attempts,
        stages={
            name: StageCount(checked=counts[name, True] + counts[name, False], passed=counts[name, True])
            for name in _CHECK_ORDER
            if counts[name, True] + counts[name, False]
        },
        by_source={
            source: SourceYield(
                **count.model_dump(),
                rejected={
                    check: tally.reasons[source][check] for check in _CHECK_ORDER if tally.reasons[source][check]
                },
                cells_filled=filled.get(source, 0),
            )
            for source, count in _planned_kept(tally.sources).items()
        },
        by_category=_planned_kept(tally.categories),
        calls_by_tool={spec.name: tally.tools[spec.name] for spec in catalog.specs},
        cells=cells,
        votes={str(votes): count for votes, count in sorted(votes.items())},
        dedupe=dedupe,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        seconds=round(seconds, 2),
        completion_tokens_per_s=round(completion_tokens / seconds, 2) if seconds else None,
    )


def _planned_kept(counts: Counter[tuple[str, bool]]) -> dict[str, PlannedKept]:
    return {
        name: PlannedKept(planned=counts[name, True] + counts[name, False], kept=counts[name, True])
        for name in sorted({name for name, _ in counts})
    }


def _labelled(traces: Iterable[Trace]) -> Iterator[tuple[str, str]]:
    """Requests whose tool was known before they were written."""
    for trace in traces:
        if trace.meta.source in ("call_first", "import", "recorded") and len(trace.answer.calls) == 1:
            yield request_text(trace), trace.answer.calls[0].name
