"""Verdicts added up: rates with intervals, quantiles, counts.

Every rate is over all scored cases. Where nothing was scored there is no rate: null, never 0. Which cases exist and
who answered them is told by the caller.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy
from scipy.stats import binomtest

from fcdistill.evaluation.scoring import SCORER_VERSION
from fcdistill.records import (
    CALL_ERRORS,
    CallConfusion,
    Distribution,
    ModelRef,
    OfficialDisagreement,
    Prediction,
    Rate,
    Report,
    Score,
    ToolsInPrompt,
)

__all__ = ["summarise", "wilson_interval"]


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a binomial proportion.

    Args:
        successes: successes, 0 to n.
        n: trials, at least 1.
        confidence: probability that such intervals cover the true proportion.

    Raises:
        ValueError: n is not positive, or successes is outside 0 to n.

    Source: Wilson 1927, without continuity correction, as in `scipy.stats.binomtest`.
    """
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def summarise(
    scores: Sequence[Score],
    predictions: Mapping[str, Prediction],
    *,
    unscored_ids: Sequence[str] = (),
    model: ModelRef | None = None,
    cases_sha256: str,
    tools_sha256: str | None = None,
    template_sha256: str | None = None,
    tools_in_prompt: ToolsInPrompt | None = None,
    decode_sha256: str | None = None,
    default_equals_omitted: bool = False,
    set_aside: Mapping[str, str] | None = None,
) -> Report:
    """The report of an evaluation.

    Args:
        scores: the verdicts, one per scored case.
        predictions: the answers by case id, for latency and token counts of the scored cases.
        unscored_ids: cases without an answer.
        model: who answered, where known.
        cases_sha256: hash of the evaluated cases.
        tools_sha256: hash of the suite's catalogue.
        template_sha256: hash of the chat template, where the prompts were rendered here.
        tools_in_prompt: how the prompts showed the tools, where they were rendered here.
        decode_sha256: hash of the decode settings, where a model was asked.
        default_equals_omitted: how the scores were made.
        set_aside: reasons, by id, why cases of the suite are not among the evaluated ones.
    """
    official = [score.official_correct for score in scores if score.official_correct is not None]
    matched = sum(score.arguments_matched for score in scores)
    num_predicted = sum(score.arguments_predicted for score in scores)
    num_expected = sum(score.arguments_expected for score in scores)
    primary = Counter(score.primary_error for score in scores)
    answers = [predictions[score.id] for score in scores]
    return Report(
        num_cases=len(scores) + len(unscored_ids),
        num_unscored=len(unscored_ids),
        unscored_ids=tuple(unscored_ids),
        call_accuracy=_rate(score.correct for score in scores),
        parse_rate=_rate(score.parsed for score in scores),
        schema_valid_rate=_rate(score.schema_valid for score in scores),
        name_accuracy=_rate(score.names_correct for score in scores),
        argument_precision=_ratio(matched, num_predicted),
        argument_recall=_ratio(matched, num_expected),
        argument_f1=_ratio(2 * matched, num_predicted + num_expected),
        call_confusion=_call_confusion(scores),
        errors={code: primary[code] for code in CALL_ERRORS if primary[code]},
        by_category=_rates_by((score.category, score.correct) for score in scores),
        by_tool=_rates_by((tool, score.correct) for score in scores for tool in score.tools),
        latency_s=_distribution(answer.latency_s for answer in answers),
        prompt_tokens=_distribution(answer.prompt_tokens for answer in answers),
        completion_tokens=_distribution(answer.completion_tokens for answer in answers),
        model=model,
        cases_sha256=cases_sha256,
        tools_sha256=tools_sha256,
        template_sha256=template_sha256,
        tools_in_prompt=tools_in_prompt,
        decode_sha256=decode_sha256,
        default_equals_omitted=default_equals_omitted,
        scorer_version=SCORER_VERSION,
        official_accuracy=_rate(official) if official else None,
        official_disagreements=tuple(_disagreements(scores)),
        set_aside=dict(set_aside or {}),
    )


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


def _rate(outcomes: Iterable[bool]) -> Rate:
    found = list(outcomes)
    successes, n = sum(found), len(found)
    if n == 0:
        return Rate(value=None, successes=0, n=0, low=None, high=None)
    low, high = wilson_interval(successes, n)
    return Rate(value=successes / n, successes=successes, n=n, low=low, high=high)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rates_by(outcomes: Iterable[tuple[str, bool]]) -> dict[str, Rate]:
    groups: dict[str, list[bool]] = {}
    for name, outcome in outcomes:
        groups.setdefault(name, []).append(outcome)
    return {name: _rate(groups[name]) for name in sorted(groups)}


def _distribution(values: Iterable[float | None]) -> Distribution:
    given = [value for value in values if value is not None]
    if not given:
        return Distribution(n=0, mean=None, p50=None, p95=None)
    p50, p95 = numpy.percentile(given, (50, 95))
    return Distribution(n=len(given), mean=float(numpy.mean(given)), p50=float(p50), p95=float(p95))


def _call_confusion(scores: Iterable[Score]) -> CallConfusion:
    cells = Counter((score.behaviour == "call", score.called) for score in scores)
    return CallConfusion(
        call_wanted_and_made=cells[True, True],
        call_wanted_not_made=cells[True, False],
        no_call_wanted_but_made=cells[False, True],
        no_call_wanted_none_made=cells[False, False],
    )
