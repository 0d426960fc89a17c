"""The CI gate: may this run replace the one that the baseline recorded?

A run fails where an absolute floor is broken, where its accuracy dropped by more than is tolerated and too many cases
turned wrong for chance (exact one-sided McNemar), or where a critical case turned wrong. A baseline that was measured
under other conditions says nothing: it is refused with what differs, unless the user allows that. With several answers
to a case, accuracies are means over answers, and a case turns wrong where its majority does (`repeats`); cautions on
power are those of single answers. How a verdict is shown is not known here (`reporting`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from fcdistill.config import GateConfig
from fcdistill.errors import DataError
from fcdistill.evaluation.pairing import changed_ids, compare_scores
from fcdistill.records import Baseline, EvalCase, GateCheck, GateVerdict, PairedComparison, Report, Score
from fcdistill.storage import describe_validation_error, read_json

__all__ = [
    "baseline_of",
    "detectable_drop",
    "gate_power",
    "judge",
    "read_baseline",
    "require_comparable",
]

_WANTED_POWER = 0.8
_USUAL_DROP = 0.05
"""A regression that a suite should be able to show: five points."""
_USUAL_CHURN = 0.02
"""Share of cases that turn right between two models of one quality, and of as many that turn wrong, before any look."""

_OF_THE_ANSWERS = ("template_sha256", "tools_in_prompt", "decode_sha256")
"""How the answers were made: unknown of saved predictions and in part of servers, and then nothing that differs."""
_CONDITIONS = ("cases_sha256", "tools_sha256", *_OF_THE_ANSWERS, "default_equals_omitted", "scorer_version", "repeat")
"""What a baseline and a run must have in common; fields of `Baseline` and `Report` alike."""
_OF_WHAT = {"template_sha256": " (of the chat template and the date that it writes)"}
"""What a hash is of, where its name alone would let a reason be overlooked."""


def baseline_of(report: Report, scores: Sequence[Score]) -> Baseline:
    """What later runs are judged against.

    Raises:
        DataError: a case has no score, so that later runs could not be compared on it.
    """
    if report.num_unscored:
        raise DataError(
            f"{report.num_unscored} of {report.num_cases} cases have no answer",
            required="a complete run as the baseline",
            fix="run the same command again until every case is answered",
        )
    return Baseline(scores=tuple(scores), model=report.model, **{name: getattr(report, name) for name in _CONDITIONS})


def read_baseline(path: Path) -> Baseline:
    """The baseline that `--write-baseline` wrote.

    Raises:
        DataError: the file is missing or holds something else.
    """
    content = read_json(path, "baseline")
    try:
        return Baseline.model_validate(content)
    except ValidationError as error:
        raise DataError(
            f"baseline {path}: {describe_validation_error(error)}",
            required="a baseline as `fcdistill eval --write-baseline FILE` writes it",
            fix="check the path, or write the baseline again",
        ) from None


def require_comparable(config: GateConfig, baseline: Baseline, conditions: Mapping[str, object]) -> tuple[str, ...]:
    """What differs between the conditions of a baseline and those of a run, one sentence each.

    Args:
        config: whether anything may.
        baseline: what `config.baseline` holds.
        conditions: those of the run, under the names of `Baseline`'s fields: known before any model is asked.

    Raises:
        DataError: something differs and `config.allow_mismatch` is off.
    """
    mismatches = tuple(_differences(baseline, conditions))
    if mismatches and not config.allow_mismatch:
        raise DataError(
            f"the baseline {config.baseline} was measured under other conditions: {'; '.join(mismatches)}",
            required="the same cases, tools, prompts, decode settings, scorer and repetitions as in this run",
            fix="write a new baseline with --write-baseline, or compare what is common with --allow-mismatch",
        )
    return mismatches


def judge(
    config: GateConfig, report: Report, scores: Sequence[Score], cases: Sequence[EvalCase], baseline: Baseline | None
) -> GateVerdict:
    """The verdict on a complete run.

    Args:
        config: the rules.
        report: the run's figures.
        scores: its verdicts on all answers.
        cases: the cases, for which of them are critical.
        baseline: what `config.baseline` holds; None where there is none.

    Raises:
        DataError: the baseline was measured under other conditions, and `config.allow_mismatch` is off; or it shares no
            case with the run.
        ValueError: no case was scored, or some case has no score.
    """
    if report.num_unscored or report.call_accuracy.value is None:
        raise ValueError("a run with unscored cases has no verdict")
    checks: list[GateCheck] = []
    if config.min_accuracy is not None:
        checks.append(_floor_check(report.call_accuracy.value, config.min_accuracy))
    if baseline is None:
        return GateVerdict(passed=all(check.passed for check in checks), checks=tuple(checks))
    mismatches = require_comparable(config, baseline, {name: getattr(report, name) for name in _CONDITIONS})
    shared = {score.id for score in baseline.scores} & {score.id for score in scores}
    if not shared:
        raise DataError(
            f"the baseline {config.baseline} shares no case with this run",
            required="a baseline of the same suite",
            fix="check the path, or write a new baseline",
        )
    pairs = [[score for score in side if score.id in shared] for side in (baseline.scores, scores)]
    comparison, (regressed, fixed) = compare_scores(*pairs), changed_ids(*pairs)
    checks.append(_drop_check(comparison, config))
    critical = {case.id for case in cases if case.critical}
    if critical:
        checks.append(_critical_check([id for id in regressed if id in critical], len(critical)))
    return GateVerdict(
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        comparison=comparison,
        regressed_ids=regressed,
        fixed_ids=fixed,
        mismatches=mismatches,
        warnings=tuple(_warnings(comparison, config)),
    )


def gate_power(num_cases: int, drop: float, *, max_drop: float, alpha: float, churn: float = 0.0) -> float:
    """How likely `max_drop` fails a model whose true accuracy is lower by `drop`.

    A case turns wrong with probability `drop + churn` and right with probability `churn`. The number of cases that
    changed, and of those that turned wrong among them, are binomial; the rule fails where both the observed drop
    exceeds the tolerance and the exact one-sided McNemar p is below alpha.

    Args:
        num_cases: paired cases, at least 1.
        drop: true drop, 0 to 1; 0 gives the false-alarm rate.
        max_drop: the tolerated drop.
        alpha: level of the test.
        churn: share of cases that turn right; drop + 2 churn is at most 1.

    Raises:
        ValueError: a share is outside its range.
    """
    import numpy  # slow to import like scipy, and most runs have no baseline
    from scipy.stats import binom

    changed_share = drop + 2 * churn
    if num_cases < 1 or min(drop, churn) < 0 or changed_share > 1:
        raise ValueError(f"num_cases {num_cases}, drop {drop}, churn {churn}: not a distribution of outcomes")
    if changed_share == 0:
        return 0.0
    changed_D = numpy.arange(1, num_cases + 1)
    # The fewest regressions b of D changes with P(Binomial(D, 1/2) >= b) < alpha.
    critical_D = binom.isf(alpha, changed_D, 0.5).astype(int) + 1
    critical_D += binom.sf(critical_D - 1, changed_D, 0.5) >= alpha
    # b - (D - b) > max_drop * num_cases; rounding must not turn a drop of exactly max_drop into more.
    tolerated = numpy.floor((changed_D + max_drop * num_cases) / 2 + 1e-9).astype(int) + 1
    needed_D = numpy.maximum(critical_D, tolerated)
    fails_D = binom.sf(needed_D - 1, changed_D, (drop + churn) / changed_share)
    return float(numpy.sum(binom.pmf(changed_D, num_cases, changed_share) * fails_D))


def detectable_drop(num_cases: int, *, max_drop: float, alpha: float, churn: float) -> float | None:
    """The smallest true drop, to a tenth of a point, that fails with 80% probability; None where no drop does."""
    steps = int((1 - 2 * churn) * 1000)
    low, high = 0, steps
    if gate_power(num_cases, steps / 1000, max_drop=max_drop, alpha=alpha, churn=churn) < _WANTED_POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        if gate_power(num_cases, middle / 1000, max_drop=max_drop, alpha=alpha, churn=churn) < _WANTED_POWER:
            low = middle + 1
        else:
            high = middle
    return low / 1000


def _differences(baseline: Baseline, conditions: Mapping[str, object]) -> Iterator[str]:
    for name in _CONDITIONS:
        old, new = getattr(baseline, name), conditions[name]
        if name in _OF_THE_ANSWERS and None in (old, new):
            continue
        if old != new:
            yield f"{name} was {_shown(old)} and is {_shown(new)}{_OF_WHAT.get(name, '')}"


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 12 else f"{text[:12]}…"


def _floor_check(accuracy: float, floor: float) -> GateCheck:
    detail = f"call accuracy is {accuracy:.1%}, and at least {floor:.1%} is required"
    return GateCheck(rule="min_accuracy", passed=accuracy >= floor, detail=detail)


def _drop_check(comparison: PairedComparison, config: GateConfig) -> GateCheck:
    too_far = -comparison.difference > config.max_drop + 1e-9  # a drop of exactly the tolerance is none, when rounded
    significant = comparison.p_worse < config.alpha
    detail = (
        f"call accuracy changed by {100 * comparison.difference:+.1f} points ({comparison.baseline_only} cases turned "
        f"wrong, {comparison.candidate_only} right, p {comparison.p_worse:.3g}); a drop fails beyond "
        f"{100 * config.max_drop:.1f} points with p below {config.alpha:g}"
    )
    return GateCheck(rule="max_drop", passed=not (too_far and significant), detail=detail)


def _critical_check(regressed: Sequence[str], num_critical: int) -> GateCheck:
    if not regressed:
        return GateCheck(rule="critical", passed=True, detail=f"none of {num_critical} critical cases turned wrong")
    named = ", ".join(regressed[:5]) + (", …" if len(regressed) > 5 else "")
    detail = f"{len(regressed)} of {num_critical} critical cases turned wrong ({named}), and none may"
    return GateCheck(rule="critical", passed=False, detail=detail)


def _warnings(comparison: PairedComparison, config: GateConfig) -> Iterator[str]:
    churn = min(comparison.baseline_only, comparison.candidate_only) / comparison.num_pairs or _USUAL_CHURN
    churn = min(churn, 0.25)
    beyond = config.max_drop + _USUAL_DROP if config.max_drop >= _USUAL_DROP else _USUAL_DROP
    drop = min(beyond, 1 - 2 * churn)
    rules = {"max_drop": config.max_drop, "alpha": config.alpha, "churn": churn}
    power = gate_power(comparison.num_pairs, drop, **rules)
    if power >= _WANTED_POWER:
        return
    seen = detectable_drop(comparison.num_pairs, **rules)
    what = "no drop" if seen is None else f"only a drop of {100 * seen:.1f} points or more"
    yield (
        f"the suite is small: with {comparison.num_pairs} cases the gate catches a drop of {100 * drop:.0f} points "
        f"with {power:.0%} probability, and {what} with {_WANTED_POWER:.0%}"
    )
