"""Verdicts added up: rates with intervals, quantiles, counts.

Every rate is over all answers to the scored cases. Where nothing was scored there is no rate: null, never 0. Which
cases exist and who answered them is told by the caller.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import fsum, sqrt

from fcdistill.evaluation.repeats import agreement, by_case, case_verdict, pass_hat
from fcdistill.evaluation.scoring import SCORER_VERSION
from fcdistill.records import (
    CALL_ERRORS,
    CallConfusion,
    Distribution,
    ModelRef,
    OfficialDisagreement,
    Prediction,
    Rate,
    RepeatedRate,
    RepeatFigures,
    Report,
    Score,
    ToolsInPrompt,
)
from fcdistill.toolcalls.dialect import UNKNOWN_DIALECT

__all__ = ["clustered_interval", "summarise", "wilson_interval"]

_ADDED_FOR_VARIANCE = (0.0, 0.0, 1.0, 1.0)
_USUAL_QUANTILE = 1.959963984540054
"""Of 95% confidence. Reports need no other, and scipy takes longer to import than a thousand answers to score."""


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a binomial proportion.

    Args:
        successes: successes, 0 to n; both need not be whole, where n is an effective number of trials.
        n: trials, at least 1.
        confidence: probability that such intervals cover the true proportion.

    Raises:
        ValueError: n is below 1, or successes is outside 0 to n.

    Source: Wilson 1927, without continuity correction.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    share, z2 = successes / n, _quantile(confidence) ** 2
    centre = share + z2 / (2 * n)
    reach = sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n)
    low, high = (centre - reach) / (1 + z2 / n), (centre + reach) / (1 + z2 / n)
    # Rounding must not put the share outside.
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def clustered_interval(shares: Sequence[float], num_answers: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the mean over cases, each with several answers; of single answers, Wilson's.

    Answers to one case are alike, so that they must not count as so many cases. The interval is Wilson's for the
    effective number of cases: their number, times how much less a case's share varies than a single answer would. It
    lies between the number of cases and that of all answers. Two cases of share 0 and two of share 1 are added to the
    estimate of that variance, so that cases that all agree do not pass for certainty.

    Args:
        shares: each case's figure, 0 to 1; at least one.
        num_answers: answers of all these cases.
        confidence: as for `wilson_interval`.

    Source: Wilson's interval with the effective sample size of the design, Korn and Graubard 1998 and Franco et al.
    2019 (J. Surv. Stat. Methodol. 7); the four cases after Agresti and Coull 1998. Cases as the unit: Miller 2024,
    section 3 (arXiv:2411.00640).
    """
    padded = [*shares, *_ADDED_FOR_VARIANCE]
    mean, square = _mean(padded), _mean([share * share for share in padded])
    certainty = min((mean - mean**2) / (square - mean**2), num_answers / len(shares))
    return wilson_interval(sum(shares) * certainty, len(shares) * certainty, confidence)


def summarise(
    scores: Sequence[Score],
    answers: Iterable[Prediction],
    *,
    repeat: int = 1,
    unscored_ids: Sequence[str] = (),
    model: ModelRef | None = None,
    cases_sha256: str,
    tools_sha256: str | None = None,
    template_sha256: str | None = None,
    tools_in_prompt: ToolsInPrompt | None = None,
    dialect: str | None = None,
    decode_sha256: str | None = None,
    decode: Mapping[str, bool | int | float] | None = None,
    default_equals_omitted: bool = False,
    set_aside: Mapping[str, str] | None = None,
) -> Report:
    """The report of an evaluation.

    Args:
        scores: the verdicts, `repeat` for each scored case.
        answers: the answers, for latency and token counts of the scored cases; those to other cases are passed over.
        repeat: answers to each case.
        unscored_ids: cases that lack an answer.
        model: who answered, where known.
        cases_sha256: hash of the evaluated cases.
        tools_sha256: hash of the suite's catalogue.
        template_sha256: hash of the chat template, where the prompts were rendered here.
        tools_in_prompt: how the prompts showed the tools, where they were rendered here.
        dialect: the format that the model's template writes, where it was rendered here.
        decode_sha256: hash of the decode settings, where a model was asked.
        decode: these settings.
        default_equals_omitted: how the scores were made.
        set_aside: reasons, by id, why cases of the suite are not among the evaluated ones.
    """
    cases = by_case(scores)
    verdicts = [case_verdict(found) for found in cases.values()]
    official = [score for score in scores if score.official_correct is not None]
    matched = sum(score.arguments_matched for score in scores)
    num_predicted = sum(score.arguments_predicted for score in scores)
    num_expected = sum(score.arguments_expected for score in scores)
    primary = Counter(score.primary_error for score in verdicts)
    scored = [answer for answer in answers if answer.id in cases]
    dialects = Counter(name for answer in scored for name in answer.dialects)
    return Report(
        num_cases=len(cases) + len(unscored_ids),
        repeat=repeat,
        num_unscored=len(unscored_ids),
        unscored_ids=tuple(unscored_ids),
        call_accuracy=_rate((score.id, score.correct) for score in scores),
        repeats=_repeat_figures(list(cases.values())) if repeat > 1 and cases else None,
        parse_rate=_rate((score.id, score.parsed) for score in scores),
        schema_valid_rate=_rate((score.id, score.schema_valid) for score in scores),
        name_accuracy=_rate((score.id, score.names_correct) for score in scores),
        argument_precision=_ratio(matched, num_predicted),
        argument_recall=_ratio(matched, num_expected),
        argument_f1=_ratio(2 * matched, num_predicted + num_expected),
        call_confusion=_call_confusion(verdicts),
        errors={code: primary[code] for code in CALL_ERRORS if primary[code]},
        by_category=_rates_by((score.category, score) for score in scores),
        by_tool=_rates_by((tool, score) for score in scores for tool in score.tools),
        latency_s=_distribution(answer.latency_s for answer in scored),
        prompt_tokens=_distribution(answer.prompt_tokens for answer in scored),
        completion_tokens=_distribution(answer.completion_tokens for answer in scored),
        thought_tokens=_distribution(answer.thought_tokens for answer in scored),
        dialects=dict(dialects.most_common()),
        dialect=dialect,
        num_other_dialect=None if dialect is None else sum(bool({*answer.dialects} - {dialect}) for answer in scored),
        num_unknown_dialect=dialects[UNKNOWN_DIALECT],
        model=model,
        cases_sha256=cases_sha256,
        tools_sha256=tools_sha256,
        template_sha256=template_sha256,
        tools_in_prompt=tools_in_prompt,
        decode_sha256=decode_sha256,
        decode=None if decode is None else dict(decode),
        default_equals_omitted=default_equals_omitted,
        scorer_version=SCORER_VERSION,
        official_accuracy=_rate((score.id, score.official_correct is True) for score in official) if official else None,
        official_disagreements=tuple(_disagreements(verdicts)),
        set_aside=dict(set_aside or {}),
    )


