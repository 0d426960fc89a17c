from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest

from fcdistill.config import GateConfig
from fcdistill.errors import DataError
from fcdistill.evaluation.gate import baseline_of, detectable_drop, gate_power, judge, read_baseline, require_comparable
from fcdistill.evaluation.stats import summarise
from fcdistill.records import EvalCase, GateVerdict, Prediction, Report, Score
from fcdistill.storage import write_json
from tests.evaluation.scores import repeated


def scores_of(outcomes: Sequence[bool]) -> list[Score]:
    return [
        Score(
            id=f"c{number}",
            category="simple",
            behaviour="call",
            tools=("dim",),
            correct=correct,
            primary_error=None if correct else "wrong_value",
            parsed=True,
            schema_valid=True,
            names_correct=True,
        )
        for number, correct in enumerate(outcomes)
    ]


def report_of(scores: Sequence[Score], **fields: Any) -> Report:
    predictions = {score.id: Prediction(id=score.id) for score in scores}
    return summarise(scores, predictions.values(), **{"cases_sha256": "cases", "tools_sha256": "tools", **fields})


def cases_of(scores: Sequence[Score], critical: Sequence[str] = ()) -> list[EvalCase]:
    values = {
        "messages": [{"role": "user", "content": "dim"}],
        "behaviour": "no_call",
        "expected": [[]],
        "category": "irrelevance",
    }
    return [EvalCase.model_validate({**values, "id": score.id, "critical": score.id in critical}) for score in scores]


def verdict(before: Sequence[bool], now: Sequence[bool], critical: Sequence[str] = (), **rules: Any) -> GateVerdict:
    scores = scores_of(now)
    baseline = baseline_of(report_of(scores_of(before)), scores_of(before))
    config = GateConfig(baseline=Path("base.json"), **rules)
    return judge(config, report_of(scores), scores, cases_of(scores, critical), baseline)


def rule(found: GateVerdict, name: str) -> bool:
    (passed,) = [check.passed for check in found.checks if check.rule == name]
    return passed


def test_a_floor_is_kept_by_an_accuracy_that_equals_it_and_broken_below() -> None:
    scores = scores_of([True] * 3 + [False])
    for floor, passed in ((0.75, True), (0.76, False)):
        found = judge(GateConfig(min_accuracy=floor), report_of(scores), scores, cases_of(scores), None)
        assert found.passed is passed
        assert [check.rule for check in found.checks] == ["min_accuracy"]
        assert "75.0%" in found.checks[0].detail


def test_an_unchanged_model_passes() -> None:
    outcomes = [number % 3 > 0 for number in range(200)]
    found = verdict(outcomes, outcomes)
    assert found.passed and found.regressed_ids == () and found.mismatches == ()


def test_five_points_of_272_cases_are_caught() -> None:
    before = [number < 200 for number in range(272)]
    now = [number < 186 for number in range(272)]
    found = verdict(before, now)
    assert not found.passed and not rule(found, "max_drop")
    assert found.regressed_ids == tuple(f"c{number}" for number in range(186, 200))


@pytest.mark.parametrize(
    ("num_wrong", "num_right", "max_drop", "passed"),
    [
        (4, 0, 0.0, True),  # 0.5 ** 4 = 0.0625: chance
        (5, 0, 0.0, False),  # 0.5 ** 5 = 0.03125
        (5, 0, 0.05, True),  # five of 100 are what is tolerated
        (5, 0, 0.049, False),
        (9, 4, 0.0, True),  # P(Binomial(13, 1/2) >= 9) = 0.133
        (14, 4, 0.0, False),  # P(Binomial(18, 1/2) >= 14) = 0.015
        (4, 14, 0.0, True),
    ],
)
def test_a_drop_fails_where_it_is_too_large_and_no_chance(
    num_wrong: int, num_right: int, max_drop: float, passed: bool
) -> None:
    before = [number < 50 for number in range(100)]
    now = [num_wrong <= number < 50 or 50 <= number < 50 + num_right for number in range(100)]
    assert rule(verdict(before, now, max_drop=max_drop), "max_drop") is passed


