"""The command `eval`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcdistill.cli.console import Overrides, fail, opened, print_rich, progress
from fcdistill.errors import ConfigError, FcdistillError

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
    suite: Annotated[str | None, typer.Option(help="A public suite instead of cases: bfcl:CATEGORY.")] = None,
    tools: Annotated[Path | None, typer.Option(help="The suite's tool catalogue.")] = None,
    out: Annotated[Path | None, typer.Option(help="Output directory.")] = None,
    tools_in_prompt: Annotated[str | None, typer.Option(help="full, compact or none; default: as trained.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cases that are decoded together.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many cases.")] = None,
    default_equals_omitted: Annotated[
        bool | None, typer.Option("--default-equals-omitted", help="A default value counts as left out.")
    ] = None,
) -> None:
    """Score a model, or saved predictions, on gold cases: exact-call accuracy with intervals and error kinds."""
    from fcdistill.config import load_config, parse_config
    from fcdistill.evaluation.runner import exit_code, open_suite, run_eval
    from fcdistill.reporting.tables import render_markdown, render_terminal
    from fcdistill.storage import write_text

    given = {
        "predictions": predictions,
        "cases": cases,
        "suite": suite,
        "tools": tools,
        "out": out,
        "limit": limit,
        "default_equals_omitted": default_equals_omitted,
    }
    backend = {"model": model, "tools_in_prompt": tools_in_prompt, "batch_size": batch_size}
    flags: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    answerer = {name: value for name, value in backend.items() if value is not None}
    if config is not None:
        fields = [*flags, *(name if name == "model" else f"model.{name}" for name in answerer)]
        if fields:
            raise ConfigError(
                f"both a config file and {_option(fields[0])} are given",
                required="one of them",
                fix=f"use --set {fields[0]}=... beside the config file",
            )
        settings = load_config(config, "eval", overrides or ())
    else:
        if overrides:
            raise ConfigError(
                f"--set {overrides[0]} is given without a config file",
                required="a config file whose field it overrides",
                fix="give the config file, or the options instead of --set",
            )
        if answerer and model is None:
            raise ConfigError(
                f"{_option(next(iter(answerer)))} is given without --model",
                required="--model, whose prompts and batches it sets",
                fix="give --model, or leave it away",
            )
        if answerer:
            flags["model"] = answerer
        settings = parse_config(flags, "eval", "the given options")
    if settings.model is not None:
        open_suite(settings)  # a defect there shows before a model is loaded
    answering = None if settings.model is None else opened(settings.model)
    try:
        with progress("cases") as update:
            evaluation = run_eval(settings, answering, lambda done, total: update(done, total, ""))
    finally:
        if answering is not None:
            answering.close()
    markdown = render_markdown(
        evaluation.report, evaluation.scores, evaluation.predictions, evaluation.suite.cases, max_failures=200
    )
    write_text(settings.out / "report.md", markdown)
    print_rich(render_terminal(evaluation.report))
    print(f"Report: {settings.out / 'report.md'}, {settings.out / 'report.json'}")
    code = exit_code(evaluation.report)
    if code:
        fail(_unscored(evaluation.report, evaluation.predictions, saved=settings.model is None), code)


def _option(field: str) -> str:
    return "--" + field.removeprefix("model.").replace("_", "-")


def _unscored(report: "Report", predictions: "Mapping[str, Prediction]", *, saved: bool) -> str:
    """The message on an evaluation that is not complete."""
    first = report.unscored_ids[0]
    given = predictions.get(first)
    reason = given.error if given is not None and given.error else "there is no prediction"
    fix = "add them to the predictions" if saved else "run the same command again: only these cases are asked"
    found = f"{report.num_unscored} of {report.num_cases} cases have no answer and stay unscored; {first}: {reason}"
    return str(FcdistillError(found, required="an answer to every case", fix=fix))
