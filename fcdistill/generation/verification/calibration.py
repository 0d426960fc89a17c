"""One score from what several witnesses measure, and the threshold from which a candidate is kept.

A logistic regression tells candidates, which are nearly all right, from planted errors; both sides weigh the same, so
that its output is the log odds of being right at even prior odds. The source's prior error rate turns that into the
precision of what is kept. Scores are cross-validated by split group. Nothing here knows how a measure was made.

Axes: S samples, M measures.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcdistill.generation.verification.planted_errors import ErrorKind
from fcdistill.generation.verification.witnesses import WordEvidence
from fcdistill.records import AnswerGaps

__all__ = ["Calibration", "Sample", "calibrate", "gap_measures", "joint_measures", "threshold_keeping", "word_measures"]

_NUM_PARTS = 5
_L2 = 1e-3
"""Weight of the squared weights beside the mean loss: measures are of one scale, and parts of a small sample differ."""
_MOST = 3
"""A fourth unsaid value says no more than a third."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Sample:
    """A candidate, or a planted error.

    Attributes:
        group: samples of one group are on one side of every validation.
        kind: of the planted error; None for a candidate.
        measures: by name; all samples have the same names.
    """

    group: str
    kind: ErrorKind | None
    measures: Mapping[str, float]


@dataclass(frozen=True)
class Calibration:
    """What was fitted.

    Attributes:
        scores: log odds of being right at even prior odds, per sample; of a fit that had not seen the sample's group.
        threshold: from which a candidate is kept.
        weights: of a fit on all samples, per unit of a measure.
    """

    scores: tuple[float, ...]
    threshold: float
    weights: dict[str, float]


def word_measures(words: WordEvidence) -> dict[str, float]:
    """What words say, as numbers."""
    by_call: dict[int, bool] = {}
    for each in words.arguments:
        by_call[each.call] = by_call.get(each.call, False) or each.stance == "for"
    silent = [each for each in words.arguments if each.stance == "nothing"]
    return {
        "words: unsaid": _counted(each.is_open for each in words.said("against")),
        "words: other choice": _counted(not each.is_open for each in words.said("against")),
        "words: silent": _counted(not each.is_optional for each in silent),
        "words: silent, optional": _counted(each.is_optional for each in silent),
        "words: call without a word": _counted(not said for said in by_call.values()),
        "words: missing": min(len(words.missing), _MOST),
        "words: doubts": min(len(words.doubts), _MOST),
    }


def gap_measures(gaps: AnswerGaps) -> dict[str, float]:
    """What a model's gaps say by themselves, as numbers: a gap of 10 nats says little more than one of 8."""
    return {
        "gap: name": math.log1p(gaps.name),
        "gap: key": math.log1p(max((each.key for each in gaps.arguments), default=0.0)),
        "gap: value": math.log1p(max((each.value for each in gaps.arguments), default=0.0)),
        "gap: end": math.log1p(gaps.end),
        "gap: all": math.log1p(gaps.total),
    }


def joint_measures(words: WordEvidence, gaps: AnswerGaps) -> dict[str, float]:
    """What words and gaps say together: a gap counts more where words are silent about the very argument."""
    said: dict[tuple[int, str], bool] = {}
    for each in words.arguments:
        place = each.call, each.path.split(".")[1]
        said[place] = said.get(place, True) and each.stance == "for"
    unsaid = [each.gap for each in gaps.arguments if not said.get((each.call, each.name), False)]
    end = math.log1p(max([gaps.end, *(each.key for each in gaps.arguments)]))
    return {
        **word_measures(words),
        **gap_measures(gaps),
        "both: gap at an unsaid argument": math.log1p(max(unsaid, default=0.0)),
        "both: other key or end with something missing": end * bool(words.missing),
        "both: other key or end with a doubt": end * bool(words.doubts),
    }


