"""The command line: arguments in, a stage called, its result printed, an exit code out.

Stages are imported inside their commands, so that `--help` answers at once and nothing imports torch that does not
need it. Exit codes: 0 done, 1 gate failed or an invalid call, 2 usage or configuration, 3 incomplete or infrastructure.
"""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fcdistill import __version__
from fcdistill.errors import ConfigError, FcdistillError, InfrastructureError
from fcdistill.launcher import is_main_process, num_processes, process_index

if TYPE_CHECKING:
    from fcdistill.backends import Backend
    from fcdistill.config import BackendConfig, LocalBackendConfig
    from fcdistill.records import Prediction, Report

__all__ = ["app", "main"]

app = typer.Typer(
    name="fcdistill",
    help="Distil a large model's function calling into a small model that calls exactly your tools.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="The built-in catalogue of small open models.", no_args_is_help=True)
schemas_app = typer.Typer(help="JSON Schemas of records and of the configuration.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(schemas_app, name="schemas")

_INTERRUPTED = 130
_MAIN_SPEAKS_FIRST_S = 10.0

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file with a section for this stage.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the section; may be repeated."),
]


def main() -> NoReturn:
    """The `fcdistill` command: runs the app; a user's error is one message and an exit code, never a traceback."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except FcdistillError as error:
        _fail(str(error), error.exit_code)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED and is_main_process():  # typer turns Ctrl-C into a silent exit
            print("fcdistill: Interrupted. Finished work is kept: run the same command again.", file=sys.stderr)
        raise
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone; rich and typer exit with 1 too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("FCDISTILL_DEBUG"):
            raise
        _fail(
            f"internal error, a defect of fcdistill: {type(error).__name__}: {error}\n"
            "Finished work is kept. Set FCDISTILL_DEBUG=1 for the traceback and report it.",
            3,
        )
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    if not is_main_process():
        # What the main process refuses too is said there, and when it ends, the launcher ends this one.
        time.sleep(_MAIN_SPEAKS_FIRST_S)
        message = f"process {process_index()} of {num_processes()}: {message}"
    print(f"fcdistill: {message}", file=sys.stderr)
    sys.exit(code)


def _version(asked: bool) -> None:
    if asked:
        print(f"fcdistill {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def generate(
    config: ConfigPath,
    overrides: Overrides = None,
    retry_rejects: Annotated[
        bool, typer.Option("--retry-rejects", help="Give the rejects of a finished run one more attempt.")
    ] = False,
) -> None:
    """The teacher writes tool-call traces, verified against the schemas."""
    from fcdistill.catalog import load_catalog
    from fcdistill.config import load_config
    from fcdistill.generation.pipeline import run_generation
    from fcdistill.reporting.tables import render_generation

    settings = load_config(config, "generate", overrides or ())
    catalog = load_catalog(str(settings.tools))
    with _progress("traces") as update:
        stats = run_generation(
            settings,
            lambda: _opened(settings.teacher),
            catalog,
            retry_rejects=retry_rejects,
            on_progress=lambda done, total, kept: update(done, total, f"{kept} kept"),
        )
    _print(render_generation(stats))
    print(f"Traces: {settings.out / 'traces.jsonl'}; rejects with reasons: {settings.out / 'rejects.jsonl'}")
    if stats.kept == 0:
        raise InfrastructureError(
            f"no trace was kept of {stats.planned} that were planned",
            required="at least one that passes all checks",
            fix=f"read the reasons in {settings.out / 'rejects.jsonl'}, then try another teacher, or worked examples",
        )


@app.command()
def adapt(config: ConfigPath, overrides: Overrides = None) -> None:
    """Train a teacher on the traces with LoRA, so that it knows them before it teaches or generates."""
    from fcdistill.config import load_config

    settings = load_config(config, "adapt", overrides or ())
    _quiet_libraries()
    from fcdistill.distillation.trainer import run_training

    result = run_training(settings)
    print(
        f"Teacher: {result.directory} ({result.steps} steps, {result.examples} examples, {result.seconds:.0f} s, "
        f"final loss {result.train_loss:.4f})"
    )


@app.command()
def train(config: ConfigPath, overrides: Overrides = None) -> None:
    """Distil traces into a student: cross-entropy, logit and hidden-state losses, with LoRA or all weights."""
    from fcdistill.config import load_config

    settings = load_config(config, "train", overrides or ())
    _quiet_libraries()
    from fcdistill.distillation.trainer import run_training

    result = run_training(settings)
    if is_main_process():
        print(
            f"Student: {result.directory} ({result.steps} steps, {result.examples} examples, {result.seconds:.0f} s, "
            f"final loss {result.train_loss:.4f})"
        )
        if result.held_out_call_accuracy is not None:
            step = "" if result.best_step is None else f" (its best, at step {result.best_step})"
            print(f"Held-out call accuracy: {result.held_out_call_accuracy:.1%}{step}")
        _draw_curves(result.directory)


def _draw_curves(run: Path) -> None:
    from fcdistill.reporting.plots import can_draw, draw_runs, read_runs

    if can_draw():
        draw_runs(read_runs([run]), run / "plots")
        print(f"Plots: {run / 'plots'}")
    else:
        print("Plots: none, since matplotlib is not installed (pip install 'fcdistill[report]')")


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR...", help="Output directories of `train`.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where the figures go; default: `plots` in the run's directory, or here for several runs."),
    ] = None,
) -> None:
    """Draw the losses, learning rate and held-out figures of training runs, several into one set to compare them."""
    from fcdistill.reporting.plots import draw_runs, read_runs

    directory = out or (runs[0] / "plots" if len(runs) == 1 else Path("plots"))
    for file in draw_runs(read_runs(runs), directory):
        print(file)


@app.command()
def cache(config: ConfigPath, overrides: Overrides = None) -> None:
    """Write the teacher's signals for the traces of section `train` to disk, for trainings with signal: cached."""
    from fcdistill.config import load_config

    settings = load_config(config, "train", overrides or ())
    if num_processes() > 1:
        raise ConfigError(
            f"`fcdistill cache` was launched as {num_processes()} processes",
            required="one: it writes a single cache",
            fix="start it without a launcher",
        )
    _quiet_libraries()
    from fcdistill.distillation.caching import run_caching

    result = run_caching(settings)
    print(
        f"Cache: {result.directory} ({result.traces} traces, {result.tokens} tokens, "
        f"{result.num_bytes / result.tokens:.0f} bytes/token, {result.seconds:.0f} s)"
    )


@app.command()
def check(
    config: ConfigPath,
    overrides: Overrides = None,
    processes: Annotated[
        int, typer.Option(min=1, help="How many processes of one machine would share the training.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Work out the memory, tokens and steps of section `train` without any weights; exit code 2 where it is refused."""
    import json
    from dataclasses import asdict

    from fcdistill.config import load_config
    from fcdistill.reporting.sizes import render_check

    settings = load_config(config, "train", overrides or ())
    _quiet_libraries()
    from fcdistill.distillation.checking import run_check

    report = run_check(settings, num_processes=processes)
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        _print(render_check(report))
    if report.refused:
        raise ConfigError(
            "training would be refused here: " + "; ".join(report.refused),
            required="fields that fit one another and this machine",
            fix="correct them, or train where the devices are",
        )


@app.command(name="eval")
def evaluate(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file with a section `eval`; or give the options.")
    ] = None,
    overrides: Overrides = None,
    model: Annotated[str | None, typer.Option(help="Model reference: who answers.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Saved predictions to score instead; no model runs.")] = None,
    cases: Annotated[Path | None, typer.Option(help="cases.jsonl of gold cases.")] = None,
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
    from fcdistill.evaluation.runner import exit_code, run_eval
    from fcdistill.evaluation.suites import read_suite
    from fcdistill.reporting.tables import render_markdown, render_terminal
    from fcdistill.storage import write_text

    given = {
        "predictions": predictions,
        "cases": cases,
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
        read_suite(settings.cases, settings.tools)  # a defect there shows before a model is loaded
    answering = None if settings.model is None else _opened(settings.model)
    try:
        with _progress("cases") as update:
            evaluation = run_eval(settings, answering, lambda done, total: update(done, total, ""))
    finally:
        if answering is not None:
            answering.close()
    markdown = render_markdown(
        evaluation.report, evaluation.scores, evaluation.predictions, evaluation.suite.cases, max_failures=200
    )
    write_text(settings.out / "report.md", markdown)
    _print(render_terminal(evaluation.report))
    print(f"Report: {settings.out / 'report.md'}, {settings.out / 'report.json'}")
    code = exit_code(evaluation.report)
    if code:
        _fail(_unscored(evaluation.report, evaluation.predictions, saved=settings.model is None), code)


@app.command()
def call(
    text: Annotated[str, typer.Argument(help="What the user says.")],
    model: Annotated[str, typer.Option(help="Model reference, for example a run directory of `train`.")],
    tools: Annotated[
        str | None, typer.Option(help="Tool catalogue; default: the tools that the student was trained on.")
    ] = None,
    system: Annotated[str, typer.Option(help="Context, for example the current time.")] = "",
) -> None:
    """Answer one request and print the call as JSON, validated; exit code 1 where it is not valid."""
    import json

    from fcdistill.backends.base import Request
    from fcdistill.catalog import catalog_from_tools, load_catalog
    from fcdistill.config import DecodeSettings, LocalBackendConfig
    from fcdistill.records import Message
    from fcdistill.toolcalls import parse_output
    from fcdistill.validation import CallValidator

    if not text.strip():
        raise ConfigError("the request is empty", required="a text", fix='fcdistill call "turn on the light" ...')
    given = load_catalog(tools) if tools else None
    backend, card_tools = _local_backend(LocalBackendConfig(model=model))
    if given is None and not card_tools:
        raise ConfigError(f"model {model} knows no tools of its own", required="a catalogue", fix="give --tools FILE")
    catalog = given or catalog_from_tools(card_tools)
    context = (Message(role="system", content=system),) if system else ()
    request = Request(id="call", messages=(*context, Message(role="user", content=text)), specs=catalog.specs)
    completion = next(iter(backend.complete([request], DecodeSettings())))
    if completion.error is not None:
        _fail(f"the request could not be answered: {completion.error}", 3)
    output = parse_output(completion.text, truncated=completion.finish_reason == "length")
    validator = CallValidator(catalog.specs)
    problems = [f"{error.kind}: {error.detail}" for error in output.errors]
    for made in output.calls:
        print(json.dumps(made.model_dump(), ensure_ascii=False))
        problems += [f"{made.name}{violation.pointer}: {violation.detail}" for violation in validator.check_call(made)]
    if not output.calls and not problems:
        print(output.text.strip())
    if problems:
        _fail("the answer is not valid:\n  " + "\n  ".join(problems), 1)


@models_app.command(name="list")
def models_list() -> None:
    """Show the catalogue and what of it is in the cache."""
    from rich.table import Table

    from fcdistill.model_catalogue import CATALOGUE, catalogue_state

    table = Table("name", "hub id", "licence", "state", "where")
    for name, entry in CATALOGUE.items():
        state, path = catalogue_state(name)
        table.add_row(name, entry.hub_id, entry.licence, state, str(path) if state != "absent" else "")
    _print(table)


@models_app.command(name="pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="A name from `fcdistill models list`.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch and convert it again.")] = False,
) -> None:
    """Download a model of the catalogue, verify its hash and cache it as safetensors."""
    _quiet_libraries()
    from fcdistill.model_catalogue import pull

    print(pull(name, force=force, report=lambda text: print(text, file=sys.stderr)))


@schemas_app.command(name="export")
def schemas_export(
    directory: Annotated[Path, typer.Argument(help="Where the files go.")] = Path("schemas/records"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a file differs.")] = False,
) -> None:
    """Write the JSON Schema of every record type."""
    import json

    from fcdistill.records import RECORD_TYPES
    from fcdistill.storage import write_text

    stale = []
    for stem, record_type in RECORD_TYPES.items():
        path = directory / f"{stem}.json"
        text = json.dumps(record_type.model_json_schema(mode="serialization"), indent=2, ensure_ascii=False) + "\n"
        if not check:
            write_text(path, text)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
    if stale:
        raise ConfigError(
            f"these schema files differ from the records: {', '.join(stale)}",
            required="files as `fcdistill schemas export` writes them",
            fix="run `fcdistill schemas export`",
        )


@schemas_app.command(name="config")
def schemas_config() -> None:
    """Print every configuration field with its type, default and meaning."""
    from rich.table import Table

    from fcdistill.config import describe_fields

    for section, fields in describe_fields().items():
        table = Table("field", "type", "default", "meaning", title=section)
        for row in fields:
            table.add_row(*row)
        _print(table)


def _opened(config: "BackendConfig") -> "Backend":
    from fcdistill.backends import open_backend

    if config.backend == "local":
        _quiet_libraries()
    return open_backend(config)


def _local_backend(config: "LocalBackendConfig") -> tuple[Any, Any]:
    """A local backend, and the tools on its model's card."""
    _quiet_libraries()
    from fcdistill.backends.local import LocalBackend
    from fcdistill.models import load_model

    loaded = load_model(config.model, dtype=config.dtype, device=config.device)
    return LocalBackend(loaded, batch_size=1), loaded.card.tools if loaded.card else ()


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


def _quiet_libraries() -> None:
    """Keep the libraries' own progress bars and advice out of the output, unless their variables ask for it."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    if not is_main_process():  # each line is said once, and the main process says it
        warnings.simplefilter("ignore")
        logging.getLogger("fcdistill").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def _print(renderable: Any) -> None:
    from rich.console import Console

    # A pipe has no width; tables must not be cut to 80 columns there.
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(renderable)


@contextmanager
def _progress(noun: str) -> Iterator[Any]:
    """A progress bar on stderr from the first report on; yields `update(done, total, note)`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(noun), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(noun, total=None, note="")

    def update(done: int, total: int, note: str) -> None:
        progress.start()
        progress.update(task, completed=done, total=total, note=note)

    try:
        yield update
    finally:
        if progress.live.is_started:
            progress.stop()


if __name__ == "__main__":
    main()
