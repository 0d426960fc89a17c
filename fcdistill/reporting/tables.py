"""Evaluation reports as tables: for the terminal (rich) and as Markdown.

Shows what `Report` holds and computes nothing of its own. What models wrote is shown as literal text: it can neither
style a terminal nor break out of its block.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fcdistill.records import (
    Counted,
    Distribution,
    EvalCase,
    GateVerdict,
    GenerationStats,
    JudgeStats,
    PairedComparison,
    Prediction,
    Rate,
    Report,
    Score,
    ToolCall,
)
from fcdistill.reporting.coverage_tables import render_cells
from fcdistill.reporting.repetitions import render_repetitions
from fcdistill.reporting.terminal import rich_table
from fcdistill.reporting.wording import (
    NOTHING,
    decoding,
    describe_error,
    interval,
    percent,
    quantity,
    repeated_rates,
    visible,
)

__all__ = [
    "comparison_markdown",
    "render_comparison",
    "render_generation",
    "render_headline",
    "render_markdown",
    "render_paired",
    "render_plain",
    "render_terminal",
]

_LONGEST_TEXT = 2000
_Row = tuple[str, ...]
_Rows = list[_Row]


def render_headline(report: Report) -> str:
    """The accuracy with its interval and counts, in one line."""
    rate = report.call_accuracy
    if rate.value is None:
        return f"Call accuracy: {NOTHING}, since none of {report.num_cases} cases was scored"
    what = "cases" if report.repeat == 1 else f"answers ({report.repeat} to each case)"
    return f"Call accuracy {percent(rate.value)} ({interval(rate)}), {rate.successes} of {rate.n} {what} right"


def render_plain(report: Report, scores: Sequence[Score], *, max_failures: int) -> str:
    """The report in a few lines of text, for messages: headline, verdict, and wrong cases, regressions first."""
    lines = [render_headline(report)]
    if report.num_unscored:
        lines.append(_unscored_notice(report))
    if report.gate is not None:
        lines.append(_gate_headline(report.gate))
        lines += [f"  {name} {verdict}: {why}" for name, verdict, why in _gate_rows(report.gate)]
        lines += [f"  {note}" for note in _gate_notes(report.gate)]
    regressed = frozenset(() if report.gate is None else report.gate.regressed_ids)
    wrong = sorted((score for score in scores if not score.correct), key=lambda score: score.id not in regressed)
    lines += [" ".join(f"{score.id}: {describe_error(score.errors[0])}".split()) for score in wrong[:max_failures]]
    if len(wrong) > max_failures:
        lines.append(f"… and {len(wrong) - max_failures} more wrong cases")
    return visible("\n".join(lines))


def render_terminal(report: Report) -> Group:
    """The report as something that rich prints: headline, figures, and tables per category, tool and error."""
    parts: list[Text | Table] = [Text(render_headline(report), style="bold")]
    if report.decode is not None and decoding(report) != "greedy":
        parts.append(Text(f"Decoding: {decoding(report)}"))
    if report.num_unscored:
        parts.append(Text(_unscored_notice(report), style="bold red"))
    if report.gate is not None:
        parts.append(Text(_gate_headline(report.gate), style="bold green" if report.gate.passed else "bold red"))
        # Sentences wrap; a table would cut them.
        parts += [Text(visible(f"  {name} {verdict}: {why}")) for name, verdict, why in _gate_rows(report.gate)]
        parts += [Text(visible(f"  {note}"), style="yellow") for note in _gate_notes(report.gate)]
        parts.append(Text(""))
    parts.append(rich_table("Figures", ("figure", "value", "95% interval", _counted(report)), _figures(report)))
    parts.append(rich_table("Calls", _CONFUSION_HEAD, _confusion(report)))
    for title, head, rows in _breakdowns(report):
        parts.append(rich_table(title, head, rows))
    return Group(*parts)


def render_markdown(
    report: Report,
    scores: Sequence[Score],
    predictions: Mapping[str, Prediction],
    cases: Iterable[EvalCase],
    *,
    max_failures: int | None = None,
) -> str:
    """The report as Markdown, with each wrong case: request, expected, got, and why.

    Args:
        report: the figures.
        scores: the verdicts, one per scored case.
        predictions: the answers that these speak of, by case id.
        cases: the cases; those without a verdict are left out.
        max_failures: show only the first so many wrong cases; the text says how many more there are.
    """
    lines = ["# Evaluation", "", f"**{_escaped(render_headline(report))}**", ""]
    if report.num_unscored:
        lines += [f"**{_escaped(_unscored_notice(report))}**", ""]
    if report.gate is not None:
        lines += [f"**{_gate_headline(report.gate)}**", "", *_markdown_table(_GATE_HEAD, _gate_rows(report.gate)), ""]
        lines += [line for note in _gate_notes(report.gate) for line in (_escaped(note), "")]
    lines += [*_markdown_table(("figure", "value", "95% interval", _counted(report)), _figures(report)), ""]
    lines += ["## Calls", "", *_markdown_table(_CONFUSION_HEAD, _confusion(report)), ""]
    for title, head, rows in _breakdowns(report):
        lines += [f"## {title}", "", *_markdown_table(head, rows), ""]
    if report.official_disagreements:
        each_case = [
            (each.id, _verdict(each.correct), _verdict(each.official_correct), f"{each.kind}: {each.detail}")
            for each in report.official_disagreements
        ]
        lines += ["## Cases on which the official checker differs", ""]
        lines += [*_markdown_table(("case", "ours", "official", "why"), each_case), ""]
    if report.set_aside:
        lines += ["## Set aside: no answer could be right", ""]
        lines += [*_markdown_table(("case", "why"), report.set_aside.items()), ""]
    lines += ["## Provenance", "", *_markdown_table(("what", "value"), _provenance(report)), ""]
    by_id = {case.id: case for case in cases}
    wrong = [score for score in scores if not score.correct and score.id in by_id]
    if wrong:
        shown = wrong[:max_failures]
        lines += [f"## Wrong cases ({len(wrong)})", ""]
        for score in shown:
            lines += _failure(score, by_id[score.id], predictions[score.id])
        if len(shown) < len(wrong):
            lines += [f"{len(wrong) - len(shown)} more stand in scores.jsonl.", ""]
    return "\n".join(lines)


def render_generation(stats: GenerationStats) -> Group:
    """What a generation made: counts per check, source, category, tool and planned cell, and the teacher's speed."""
    speed = stats.completion_tokens_per_s
    headline = f"{stats.kept} of {stats.planned} planned traces kept in {stats.attempts} attempts"
    if stats.unasked:
        headline += f"; {stats.unasked} planned ones are missing, since there is no teacher"
    if speed is not None:
        headline += f"; {stats.completion_tokens} tokens written in {stats.seconds:.0f} s ({speed:.0f}/s)"
    parts: list[Text | Table] = [Text(headline, style="bold")]
    checks = [(name, str(count.checked), str(count.checked - count.passed)) for name, count in stats.stages.items()]
    parts.append(rich_table("Checks", ("check", "candidates", "failed"), checks))
    if stats.votes:
        votes = [(count, str(attempts)) for count, attempts in stats.votes.items()]
        parts.append(rich_table("Votes", ("answers that make the calls", "attempts"), votes))
    sources = [
        (
            name,
            str(count.planned),
            str(count.kept),
            str(count.cells_filled),
            ", ".join(f"{check} {number}" for check, number in count.rejected.items()),
        )
        for name, count in stats.by_source.items()
    ]
    head = ("", "planned\nor read", "kept", "cells\nfilled", "rejected")
    parts.append(rich_table("Sources", head, sources, texts=(0, 4)))
    if stats.diversity:
        varied = [
            (name, *map(_figure, (found.wordings_per_value, found.type_token_ratio, found.self_similarity)))
            for name, found in stats.diversity.items()
        ]
        figures = ("", "wordings\nper value", "type-token\nratio", "self-\nsimilarity")
        parts.append(rich_table("Diversity of kept requests", figures, varied))
    categories = [(name, str(count.planned), str(count.kept)) for name, count in stats.by_category.items()]
    parts.append(rich_table("Categories", ("", "planned", "kept"), categories))
    if any(each.round > 1 for each in stats.rounds):
        yields = [
            (str(each.round), visible(each.teacher), str(each.asked), str(each.kept), percent(each.kept / each.asked))
            for each in stats.rounds
        ]
        parts.append(rich_table("Rounds", ("round", "teacher", "asked", "kept", "yield"), yields, texts=(1,)))
    tools = [(name, str(count)) for name, count in stats.calls_by_tool.items()]
    parts.append(rich_table("Calls in kept traces", ("tool", "calls"), tools))
    parts += render_cells(stats.cells)
    if stats.dedupe is not None:
        parts += render_repetitions(stats.dedupe)
    return Group(*parts)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def render_judging(stats: JudgeStats) -> Group:
    """What a judging kept, and what each witness keeps of candidates and lets through of planted errors."""
    reached = "unknown" if stats.estimated_precision is None else percent(stats.estimated_precision)
    headline = (
        f"{stats.kept} traces kept; of {stats.candidates} candidates {stats.readmitted} readmitted, "
        f"{stats.withdrawn} withdrawn, {stats.relabelled} relabelled"
    )
    told = (
        f"Estimated precision {reached} (aim {percent(stats.precision)}), where {percent(stats.prior_error_rate)} of "
        "the candidates are wrong as planted errors are."
    )
    kinds = list(dict.fromkeys(kind for rates in stats.witnesses for kind in rates.let_through))
    head = ("witness", "speaks of", "kept", "let\nthrough", *(kind.replace("_", "\n") for kind in kinds))
    rows = [
        (
            rates.name,
            *(_share(counted) for counted in (rates.speaks, rates.kept, rates.planted)),
            *(_share(rates.let_through.get(kind)) for kind in kinds),
        )
        for rates in stats.witnesses
    ]
    return Group(
        Text(headline, style="bold"), Text(told), rich_table("Witnesses: candidates, planted errors", head, rows)
    )


