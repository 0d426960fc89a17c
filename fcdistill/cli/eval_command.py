"""The command `eval`."""

import contextlib
import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcdistill.cli.console import Overrides, SkipInvalid, fail, opened, print_notes, print_rich, progress
from fcdistill.cli.flags import given_flags
from fcdistill.errors import ConfigError, FcdistillError
from fcdistill.storage import storage_errors

if TYPE_CHECKING:
    from fcdistill.config import EvalConfig
    from fcdistill.evaluation.runner import Evaluation
    from fcdistill.records import Prediction, Report

__all__ = ["evaluate"]


def evaluate(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG]", help="YAML file with a section `eval`; options override its fields, or say everything."
        ),
    ] = None,
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option(help="Model reference: who answers; with a config of a server, the name there.")
    ] = None,
    predictions: Annotated[Path | None, typer.Option(help="Saved predictions to score instead; no model runs.")] = None,
    cases: Annotated[Path | None, typer.Option(help="cases.jsonl of gold cases.")] = None,
    cases_format: Annotated[str | None, typer.Option(help="cases, or openai-messages: the last is the answer.")] = None,
    suite: Annotated[str | None, typer.Option(help="A public suite instead of cases: bfcl:CATEGORY.")] = None,
    tools: Annotated[Path | None, typer.Option(help="The suite's tool catalogue.")] = None,
    skip_invalid: SkipInvalid = None,
    out: Annotated[Path | None, typer.Option(help="Output directory.")] = None,
    tools_in_prompt: Annotated[str | None, typer.Option(help="full, compact or none; default: as trained.")] = None,
    template: Annotated[str | None, typer.Option(help="own or kit: the model's chat template; default: own.")] = None,
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
    done = _run(_settings(config, overrides or (), given_flags("eval", context.params)))
    _show(done)
    _record(done, write_baseline)
    _judge(done)


@dataclass(frozen=True)
class _Done:
    """A finished evaluation, as the steps after it share it.

    Attributes:
        settings: what was evaluated.
        evaluation: what was found.
        reports: the files for people: Markdown, HTML and JUnit.
    """

    settings: "EvalConfig"
    evaluation: "Evaluation"
    reports: tuple[Path, Path, Path]

    @property
    def exit_code(self) -> int:
        from fcdistill.evaluation.runner import exit_code

        return exit_code(self.evaluation.report)


def _settings(config: Path | None, overrides: Sequence[str], flags: Mapping[str, Any]) -> "EvalConfig":
    return _from_options(overrides, flags) if config is None else _from_file(config, overrides, flags)


def _from_file(config: Path, overrides: Sequence[str], flags: Mapping[str, Any]) -> "EvalConfig":
    from fcdistill.config import load_config
    from fcdistill.config.overrides import flag_of

    settings = load_config(config, "eval", overrides, flags)
    decoding = next((field for field in flags if field.startswith("decode.")), None)
    if decoding is not None and settings.model is None:
        raise ConfigError(
            f"{flag_of(decoding)} is given, but the answers are saved predictions",
            required="a model, whose answers it sets",
            fix="leave it away, or give --model and --set predictions=null",
        )
    return settings


def _from_options(overrides: Sequence[str], flags: Mapping[str, Any]) -> "EvalConfig":
    from fcdistill.config import EvalConfig, parse_config
    from fcdistill.config.overrides import flag_of, with_flags

    if overrides:
        raise ConfigError(
            f"--set {overrides[0]} is given without a config file",
            required="a config file whose field it overrides",
            fix="give the config file, or the options instead of --set",
        )
    answering = next((field for field in flags if field.startswith(("model.", "decode."))), None)
    if answering is not None and "model.model" not in flags:
        raise ConfigError(
            f"{flag_of(answering)} is given without --model",
            required="--model, whose prompts and answers it sets",
            fix="give --model, or leave it away",
        )
    values = with_flags({}, flags, spelled_out=EvalConfig.spelled_out)
    return parse_config(values, "eval", "the given options")


def _run(settings: "EvalConfig") -> _Done:
    from fcdistill.evaluation.runner import check_inputs, run_eval
    from fcdistill.reporting.report_files import write_reports

    with contextlib.ExitStack() as held:
        if settings.model is None:
            answering = None
            held.enter_context(_uncollected())
        else:
            check_inputs(settings)
            answering = held.enter_context(contextlib.closing(opened(settings.model)))
        with progress("answers") as update:
            found = run_eval(settings, answering, lambda done, total: update(done, total, ""))
        reports = write_reports(settings.out, found.report, found.scores, found.predictions, found.suite.cases)
    return _Done(settings, found, reports)


def _show(done: _Done) -> None:
    from fcdistill.reporting.tables import render_markdown, render_terminal

    found = done.evaluation
    print_notes(found.suite.notes)
    _write_step_summary(
        render_markdown(found.report, found.scores, found.predictions, found.suite.cases, max_failures=20)
    )
    print_rich(render_terminal(found.report))
    markdown, html, junit = done.reports
    print(f"Report: {markdown}, {done.settings.out / 'report.json'}, {html}, {junit}")


def _record(done: _Done, baseline: Path | None) -> None:
    """Write the baseline of later runs, where one is asked for and this run may be one."""
    from fcdistill.evaluation.gate import baseline_of
    from fcdistill.storage import write_json

    if baseline is not None and done.exit_code == 0:
        found = done.evaluation
        write_json(baseline, baseline_of(found.report, found.answer_scores).model_dump(mode="json"))
        print(f"Baseline: {baseline}")


def _judge(done: _Done) -> None:
    """End with the exit code of an evaluation that is not complete, or fails its gate."""
    report = done.evaluation.report
    if report.num_unscored:
        fail(_unscored(report, done.evaluation.predictions, saved=done.settings.model is None), done.exit_code)
    if done.exit_code:
        assert report.gate is not None
        broken = "; ".join(check.detail for check in report.gate.checks if not check.passed)
        fail(f"the gate failed: {broken}", done.exit_code)


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
