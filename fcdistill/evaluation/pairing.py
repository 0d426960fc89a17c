"""Two sets of verdicts on the same cases, paired: how much better one is, and how sure that is.

Both models answered the same cases, so what tells them apart is the cases that only one got right; comparing two
separate intervals would throw that away. Knows nothing of files and of what difference is acceptable.
"""

from collections import Counter
from collections.abc import Sequence

import numpy
from scipy.stats import binomtest

from fcdistill.errors import DataError
from fcdistill.records import PairedComparison, Score

__all__ = ["changed_ids", "compare_scores"]

_NUM_RESAMPLES = 10_000
_SEED = 0


def compare_scores(baseline: Sequence[Score], candidate: Sequence[Score]) -> PairedComparison:
    """The candidate's call accuracy against the baseline's, on the same cases in any order.

    Args:
        baseline: one verdict per case.
        candidate: one verdict on each of the same cases.

    Returns:
        The same figures on every call: the bootstrap's seed is fixed. Where no case tells the two apart, the interval
        is the point 0 and both p-values are 1.

    Raises:
        DataError: there is no case, an id occurs twice, or the two hold other ids.

    Source: McNemar 1947 in its exact form, a binomial test of the cases that only one got right; percentile bootstrap
    over cases, Efron and Tibshirani 1993, section 13.3.
    """
    pairs = Counter((before, now) for _, before, now in _pairs(baseline, candidate))
    num_pairs = pairs.total()
    baseline_only, candidate_only = pairs[True, False], pairs[False, True]
    low, high = _bootstrap_interval(baseline_only, candidate_only, num_pairs)
    return PairedComparison(
        num_pairs=num_pairs,
        both_right=pairs[True, True],
        baseline_only=baseline_only,
        candidate_only=candidate_only,
        difference=(candidate_only - baseline_only) / num_pairs,
        low=low,
        high=high,
        p_worse=_mcnemar(baseline_only, candidate_only, "greater"),
        p_differs=_mcnemar(baseline_only, candidate_only, "two-sided"),
    )


def changed_ids(baseline: Sequence[Score], candidate: Sequence[Score]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cases that only the baseline got right and those that only the candidate did, in the baseline's order.

    Raises like `compare_scores`.
    """
    pairs = _pairs(baseline, candidate)
    regressed = tuple(name for name, before, now in pairs if before and not now)
    fixed = tuple(name for name, before, now in pairs if now and not before)
    return regressed, fixed


def _pairs(baseline: Sequence[Score], candidate: Sequence[Score]) -> list[tuple[str, bool, bool]]:
    """Each case's id with whether the baseline and the candidate are right."""
    before, now = _by_id(baseline, "baseline"), _by_id(candidate, "candidate")
    if not before and not now:
        raise DataError(
            "there is no scored case to compare on",
            required="at least one case with a verdict on both sides",
            fix="evaluate both on a suite that holds cases",
        )
    if before.keys() != now.keys():
        found = [
            f"{len(names)} cases ({', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''}) only in the {side}"
            for side, names in (("baseline", before.keys() - now.keys()), ("candidate", now.keys() - before.keys()))
            if names
        ]
        raise DataError(
            f"the verdicts do not pair up: {'; '.join(found)}",
            required="verdicts on the same cases on both sides",
            fix="evaluate both on the same cases",
        )
    return [(name, right, now[name]) for name, right in before.items()]


def _by_id(scores: Sequence[Score], side: str) -> dict[str, bool]:
    found = {score.id: score.correct for score in scores}
    if len(found) != len(scores):
        twice, _ = Counter(score.id for score in scores).most_common(1)[0]
        raise DataError(
            f"the {side} holds two verdicts on case {twice!r}",
            required="one verdict per case",
            fix="run that evaluation again",
        )
    return found


def _mcnemar(baseline_only: int, candidate_only: int, alternative: str) -> float:
    """The exact p-value, from 0 to 1; `greater` is evidence that the baseline is better."""
    discordant = baseline_only + candidate_only
    if not discordant:
        return 1.0
    return float(binomtest(baseline_only, discordant, 0.5, alternative=alternative).pvalue)


def _bootstrap_interval(baseline_only: int, candidate_only: int, num_pairs: int) -> tuple[float, float]:
    """Central 95% of the difference over resampled cases.

    Drawing cases with replacement draws the counts of the outcomes from a multinomial; cases on which the two agree
    change nothing, so both kinds of them are one outcome here.
    """
    agreeing = num_pairs - baseline_only - candidate_only
    shares = numpy.array([baseline_only, candidate_only, agreeing]) / num_pairs
    counts = numpy.random.default_rng(_SEED).multinomial(num_pairs, shares, size=_NUM_RESAMPLES)
    low, high = numpy.percentile((counts[:, 1] - counts[:, 0]) / num_pairs, (2.5, 97.5))
    return float(low), float(high)