def test_one_critical_case_that_turns_wrong_fails_whatever_the_accuracy() -> None:
    before = [True, *[False] * 50, *[True] * 50]
    now = [False, *[True] * 50, *[True] * 50]
    found = verdict(before, now, critical=["c0", "c1"])
    assert not found.passed and rule(found, "max_drop") and not rule(found, "critical")
    assert "c0" in found.checks[-1].detail
    assert rule(verdict(now, before, critical=["c0"]), "critical")  # it was wrong already


def test_other_conditions_are_refused_with_what_differs() -> None:
    scores = scores_of([True])
    baseline = baseline_of(report_of(scores), scores)
    other = report_of(scores, cases_sha256="others", default_equals_omitted=True)
    with pytest.raises(DataError, match="cases_sha256 was cases and is others.*default_equals_omitted was False"):
        judge(GateConfig(baseline=Path("b")), other, scores, cases_of(scores), baseline)
    allowed = GateConfig(baseline=Path("b"), allow_mismatch=True)
    assert len(judge(allowed, other, scores, cases_of(scores), baseline).mismatches) == 2


def repeated_verdict(
    before: Sequence[str], now: Sequence[str], critical: Sequence[str] = (), **rules: Any
) -> GateVerdict:
    """The verdict where cases have several answers, 1 for a right one."""
    sides = [[each for i, case in enumerate(side) for each in repeated(f"c{i}", case)] for side in (before, now)]
    reports = [report_of(scores, repeat=len(side[0])) for scores, side in zip(sides, (before, now), strict=True)]
    config = GateConfig(baseline=Path("base.json"), **rules)
    cases = cases_of(repeated_first(sides[1]), critical)
    return judge(config, reports[1], sides[1], cases, baseline_of(reports[0], sides[0]))


def repeated_first(scores: Sequence[Score]) -> list[Score]:
    return [score for score in scores if score.repetition == 0]


def test_a_baseline_of_another_repeat_is_refused() -> None:
    with pytest.raises(DataError, match="repeat was 2 and is 3"):
        repeated_verdict(["11"] * 3, ["111"] * 3)
    found = repeated_verdict(["11"] * 3, ["111"] * 3, allow_mismatch=True)
    assert found.passed and found.mismatches == ("repeat was 2 and is 3",)


def test_a_drop_of_repeated_cases_is_one_of_right_answers() -> None:
    # No case loses its majority, but every fifth loses an answer: 1/15 of all.
    before, now = ["111"] * 50, ["110" if number % 5 == 0 else "111" for number in range(50)]
    found = repeated_verdict(before, now, max_drop=0.05)
    assert not rule(found, "max_drop") and found.regressed_ids == ()
    assert "-6.7 points" in found.checks[0].detail
    assert rule(repeated_verdict(before, now, max_drop=0.07), "max_drop")


def test_a_critical_repeated_case_turns_wrong_with_its_majority() -> None:
    before = ["111"] * 30
    assert rule(repeated_verdict(before, ["110", *before[1:]], critical=["c0"]), "critical")
    found = repeated_verdict(before, ["100", *before[1:]], critical=["c0"])
    assert not rule(found, "critical") and found.regressed_ids == ("c0",)


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("decode_sha256", "greedy", "sampled"),
        ("template_sha256", "1" * 64, "2" * 64),
        ("tools_in_prompt", "none", "full"),
    ],
)
def test_what_is_not_known_of_one_side_is_no_mismatch_and_what_differs_is(name: str, before: str, now: str) -> None:
    scores = scores_of([True])
    unknown = baseline_of(report_of(scores), scores)
    known = unknown.model_copy(update={name: before})
    conditions = {key: getattr(unknown, key) for key in type(unknown).model_fields}
    for baseline, found in ((unknown, now), (known, None), (known, before)):
        assert require_comparable(GateConfig(), baseline, conditions | {name: found}) == ()
    with pytest.raises(DataError, match=rf"{name} was {before[:12]}…? and is {now[:12]}"):
        require_comparable(GateConfig(), known, conditions | {name: now})