def _quantile(confidence: float) -> float:
    """The standard normal quantile of a two-sided interval."""
    if confidence == 0.95:
        return _USUAL_QUANTILE
    from scipy.special import ndtri

    return -float(ndtri((1 - confidence) / 2))


def _disagreements(scores: Iterable[Score]) -> Iterator[OfficialDisagreement]:
    for score in scores:
        if score.official_correct is None or score.official_correct == score.correct:
            continue
        if score.correct:
            kind, _, detail = (score.official_error or "").partition(": ")
        else:
            kind, detail = score.errors[0].code, f"{score.errors[0].path} {score.errors[0].detail}".strip()
        yield OfficialDisagreement(
            id=score.id, correct=score.correct, official_correct=score.official_correct, kind=kind, detail=detail
        )


def _rate(outcomes: Iterable[tuple[str, bool]]) -> Rate:
    """The share of outcomes, each with its case's id."""
    cases: dict[str, list[bool]] = {}
    for case_id, outcome in outcomes:
        cases.setdefault(case_id, []).append(outcome)
    successes, n = sum(map(sum, cases.values())), sum(map(len, cases.values()))
    if n == 0:
        return Rate(value=None, successes=0, n=0, low=None, high=None)
    low, high = clustered_interval([sum(found) / len(found) for found in cases.values()], n)
    return Rate(value=successes / n, successes=successes, n=n, low=low, high=high)


def _repeat_figures(cases: Sequence[Sequence[Score]]) -> RepeatFigures:
    counts = [(sum(score.correct for score in scores), len(scores)) for scores in cases]
    repeat = counts[0][1]

    def repeated(figures: Sequence[float]) -> RepeatedRate:
        low, high = clustered_interval(figures, len(cases) * repeat)
        value = _mean(figures)
        return RepeatedRate(value=value, low=min(low, value), high=max(high, value))

    return RepeatFigures(
        num_always_right=sum(right == n for right, n in counts),
        num_sometimes_right=sum(0 < right < n for right, n in counts),
        num_never_right=sum(right == 0 for right, _ in counts),
        consistency=repeated([agreement(right, n) for right, n in counts]),
        pass_hat=tuple(repeated([pass_hat(right, n, drawn) for right, n in counts]) for drawn in range(1, repeat + 1)),
    )


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rates_by(named: Iterable[tuple[str, Score]]) -> dict[str, Rate]:
    """Call accuracy by name."""
    groups: dict[str, list[tuple[str, bool]]] = {}
    for name, score in named:
        groups.setdefault(name, []).append((score.id, score.correct))
    return {name: _rate(groups[name]) for name in sorted(groups)}


def _distribution(values: Iterable[float | None]) -> Distribution:
    given = [value for value in values if value is not None]
    if not given:
        return Distribution(n=0, mean=None, p50=None, p95=None)
    import numpy  # slow to import, and saved answers seldom say how long they took

    p50, p95 = numpy.percentile(given, (50, 95))
    return Distribution(n=len(given), mean=_mean(given), p50=float(p50), p95=float(p95))


def _call_confusion(scores: Iterable[Score]) -> CallConfusion:
    cells = Counter((score.behaviour == "call", score.called) for score in scores)
    return CallConfusion(
        call_wanted_and_made=cells[True, True],
        call_wanted_not_made=cells[True, False],
        no_call_wanted_but_made=cells[False, True],
        no_call_wanted_none_made=cells[False, False],
    )
