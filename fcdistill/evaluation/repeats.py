"""Several answers to one case: the verdict that stands for them, and how often several are all right.

Knows nothing of intervals (`stats`) and of who answered. A case with a single answer is what that answer is.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import comb

from fcdistill.records import Score

__all__ = ["agreement", "by_case", "case_verdict", "pass_hat"]


def by_case(scores: Iterable[Score]) -> dict[str, list[Score]]:
    """The verdicts on all answers by the case's id, in the order in which cases and answers come."""
    found: dict[str, list[Score]] = {}
    for score in scores:
        found.setdefault(score.id, []).append(score)
    return found


def case_verdict(scores: Sequence[Score]) -> Score:
    """The verdict on the answer that speaks for a case.

    A case is right where more than half of its answers are; its first right answer then speaks for it. Of a wrong case,
    it is the first answer with the most frequent primary error.

    Args:
        scores: the verdicts on the case's answers, at least one.
    """
    if len(scores) == 1:
        return scores[0]
    right = [score for score in scores if score.correct]
    if 2 * len(right) > len(scores):
        return right[0]
    wrong = [score for score in scores if not score.correct]
    [(error, _)] = Counter(score.primary_error for score in wrong).most_common(1)
    return next(score for score in wrong if score.primary_error == error)


def pass_hat(num_right: int, num_answers: int, num_drawn: int) -> float:
    """How likely so many answers, drawn from those of a case without putting back, are all right.

    The mean over cases estimates pass^k without bias.

    Args:
        num_right: right answers of the case.
        num_answers: all its answers.
        num_drawn: k, from 1 to `num_answers`.

    Source: Yao et al. 2024, section 3 (arXiv:2406.12045).
    """
    return comb(num_right, num_drawn) / comb(num_answers, num_drawn)


def agreement(num_right: int, num_answers: int) -> float:
    """How likely two answers, drawn like that from at least two, are both right or both wrong."""
    return pass_hat(num_right, num_answers, 2) + pass_hat(num_answers - num_right, num_answers, 2)