def _share(counted: Counted | None) -> str:
    return percent(counted.num / counted.of) if counted is not None and counted.of else ""


def render_comparison(rows: Sequence[tuple[str, Report]]) -> Table:
    """Reports on one suite side by side, one row per (label, report)."""
    return rich_table(None, *_comparison(rows))


def comparison_markdown(rows: Sequence[tuple[str, Report]]) -> str:
    """What `render_comparison` shows, as a Markdown table."""
    return "\n".join(_markdown_table(*_comparison(rows))) + "\n"


def render_paired(baseline: str, rows: Sequence[tuple[str, PairedComparison]]) -> Table:
    """Runs against one baseline, one row per (label, comparison): points of call accuracy, and the two-sided p."""
    head = ("model", "difference", "95%\ninterval", "only\nfirst right", "only\nthis right", "p")
    body = [
        (
            label,
            _points(paired.difference),
            f"{_points(paired.low)} to {_points(paired.high)}",
            str(paired.baseline_only),
            str(paired.candidate_only),
            "<0.001" if paired.p_differs < 0.001 else f"{paired.p_differs:.3f}",
        )
        for label, paired in rows
    ]
    return rich_table(Text(visible(f"Against {baseline}, in percentage points"), style="table.title"), head, body)


_CONFUSION_HEAD = ("the case wants", "a call was made", "no call was made")


