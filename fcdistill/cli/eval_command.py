"""The command `eval`."""

import contextlib
import gc
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcdistill.cli.console import Overrides, fail, opened, print_rich, progress
from fcdistill.errors import ConfigError, FcdistillError
from fcdistill.storage import storage_errors

if TYPE_CHECKING:
    from fcdistill.records import Prediction, Report

__all__ = ["evaluate"]


def evaluate(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file with a section `eval`; or give the options.")
    ] = None,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Model reference: who answers.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Saved predictions to score instead; no model runs.")] = None,
    cases: Annotated[Path | None, typer.Option(help="cases.jsonl of gold cases.")] = None,
    cases_format: Annotated[str | None, typer.Option(help="cases, or openai-messages: the last is the answer.")] = None,
    suite: Annotated[str | None, typer.Option(help="A public suite instead of cases: bfcl:CATEGORY.")] = None,
    tools: Annotated[Path | None, typer.Option(help="The suite's tool catalogue.")] = None,
    out: Annotated[Path | None, typer.Option(help="Output directory.")] = None,
    tools_in_prompt: Annotated[str | None, typer.Option(help="full, compact or none; default: as trained.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cases that are decoded together.")] = None,
    constrained: Annotated[
        bool | None, typer.Option("--constrained", help="Let a grammar keep answers to text and valid calls.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many cases.")] = None,
    repeat: Annotated[int | None, typer.Option(help="Answers to each case, for models that sample.")] = None,
    sampling_temperature: Annotated[float | None, typer.Option(help="0, the default, decodes greedily.")] = None,
    default_equals_omitted: Annotated[
        bool | None, typer.Option("--default-equals-omitted", help="A default value counts as left out.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="Baseline to compare with; a regression fails.")] = None,
    write_baseline: Annotated[
        Path | None, typer.Option(help="Record this run as the baseline of later ones, unless its own gate fails.")
    ] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Lowest call accuracy that passes, 0 to 1.")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Tolerated drop against the baseline, 0 to 1.")] = None,
    alpha: Annotated[float | None, typer.Option(help="A larger drop fails where its p is below this.")] = None,
    allow_mismatch: Annotated[
        bool | None, typer.Option("--allow-mismatch", help="Compare with a baseline of other cases or settings.")
    ] = None,
) -> None:
    """Score a model, or saved predictions, on gold cases: exact-call accuracy with intervals and error kinds.

    Exit codes: 0 passed, 1 the gate failed, 2 usage or configuration, 3 some case has no answer.
    """
    from fcdistill.config import load_config, parse_config
    from fcdistill.evaluation.gate import baseline_of
    from fcdistill.evaluation.runner import check_inputs, exit_code, run_eval
    from fcdistill.reporting.report_files import write_reports
    from fcdistill.reporting.tables import render_markdown, render_terminal
    from fcdistill.storage import write_json

    given = {
        "predictions": predictions,
        "cases": cases,
        "cases_format": cases_format,
        "suite": suite,
        "tools": tools,
        "out": out,
        "limit": limit,
        "repeat": repeat,
        "default_equals_omitted": default_equals_omitted,
    }
    backend = {"model": model, "tools_in_prompt": tools_in_prompt, "batch_size": batch_size}
    decoding = {"sampling_temperature": sampling_temperature, "constrained": constrained}
    rules = {
        "baseline": None if baseline is None else str(baseline),
        "min_accuracy": min_accuracy,
        "max_drop": max_drop,
        "alpha": alpha,
        "allow_mismatch": allow_mismatch,
    }
    gate = {name: value for name, value in rules.items() if value is not None}
    flags: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    decode = {name: value for name, value in decoding.items() if value is not None}
    answerer = {name: value for name, value in backend.items() if value is not None}
    if config is not None:
        fields = [*flags, *(name if name == "model" else f"model.{name}" for name in answerer)]
        fields += [f"decode.{name}" for name in decode]
        if fields:
            raise ConfigError(
                f"both a config file and {_option(fields[0])} are given",
                required="one of them",
                fix=f"use --set {fields[0]}=... beside the config file",
            )
        # CI adds its gate to the configuration that people use.
        gate_overrides = [f"gate.{name}={json.dumps(value)}" for name, value in gate.items()]
        settings = load_config(config, "eval", [*(overrides or ()), *gate_overrides])
    else:
        if overrides:
            raise ConfigError(
                f"--set {overrides[0]} is given without a config file",
                required="a config file whose field it overrides",
                fix="give the config file, or the options instead of --set",
            )
        if (answerer or decode) and model is None:
            raise ConfigError(
                f"{_option(next(iter([*answerer, *decode])))} is given without --model",
                required="--model, whose prompts and answers it sets",
                fix="give --model, or leave it away",
            )
        if answerer:
            flags["model"] = answerer
        if decode:
            flags["decode"] = decode
        if gate:
            flags["gate"] = gate
        settings = parse_config(flags, "eval", "the given options")
    with contextlib.ExitStack() as held:
        if settings.model is None:
            answering = None
            held.enter_context(_uncollected())
        else:
            check_inputs(settings)
            answering = held.enter_context(contextlib.closing(opened(settings.model)))
        with progress("answers") as update:
            evaluation = run_eval(settings, answering, lambda done, total: update(done, total, ""))
        report = evaluation.report
        judged = (report, evaluation.scores, evaluation.predictions, evaluation.suite.cases)
        markdown, html, junit = write_reports(settings.out, *judged)
    if evaluation.suite.note:
        print(f"fcdistill: note: {evaluation.suite.note}", file=sys.stderr)
    _write_step_summary(render_markdown(*judged, max_failures=20))
    print_rich(render_terminal(report))
    print(f"Report: {markdown}, {settings.out / 'report.json'}, {html}, {junit}")
    code = exit_code(report)
    if write_baseline is not None and code == 0:
        write_json(write_baseline, baseline_of(report, evaluation.answer_scores).model_dump(mode="json"))
        print(f"Baseline: {write_baseline}")
    if report.num_unscored:
        fail(_unscored(report, evaluation.predictions, saved=settings.model is None), code)
    if code:
        assert report.gate is not None
        broken = "; ".join(check.detail for check in report.gate.checks if not check.passed)
        fail(f"the gate failed: {broken}", code)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is looked for: the records of a suite live until the end, and to look costs a tenth of the time."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _option(field: str) -> str:
    return "--" + field.rpartition(".")[2].replace("_", "-")


def _write_step_summary(markdown: str) -> None:
    """Show the report on the page of a GitHub Actions run, where this is one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with storage_errors(Path(path), "write"), Path(path).open("a", encoding="utf-8") as summary:
            summary.write(f"{markdown}\n")


def _unscored(report: "Report", predictions: "Mapping[str, Prediction]", *, saved: bool) -> str:
    """The message on an evaluation that is not complete."""
    first = report.unscored_ids[0]
    given = predictions.get(first)
    reason = given.error if given is not None and given.error else "there is no prediction"
    fix = "add them to the predictions" if saved else "run the same command again: only these cases are asked"
    found = f"{report.num_unscored} of {report.num_cases} cases have no answer and stay unscored; {first}: {reason}"
    return str(FcdistillError(found, required="an answer to every case", fix=fix))
