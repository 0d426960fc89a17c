"""Two evaluations of the same cases: is the difference more than chance?

Cases are paired by id, so that what both answer alike, however hard it is, says nothing. Nothing here knows of
tolerances or of what a difference leads to (`gate`).
"""

from collections.abc import Sequence

import numpy
from scipy.stats import binomtest

from fcdistill.errors import DataError
from fcdistill.records import PairedComparison, Score

__all__ = ["compare_scores"]

_RESAMPLES = 10_000


def compare_scores(baseline: Sequence[Score], candidate: Sequence[Score]) -> PairedComparison:
    """The candidate's verdicts beside the baseline's, case by case.

    Args:
        baseline: one verdict per case.
        candidate: verdicts on the same cases, in any order.

    Raises:
        DataError: there is no case, a case stands twice, or the two are not of the same cases.

    Source: McNemar 1947, exact as a sign test on the cases that differ; Efron 1979 for the percentile bootstrap, whose
    resamples of cases are draws of the four outcomes' counts.
    """
    before = {score.id: score.correct for score in baseline}
    now = {score.id: score.correct for score in candidate}
    if not before or len(before) < len(baseline) or len(now) < len(candidate) or before.keys() != now.keys():
        odd = sorted(before.keys() ^ now.keys())
        named = f", the first that only one has is {odd[0]!r}" if odd else ""
        raise DataError(
            f"{len(baseline)} and {len(candidate)} verdicts are not of the same cases, one each{named}",
            required="two complete runs on one suite",
            fix="evaluate both on the same cases",
        )
    num_pairs = len(before)
    worse = sum(before[id] and not now[id] for id in before)
    better = sum(now[id] and not before[id] for id in before)
    rng = numpy.random.default_rng(0)
    shares = [worse / num_pairs, better / num_pairs, 1 - (worse + better) / num_pairs]
    drawn = rng.multinomial(num_pairs, shares, size=_RESAMPLES)
    low, high = numpy.percentile((drawn[:, 1] - drawn[:, 0]) / num_pairs, (2.5, 97.5))
    return PairedComparison(
        num_pairs=num_pairs,
        both_right=sum(before[id] and now[id] for id in before),
        baseline_only=worse,
        candidate_only=better,
        difference=(better - worse) / num_pairs,
        low=float(low),
        high=float(high),
        p_worse=_p(worse, better, "greater"),
        p_differs=_p(worse, better, "two-sided"),
    )


def _p(worse: int, better: int, alternative: str) -> float:
    if worse + better == 0:
        return 1.0
    return float(binomtest(worse, worse + better, 0.5, alternative=alternative).pvalue)