_GATE_HEAD = ("rule", "verdict", "why")


def _gate_headline(gate: GateVerdict) -> str:
    return "Gate: passed" if gate.passed else "Gate: FAILED"


def _gate_rows(gate: GateVerdict) -> _Rows:
    return [(check.rule, "passed" if check.passed else "FAILED", check.detail) for check in gate.checks]


def _gate_notes(gate: GateVerdict) -> list[str]:
    notes = [f"Warning: {warning}" for warning in gate.warnings]
    notes += [f"Allowed mismatch with the baseline: {mismatch}" for mismatch in gate.mismatches]
    for what, ids in (("Turned wrong", gate.regressed_ids), ("Turned right", gate.fixed_ids)):
        if ids:
            notes.append(f"{what}: {', '.join(ids[:20])}{', …' if len(ids) > 20 else ''}")
    return notes


def _unscored_notice(report: Report) -> str:
    named = ", ".join(report.unscored_ids[:5]) + (", …" if report.num_unscored > 5 else "")
    return f"Incomplete: {report.num_unscored} of {report.num_cases} cases have no answer ({named})"


def _figures(report: Report) -> _Rows:
    rates = (
        ("call accuracy", report.call_accuracy),
        *((("official checker", report.official_accuracy),) if report.official_accuracy is not None else ()),
        ("parsed", report.parse_rate),
        ("schema valid", report.schema_valid_rate),
        ("names right", report.name_accuracy),
    )
    rows: _Rows = [(name, percent(rate.value), interval(rate), _cases(rate)) for name, rate in rates]
    rows[1:1] = [(name, percent(rate.value), interval(rate), "") for name, rate in repeated_rates(report)]
    arguments = (
        ("argument precision", report.argument_precision),
        ("argument recall", report.argument_recall),
        ("argument F1", report.argument_f1),
    )
    rows += [(name, percent(value), "", "") for name, value in arguments]
    if report.num_other_dialect:
        rows.append((f"answers with calls not in {report.dialect}", str(report.num_other_dialect), "", ""))
    if report.num_unknown_dialect:
        rows.append(("answers with calls in no known format", str(report.num_unknown_dialect), "", ""))
    for name, distribution, unit in _distributions(report):
        if distribution.n:
            rows += [
                (f"{name}, {figure}", value, "", str(distribution.n))
                for figure, value in _distribution_values(distribution, unit)
            ]
    return rows


