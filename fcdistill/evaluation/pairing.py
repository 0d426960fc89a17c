"""Two sets of verdicts on the same cases, paired: how much better one is, and how sure that is.

Both models answered the same cases, so what tells them apart is the cases that only one got right; comparing two
separate intervals would throw that away. Where cases have several answers, a case counts by its share of right ones,
and is right itself as `repeats.case_verdict` says. Knows nothing of files and of what difference is acceptable.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from fcdistill.errors import DataError
from fcdistill.evaluation.repeats import by_case, case_verdict
from fcdistill.records import PairedComparison, Score

__all__ = ["changed_ids", "compare_scores"]

_NUM_RESAMPLES = 10_000
_SEED = 0


@dataclass(frozen=True)
class _PairedCase:
    """A case on both sides: whether it is right there, and by how much its share of right answers rose."""

    id: str
    before: bool
    now: bool
    rise: Fraction


def compare_scores(baseline: Sequence[Score], candidate: Sequence[Score]) -> PairedComparison:
    """The candidate's call accuracy against the baseline's, on the same cases in any order.

    Args:
        baseline: the verdicts on each case's answers.
        candidate: the same, on each of the same cases.

    Returns:
        The same figures on every call: the bootstrap's seed is fixed. Where no case tells the two apart, the interval
        is the point 0 and both p-values are 1.

    Raises:
        DataError: there is no case, an answer has two verdicts, or the two hold other ids.

    Source: McNemar 1947 in its exact form, and for several answers to a case the same test of their shares, Fisher's
    sign-flip randomisation test (The Design of Experiments, 1935, section 21), computed exactly; percentile bootstrap
    over cases, Efron and Tibshirani 1993, section 13.3.
    """
    pairs = _pairs(baseline, candidate)
    verdicts = Counter((pair.before, pair.now) for pair in pairs)
    rises = Counter(pair.rise for pair in pairs)
    low, high = _bootstrap_interval(rises)
    p_worse, p_differs = _sign_flip(rises)
    return PairedComparison(
        num_pairs=len(pairs),
        both_right=verdicts[True, True],
        baseline_only=verdicts[True, False],
        candidate_only=verdicts[False, True],
        difference=float(_total(rises) / len(pairs)),
        low=low,
        high=high,
        p_worse=p_worse,
        p_differs=p_differs,
    )


def changed_ids(baseline: Sequence[Score], candidate: Sequence[Score]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The cases that only the baseline got right and those that only the candidate did, in the baseline's order.

    Raises like `compare_scores`.
    """
    pairs = _pairs(baseline, candidate)
    regressed = tuple(pair.id for pair in pairs if pair.before and not pair.now)
    fixed = tuple(pair.id for pair in pairs if pair.now and not pair.before)
    return regressed, fixed


def _pairs(baseline: Sequence[Score], candidate: Sequence[Score]) -> list[_PairedCase]:
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
    return [
        _PairedCase(
            name, case_verdict(scores).correct, case_verdict(now[name]).correct, _share(now[name]) - _share(scores)
        )
        for name, scores in before.items()
    ]


def _by_id(scores: Sequence[Score], side: str) -> dict[str, list[Score]]:
    answers = Counter((score.id, score.repetition) for score in scores)
    if len(answers) != len(scores):
        [((twice, _), _)] = answers.most_common(1)
        raise DataError(
            f"the {side} holds two verdicts on case {twice!r}",
            required="one verdict per case and repetition",
            fix="run that evaluation again",
        )
    return by_case(scores)


def _share(scores: Sequence[Score]) -> Fraction:
    return Fraction(sum(score.correct for score in scores), len(scores))


def _total(rises: Counter[Fraction]) -> Fraction:
    return sum((rise * count for rise, count in rises.items()), Fraction(0))


def _sign_flip(rises: Counter[Fraction]) -> tuple[float, float]:
    """Exact p-values, one-sided (as evidence that the baseline is better) and two-sided.

    Where the two are equally good, each case's rise is as likely as its opposite. Of single answers, the rises are 1
    and -1, and the sum of those with flipped signs is binomial: that is McNemar's test.
    """
    import numpy  # slow to import like scipy, and most runs are compared with none
    from scipy.stats import binom

    unit = lcm(*(rise.denominator for rise in rises))
    sizes: Counter[int] = Counter()
    for rise, count in rises.items():
        if rise:
            sizes[int(abs(rise) * unit)] += count
    reach = sum(size * count for size, count in sizes.items())
    if not reach:
        return 1.0, 1.0
    # How likely it is that the cases that fall make up each part of all changes.
    fallen_R = numpy.zeros(reach + 1)
    fallen_R[0] = 1.0
    for size, count in sizes.items():
        before_R, fallen_R = fallen_R, numpy.zeros(reach + 1)
        for num_fallen, chance in enumerate(binom.pmf(numpy.arange(count + 1), count, 0.5)):
            place = size * num_fallen
            fallen_R[place:] += chance * before_R[: reach + 1 - place]
    fallen = (reach - int(_total(rises) * unit)) // 2
    p_worse, p_better = float(fallen_R[fallen:].sum()), float(fallen_R[: fallen + 1].sum())
    return min(1.0, p_worse), min(1.0, 2 * min(p_worse, p_better))


def _bootstrap_interval(rises: Counter[Fraction]) -> tuple[float, float]:
    """Central 95% of the mean rise over resampled cases.

    Drawing cases with replacement draws the counts of the different rises from a multinomial.
    """
    import numpy

    found = sorted(rises)
    counts = numpy.array([rises[rise] for rise in found])
    drawn = numpy.random.default_rng(_SEED).multinomial(counts.sum(), counts / counts.sum(), size=_NUM_RESAMPLES)
    means = drawn @ numpy.array(found, dtype=float) / counts.sum()
    low, high = numpy.percentile(means, (2.5, 97.5))
    return float(low), float(high)
