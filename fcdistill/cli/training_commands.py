"""The commands of training: `adapt`, `train`, `plot`, `cache` and `check`."""

from pathlib import Path
from typing import Annotated

import typer

from fcdistill.cli.console import ConfigPath, Overrides, print_rich, quiet_libraries
from fcdistill.errors import ConfigError
from fcdistill.machine.launcher import is_main_process

__all__ = ["adapt", "cache", "check", "plot", "train"]


def adapt(config: ConfigPath, overrides: Overrides = None) -> None:
    """Train a teacher on the traces with LoRA, so that it knows them before it teaches or generates."""
    from fcdistill.config import load_config

    settings = load_config(config, "adapt", overrides or ())
    quiet_libraries()
    from fcdistill.distillation.run import run_training

    result = run_training(settings)
    print(
        f"Teacher: {result.directory} ({result.steps} steps, {result.examples} examples, {result.seconds:.0f} s, "
        f"final loss {result.train_loss:.4f})"
    )


def train(config: ConfigPath, overrides: Overrides = None) -> None:
    """Distil traces into a student: cross-entropy, logit and hidden-state losses, with LoRA or all weights."""
    from fcdistill.config import load_config

    settings = load_config(config, "train", overrides or ())
    quiet_libraries()
    from fcdistill.distillation.run import run_training

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


def cache(config: ConfigPath, overrides: Overrides = None) -> None:
    """Write the teacher's signals for the traces of section `train` to disk, for trainings with signal: cached."""
    from fcdistill.config import load_config

    settings = load_config(config, "train", overrides or ())
    quiet_libraries()
    from fcdistill.distillation.teacher.write_cache import run_caching

    result = run_caching(settings)
    print(
        f"Cache: {result.directory} ({result.traces} traces, {result.tokens} tokens, "
        f"{result.num_bytes / result.tokens:.0f} bytes/token, {result.seconds:.0f} s)"
    )


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
    quiet_libraries()
    from fcdistill.distillation.sizing.memory_check import run_check

    report = run_check(settings, num_processes=processes)
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        print_rich(render_check(report))
    if report.refused:
        raise ConfigError(
            "training would be refused here: " + "; ".join(report.refused),
            required="fields that fit one another and this machine",
            fix="correct them, or train where the devices are",
        )


def _draw_curves(run: Path) -> None:
    from fcdistill.reporting.plots import can_draw, draw_runs, read_runs

    if can_draw():
        draw_runs(read_runs([run]), run / "plots")
        print(f"Plots: {run / 'plots'}")
    else:
        print("Plots: none, since matplotlib is not installed (pip install 'fcdistill[report]')")