def _distributions(report: Report) -> tuple[tuple[str, Distribution, str], ...]:
    return (
        ("latency", report.latency_s, "s"),
        ("prompt tokens", report.prompt_tokens, ""),
        ("completion tokens", report.completion_tokens, ""),
        *((("thought tokens", report.thought_tokens, ""),) if report.thought_tokens.mean else ()),
    )


def _distribution_values(distribution: Distribution, unit: str) -> list[tuple[str, str]]:
    found = (("mean", distribution.mean), ("p50", distribution.p50), ("p95", distribution.p95))
    return [(figure, quantity(value, unit)) for figure, value in found]


def _confusion(report: Report) -> _Rows:
    cells = report.call_confusion
    return [
        ("a call", str(cells.call_wanted_and_made), str(cells.call_wanted_not_made)),
        ("no call", str(cells.no_call_wanted_but_made), str(cells.no_call_wanted_none_made)),
    ]


def _breakdowns(report: Report) -> list[tuple[str, _Row, _Rows]]:
    found: list[tuple[str, _Row, _Rows]] = []
    for title, head, rates in (
        ("By category", "category", report.by_category),
        ("By tool", "tool", report.by_tool),
    ):
        rows: _Rows = [(name, percent(rate.value), interval(rate), _cases(rate)) for name, rate in rates.items()]
        found.append((title, (head, "call accuracy", "95% interval", _counted(report)), rows))
    if report.repeats is not None:
        figures = report.repeats
        rows = [
            ("always", str(figures.num_always_right)),
            ("sometimes", str(figures.num_sometimes_right)),
            ("never", str(figures.num_never_right)),
        ]
        found.append((f"Right in {report.repeat} answers", ("", "cases"), rows))
    errors = sorted(report.errors.items(), key=lambda item: -item[1])
    found.append(("Errors (primary)", ("error", "cases"), [(code, str(count)) for code, count in errors]))
    differing = Counter((each.kind, each.correct) for each in report.official_disagreements)
    why: _Rows = [
        (kind, _verdict(ours), _verdict(not ours), str(count)) for (kind, ours), count in differing.most_common()
    ]
    found.append(("Where the official checker differs", ("why", "ours", "official", "cases"), why))
    return [part for part in found if part[2]]