def test_a_baseline_of_other_cases_is_refused_even_where_mismatches_are_allowed() -> None:
    before, now = scores_of([True]), scores_of([True, True])[1:]
    config = GateConfig(baseline=Path("b"), allow_mismatch=True)
    with pytest.raises(DataError, match="no case"):
        judge(config, report_of(now), now, cases_of(now), baseline_of(report_of(before), before))


def test_an_incomplete_run_is_no_baseline_and_has_no_verdict() -> None:
    scores = scores_of([True])
    report = report_of(scores, unscored_ids=["c1"])
    with pytest.raises(DataError, match="1 of 2 cases"):
        baseline_of(report, scores)
    with pytest.raises(ValueError, match="no verdict"):
        judge(GateConfig(min_accuracy=0.1), report, scores, cases_of(scores), None)


def test_a_baseline_survives_its_file_and_another_file_is_refused(tmp_path: Path) -> None:
    scores = scores_of([True, False])
    baseline = baseline_of(report_of(scores), scores)
    write_json(tmp_path / "base.json", baseline.model_dump(mode="json"))
    assert read_baseline(tmp_path / "base.json") == baseline
    write_json(tmp_path / "base.json", report_of(scores).model_dump(mode="json"))
    with pytest.raises(DataError, match="--write-baseline"):
        read_baseline(tmp_path / "base.json")


def test_a_small_suite_is_warned_of_with_what_it_can_see() -> None:
    outcomes = [True] * 40
    (warning,) = verdict(outcomes, outcomes).warnings
    assert "40 cases" in warning and "5 points" in warning
    assert verdict([True] * 800, [True] * 800).warnings == ()


@pytest.mark.parametrize(
    ("num_cases", "drop", "max_drop", "churn"), [(200, 0.05, 0.0, 0.02), (60, 0.1, 0.05, 0.03), (100, 0.0, 0.0, 0.03)]
)
def test_the_power_is_that_of_simulated_gates(num_cases: int, drop: float, max_drop: float, churn: float) -> None:
    @cache
    def fails(num_wrong: int, num_right: int) -> bool:
        before = [number < num_wrong for number in range(num_cases)]
        now = [num_wrong <= number < num_wrong + num_right for number in range(num_cases)]
        return not rule(verdict(before, now, max_drop=max_drop), "max_drop")

    rng = numpy.random.default_rng(0)
    outcomes = rng.multinomial(num_cases, [drop + churn, churn, 1 - drop - 2 * churn], size=1000)
    failed = sum(fails(num_wrong, num_right) for num_wrong, num_right, _ in outcomes.tolist())
    power = gate_power(num_cases, drop, max_drop=max_drop, alpha=0.05, churn=churn)
    assert abs(failed / len(outcomes) - power) < 4 * (0.25 / len(outcomes)) ** 0.5


@pytest.mark.parametrize("num_cases", [20, 60, 272, 1000])
@pytest.mark.parametrize("churn", [0.005, 0.05, 0.3])
def test_the_false_alarm_rate_is_below_alpha(num_cases: int, churn: float) -> None:
    for alpha in (0.05, 0.01):
        assert gate_power(num_cases, 0.0, max_drop=0.0, alpha=alpha, churn=churn) < alpha


def test_the_detectable_drop_is_the_smallest_of_80_percent_power() -> None:
    rules = {"max_drop": 0.02, "alpha": 0.05, "churn": 0.01}
    drop = detectable_drop(272, **rules)
    assert drop is not None
    assert gate_power(272, drop, **rules) >= 0.8 > gate_power(272, drop - 0.001, **rules)
    assert detectable_drop(3, max_drop=0.0, alpha=0.05, churn=0.0) is None


def test_shares_that_are_no_distribution_are_refused() -> None:
    with pytest.raises(ValueError, match="not a distribution"):
        gate_power(10, 0.5, max_drop=0.0, alpha=0.05, churn=0.3)
