"""Evaluation reports as one HTML file that needs no network: figures, and a searchable list of the wrong cases.

Shows what `Report` holds and computes no figure of its own but counts of what it lists. What models wrote is untrusted:
text reaches the page through autoescaping, or as JSON that the page's script puts into text nodes only, and a content
security policy runs no script but that one and lets nothing be loaded. The look of the page stands in `templates`.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fcdistill.machine.forked_work import map_parts
from fcdistill.records import (
    CALL_ERRORS,
    Distribution,
    EvalCase,
    Message,
    PairedComparison,
    Prediction,
    Rate,
    Report,
    Score,
    ToolCall,
)
from fcdistill.reporting.diffs import CallDiff, diff_calls
from fcdistill.reporting.wording import NOTHING, decoding, interval, percent, quantity, repeated_rates, visible

__all__ = ["render_html"]

_LONGEST_TEXT = 4000
_LONGEST_VALUE = 600
_WANTED = {"no_call": "no call", "clarify": "no call, and a question"}
_EXPLAINED = {
    "no_output": "the answer is empty",
    "truncated": "cut off by the token limit",
    "parse_error": "looks like a call and is none",
    "unexpected_call": "called where no call was right",
    "missing_call": "answered with text only",
    "wrong_count": "too few or too many calls",
    "unknown_function": "a tool that does not exist",
    "wrong_function": "another tool than expected",
    "missing_required": "a required argument is left out",
    "extra_arg": "an argument that is not declared",
    "wrong_type": "a value of another JSON type",
    "enum_violation": "a value that is not on the list",
    "constraint_violation": "a range, length, pattern or format",
    "wrong_value": "valid, and not what was asked",
}


def render_html(
    report: Report,
    scores: Sequence[Score],
    predictions: Mapping[str, Prediction],
    cases: Iterable[EvalCase],
    *,
    title: str,
) -> str:
    """The report as one self-contained HTML page, with every wrong case: request, expected and got calls, and why.

    Args:
        report: the figures.
        scores: the verdicts, one per scored case.
        predictions: the answers that these speak of, by case id.
        cases: the cases; those without a verdict are left out.
        title: names the run in the heading and in the browser's tab.
    """
    by_id = {case.id: case for case in cases}

    def failures(scores: Sequence[Score]) -> list[dict[str, Any]]:
        return [_failure(score, by_id[score.id], predictions[score.id]) for score in scores]

    wrong = [score for score in scores if not score.correct and score.id in by_id]
    environment = Environment(
        loader=PackageLoader("fcdistill.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": percent, "interval": interval, "quantity": quantity, "points": _points}
    script = _source(environment, "report.js")
    return environment.get_template("report.html.jinja").render(
        report=report,
        title=title,
        rates=[*_rates(report), *repeated_rates(report)],
        breakdowns=_breakdowns(report),
        errors=_errors(report, wrong),
        distributions=_distributions(report),
        provenance=_provenance(report),
        failures=map_parts(failures, wrong),
        style=_source(environment, "report.css"),
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _points(comparison: PairedComparison) -> str:
    """The difference between two runs with its interval, in percentage points."""
    figures = (comparison.difference, comparison.low, comparison.high)
    difference, low, high = (f"{100 * figure:+.1f}".replace("-", "\N{MINUS SIGN}") for figure in figures)
    return f"{difference} points ({low} to {high})"


def _rates(report: Report) -> list[tuple[str, Rate]]:
    return [
        ("Parsed", report.parse_rate),
        ("Schema valid", report.schema_valid_rate),
        ("Names right", report.name_accuracy),
    ]


def _breakdowns(report: Report) -> list[tuple[str, str, list[tuple[str, Rate]]]]:
    """Heading, the filter that a row sets, and the rows, the weakest first."""
    found = [("By category", "category", report.by_category), ("By tool", "tool", report.by_tool)]
    return [
        (heading, kind, sorted(rates.items(), key=lambda item: (item[1].value is None, item[1].value or 0.0)))
        for heading, kind, rates in found
        if rates
    ]


def _errors(report: Report, wrong: Sequence[Score]) -> list[dict[str, Any]]:
    """Per error code: cases that have it as primary error, and cases that have it at all."""
    anywhere = Counter(code for score in wrong for code in {error.code for error in score.errors})
    rows = [
        {"code": code, "primary": report.errors.get(code, 0), "anywhere": anywhere[code], "means": _EXPLAINED[code]}
        for code in CALL_ERRORS
    ]
    shown = [row for row in rows if row["primary"] or row["anywhere"]]
    return sorted(shown, key=lambda row: -int(str(row["primary"])))


def _distributions(report: Report) -> list[tuple[str, str, Distribution]]:
    found = [
        ("Latency", "s", report.latency_s),
        ("Prompt tokens", "", report.prompt_tokens),
        ("Completion tokens", "", report.completion_tokens),
        *([("Thought tokens", "", report.thought_tokens)] if report.thought_tokens.mean else []),
    ]
    return [(name, unit, distribution) for name, unit, distribution in found if distribution.n]


def _provenance(report: Report) -> list[tuple[str, str]]:
    model = report.model
    rows = [
        ("Model", NOTHING if model is None else model.model),
        ("Revision", NOTHING if model is None else model.revision or NOTHING),
        ("Cases SHA-256", report.cases_sha256),
        ("Tools SHA-256", report.tools_sha256 or NOTHING),
        ("Chat template SHA-256", report.template_sha256 or NOTHING),
        ("Tools in the prompt", report.tools_in_prompt or NOTHING),
        ("Format of calls", report.dialect or NOTHING),
        ("Answers by format", ", ".join(f"{name}: {count}" for name, count in report.dialects.items()) or NOTHING),
        ("Decoding", decoding(report)),
        ("Decode settings SHA-256", report.decode_sha256 or NOTHING),
        ("Default equals omitted", "yes" if report.default_equals_omitted else "no"),
        ("Scorer version", str(report.scorer_version)),
    ]
    if model is not None:
        rows[2:2] = [(name.replace("_", " ").capitalize(), str(value)) for name, value in sorted(model.params.items())]
    return rows


def _failure(score: Score, case: EvalCase, prediction: Prediction) -> dict[str, Any]:
    """A wrong case as the page's script reads it."""
    tools = dict.fromkeys([*score.tools, *(call.name for call in prediction.calls)])
    shown = {
        "id": score.id,
        "category": score.category,
        "critical": case.critical,
        "primary": score.primary_error,
        "errors": [{"code": error.code, "path": error.path, "detail": error.detail} for error in score.errors],
        "tools": list(tools),
        "messages": [{"role": message.role, "text": _cut(_text(message), _LONGEST_TEXT)} for message in case.messages],
        "wanted": _WANTED.get(case.behaviour, ""),
        "calls": [_diff(call) for call in diff_calls(case, prediction.calls, score)],
        "alternatives": len(case.expected) - 1,
        "output": _cut(prediction.text, _LONGEST_TEXT),
        "finish_reason": prediction.finish_reason,
        "figures": _case_figures(prediction),
    }
    return {name: _literal(value) for name, value in shown.items()}


def _diff(call: CallDiff) -> dict[str, Any]:
    return {**vars(call), "arguments": [vars(argument) for argument in call.arguments]}


def _text(message: Message) -> str:
    return "\n".join(filter(None, (message.content, *(_call_text(call) for call in message.calls))))


def _call_text(call: ToolCall) -> str:
    return call.model_dump_json()


def _case_figures(prediction: Prediction) -> str:
    figures = (
        (prediction.latency_s, "s", ""),
        (prediction.prompt_tokens, "", " prompt tokens"),
        (prediction.completion_tokens, "", " completion tokens"),
    )
    return ", ".join(quantity(value, unit) + what for value, unit, what in figures if value is not None)


def _literal(value: Any) -> Any:
    """Every string inside, shortened and without characters that could hide or move text."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {
            key: _cut(_literal(item), _LONGEST_VALUE)
            if key in ("expected", "got", "detail") and item
            else _literal(item)
            for key, item in value.items()
        }
    return [_literal(item) for item in value] if isinstance(value, list | tuple) else value


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit} more characters]"