def _verdict(correct: bool) -> str:
    return "right" if correct else "wrong"


def _provenance(report: Report) -> _Rows:
    model = report.model
    return [
        ("model", NOTHING if model is None else f"{model.model} {model.revision}".strip()),
        ("cases SHA-256", report.cases_sha256),
        ("tools SHA-256", report.tools_sha256 or NOTHING),
        ("chat template SHA-256", report.template_sha256 or NOTHING),
        ("tools in the prompt", report.tools_in_prompt or NOTHING),
        ("format of calls", report.dialect or NOTHING),
        ("decoding", decoding(report)),
        ("decode settings SHA-256", report.decode_sha256 or NOTHING),
        ("default equals omitted", "yes" if report.default_equals_omitted else "no"),
        ("scorer version", str(report.scorer_version)),
    ]


def _comparison(rows: Sequence[tuple[str, Report]]) -> tuple[_Row, _Rows]:
    head: _Row = (
        "model",
        "call\naccuracy",
        "95%\ninterval",
        "parsed",
        "schema\nvalid",
        "prompt\ntokens",
        "latency\np50",
    )
    body: _Rows = [
        (
            label,
            percent(report.call_accuracy.value),
            interval(report.call_accuracy),
            percent(report.parse_rate.value),
            percent(report.schema_valid_rate.value),
            quantity(report.prompt_tokens.mean, ""),
            quantity(report.latency_s.p50, "s"),
        )
        for label, report in rows
    ]
    if any(report.num_unscored for _, report in rows):
        head = (*head, "unscored")
        body = [(*cells, str(report.num_unscored)) for cells, (_, report) in zip(body, rows, strict=True)]
    return head, body


def _failure(score: Score, case: EvalCase, prediction: Prediction) -> list[str]:
    lines = [f"### {_escaped(score.id)} ({score.category}): {score.primary_error}", ""]
    for message in case.messages:
        text = message.content or _calls_json(message.calls)
        lines += [f"{message.role}:", "", *_block(text), ""]
    lines += ["Expected:", ""]
    if case.behaviour == "call":
        lines += _block("\nor\n".join(_calls_json(answer) for answer in case.expected))
    else:
        lines += ["no call, and a question" if case.behaviour == "clarify" else "no call"]
    lines += ["", "Got:", "", *_block(_output(prediction)), ""]
    lines += [f"- {error.code} {_escaped(error.path)}: {_escaped(error.detail)}" for error in score.errors]
    return [*lines, ""]


def _output(prediction: Prediction) -> str:
    """The raw text, and the calls where an API returned them beside it."""
    apart = not all(call.name in prediction.text for call in prediction.calls)
    return "\n".join(filter(None, (prediction.text, _calls_json(prediction.calls) if apart else "")))


def _calls_json(calls: Iterable[ToolCall]) -> str:
    return "\n".join(json.dumps(call.model_dump(), ensure_ascii=False) for call in calls)


def _block(text: str) -> list[str]:
    """A fenced block whose fence is longer than any run of backticks inside."""
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}\n[{len(text) - _LONGEST_TEXT} more characters]"
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", visible(text), fence]


def _escaped(text: str) -> str:
    """The text as one line of Markdown that means nothing but itself."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", " ".join(visible(text).split()))


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [
        "| " + " | ".join(name.replace("\n", " ") for name in head) + " |",
        "|" + "|".join([" --- ", *(" ---: " for _ in head[1:])]) + "|",
    ]
    return lines + ["| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows]


def _points(value: float) -> str:
    return f"{100 * value:+z.1f}"


def _counted(report: Report) -> str:
    """What a rate counts."""
    return "cases" if report.repeat == 1 else "answers"


def _cases(rate: Rate) -> str:
    return f"{rate.successes}/{rate.n}"
