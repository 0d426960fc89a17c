"""Tests of `fcdistill.generation.verification.calibration`."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.generation.verification.calibration import (
    Sample,
    calibrate,
    gap_measures,
    joint_measures,
    threshold_keeping,
    word_measures,
)
from fcdistill.records import AnswerGaps, ArgumentGap, ToolCall
from tests.generation.home import verifier


def samples(num: int, overlap: float, seed: int = 0) -> list[Sample]:
    """Candidates with small gaps and planted errors with large ones; a second measure says nothing."""
    draw = random.Random(seed)
    found = []
    for number in range(num):
        noise = draw.random()
        found.append(Sample(f"g{number}", None, {"gap": draw.gauss(0, overlap), "noise": noise}))
        found.append(Sample(f"g{number}", "number", {"gap": draw.gauss(2, overlap), "noise": noise}))
    return found


def kept(found: list[Sample], scores: tuple[float, ...], threshold: float, planted: bool) -> float:
    chosen = [score for score, sample in zip(scores, found, strict=True) if (sample.kind is not None) == planted]
    return sum(score >= threshold for score in chosen) / len(chosen)


def test_a_measure_that_tells_is_weighed_and_one_that_does_not_is_not() -> None:
    found = samples(300, 0.5)
    fitted = calibrate(found, prior_error_rate=0.2, precision=0.97)
    assert fitted.weights["gap"] < -2 and abs(fitted.weights["noise"]) < 1
    assert kept(found, fitted.scores, fitted.threshold, planted=False) > 0.95
    assert kept(found, fitted.scores, fitted.threshold, planted=True) < 0.15


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 1.5), st.floats(0.02, 0.4), st.floats(0.8, 0.99))
def test_what_is_kept_has_the_precision_where_the_prior_holds(overlap: float, prior: float, precision: float) -> None:
    found = samples(60, overlap)
    fitted = calibrate(found, prior_error_rate=prior, precision=precision)
    let_through = kept(found, fitted.scores, fitted.threshold, planted=True)
    share = kept(found, fitted.scores, fitted.threshold, planted=False)
    best = max(score for score, sample in zip(fitted.scores, found, strict=True) if sample.kind is None)
    assert share > 0
    assert 1 - prior * let_through / share >= precision - 1e-9 or fitted.threshold == best
    # What is likelier wrong than right is not kept.
    assert fitted.threshold >= -math.log((1 - prior) / prior)


def test_a_higher_precision_or_a_worse_source_keeps_no_more() -> None:
    found = samples(200, 1.2)
    thresholds = [
        calibrate(found, prior_error_rate=prior, precision=precision).threshold
        for prior, precision in ((0.05, 0.9), (0.05, 0.99), (0.3, 0.99))
    ]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[2]


def test_scores_are_of_fits_that_have_not_seen_the_group() -> None:
    """A measure that names the group tells the sides apart where it was seen, and nowhere else."""
    found = [
        Sample(f"g{number}", kind, {f"is g{other}": float(other == number and kind is None) for other in range(30)})
        for number in range(30)
        for kind in (None, "number")
    ]  # type: ignore[misc]
    fitted = calibrate(found, prior_error_rate=0.2, precision=0.97)
    assert kept(found, fitted.scores, 0.01, planted=False) == kept(found, fitted.scores, 0.01, planted=True)


def test_one_group_alone_is_fitted_on_itself() -> None:
    found = [Sample("g", None, {"gap": 0.0}), Sample("g", "number", {"gap": 5.0})]
    right, planted = calibrate(found, prior_error_rate=0.2, precision=0.97).scores
    assert right > planted


@pytest.mark.parametrize(("share", "index"), [(1.0, 3), (0.5, 1), (0.51, 2), (0.0, 0)])
def test_the_threshold_that_keeps_a_share(share: float, index: int) -> None:
    found = [Sample("g", None, {}) for _ in range(4)] + [Sample("g", "number", {})]
    assert threshold_keeping([4, 2, 3, 1, 9], found, share) == [4, 3, 2, 1][index]


def test_measures() -> None:
    light = ToolCall(name="set_light", arguments={"room": "office", "state": "on", "color": "red", "brightness": 9})
    measured = word_measures(verifier().word_evidence("kitchen, at 3 and at 4", [light], None))
    assert {name: value for name, value in measured.items() if value} == {
        "words: unsaid": 1,
        "words: other choice": 1,
        "words: silent, optional": 1,
        "words: doubts": 3,
    }
    silent = word_measures(verifier().word_evidence("it is dark, make it red", [light], None))
    assert silent["words: call without a word"] == 0 and silent["words: silent"] == 1


def test_gaps_count_more_where_words_are_silent() -> None:
    light = ToolCall(name="set_light", arguments={"room": "office", "state": "on"})
    words = verifier().word_evidence("light on, purple, 7", [light], None)

    def gaps(room: float, state: float) -> AnswerGaps:
        arguments = tuple(
            ArgumentGap(call=0, name=name, key=0.5, value=gap) for name, gap in (("room", room), ("state", state))
        )
        return AnswerGaps(id="a", name=math.e - 1, arguments=arguments, end=2.0, total=9.0, nll=10.0)

    alone = gap_measures(gaps(1.0, 3.0))
    assert alone == {
        "gap: name": 1.0,
        "gap: key": math.log1p(0.5),
        "gap: value": math.log1p(3.0),
        "gap: end": math.log1p(2.0),
        "gap: all": math.log1p(9.0),
    }
    joint = joint_measures(words, gaps(1.0, 3.0))
    assert joint.items() >= (alone | word_measures(words)).items()
    assert joint["both: gap at an unsaid argument"] == math.log1p(1.0)
    for name in ("something missing", "a doubt"):
        assert joint[f"both: other key or end with {name}"] == math.log1p(2.0)
    borne_out = verifier().word_evidence("office light on", [light], None)
    assert not any(value for name, value in joint_measures(borne_out, gaps(1.0, 3.0)).items() if "both" in name)