def calibrate(samples: Sequence[Sample], *, prior_error_rate: float, precision: float) -> Calibration:
    """Fit the combination, and find the lowest threshold that reaches the precision.

    A candidate that is likelier wrong than right is not kept, whatever precision would allow.

    Args:
        samples: candidates and planted errors, with at least one of each.
        prior_error_rate: share of wrong ones among the candidates, above 0 and below 1.
        precision: share of right ones that what is kept is to have, below 1.
    """
    names = list(samples[0].measures)
    measures_SM = np.array([[sample.measures[name] for name in names] for sample in samples], dtype=np.float64)
    right_S = np.array([sample.kind is None for sample in samples])
    parts_S = np.array([_part(sample.group) for sample in samples])
    scores_S = np.zeros(len(samples))
    for part in range(_NUM_PARTS):
        held = parts_S == part
        learned = ~held
        if held.any():
            fitted = learned if right_S[learned].any() and (~right_S[learned]).any() else np.ones_like(held)
            scores_S[held] = _log_odds(_fitted(measures_SM[fitted], right_S[fitted]), measures_SM[held])
    weights_M = _fitted(measures_SM, right_S)
    threshold = max(
        _threshold_of_precision(scores_S, right_S, prior_error_rate, precision),
        -math.log((1 - prior_error_rate) / prior_error_rate),
    )
    return Calibration(
        scores=tuple(map(float, scores_S)),
        threshold=threshold,
        weights={name: round(float(weight), 4) for name, weight in zip(["", *names], weights_M, strict=True) if name},
    )


def threshold_keeping(scores: Sequence[float], samples: Sequence[Sample], share: float) -> float:
    """The highest threshold at which this share of the candidates is kept."""
    own = sorted((score for score, sample in zip(scores, samples, strict=True) if sample.kind is None), reverse=True)
    return own[min(len(own), max(1, math.ceil(share * len(own)))) - 1]


def _counted(found: Any) -> float:
    return float(min(sum(map(bool, found)), _MOST))


def _part(group: str) -> int:
    return hashlib.sha256(group.encode()).digest()[0] % _NUM_PARTS


def _fitted(measures_SM: Floats, right_S: Any) -> Floats:
    """Intercept and weights of least regularised cross-entropy, where right and planted weigh the same in all."""
    from scipy.optimize import minimize

    with_one_SM = np.hstack([np.ones((len(measures_SM), 1)), measures_SM])
    sign_S = np.where(right_S, 1.0, -1.0)
    weight_S = np.where(right_S, 0.5 / right_S.sum(), 0.5 / (~right_S).sum())
    penalty_M = np.full(with_one_SM.shape[1], _L2)
    penalty_M[0] = 0.0

    def loss(weights_M: Floats) -> tuple[float, Floats]:
        margin_S = sign_S * (with_one_SM @ weights_M)
        wrong_S = 1 / (1 + np.exp(np.clip(margin_S, -500, 500)))
        value = float(weight_S @ np.logaddexp(0, -margin_S) + penalty_M @ weights_M**2)
        slope_M = -(weight_S * sign_S * wrong_S) @ with_one_SM + 2 * penalty_M * weights_M
        return value, slope_M

    found: Floats = minimize(loss, np.zeros(with_one_SM.shape[1]), jac=True, method="L-BFGS-B").x
    return found


def _log_odds(weights_M: Floats, measures_SM: Floats) -> Floats:
    found: Floats = weights_M[0] + measures_SM @ weights_M[1:]
    return found


def _threshold_of_precision(scores_S: Floats, right_S: Any, prior_error_rate: float, precision: float) -> float:
    """The lowest score from which on what is kept is so precise; that of the best candidate where none is."""
    own, planted = np.sort(scores_S[right_S]), np.sort(scores_S[~right_S])
    for threshold in np.unique(own):
        kept = (len(own) - np.searchsorted(own, threshold)) / len(own)
        let_through = (len(planted) - np.searchsorted(planted, threshold)) / len(planted)
        # Candidates are right and wrong ones: what is kept of all is known, and of the wrong ones it is as of planted.
        if 1 - prior_error_rate * let_through / kept >= precision:
            return float(threshold)
    return float(own[-1])
