"""The command line: arguments in, a stage called, its result printed, an exit code out.

Stages are imported inside their commands, so that `--help` answers at once and nothing imports torch that does not
need it. Exit codes: 0 done, 1 gate failed or an invalid call, 2 usage or configuration, 3 incomplete or infrastructure.
"""

import os
import sys
from typing import Annotated, NoReturn

import typer

from fcdistill import __version__
from fcdistill.cli.call_command import call
from fcdistill.cli.compare_command import compare
from fcdistill.cli.console import fail
from fcdistill.cli.eval_command import evaluate
from fcdistill.cli.generate_command import generate
from fcdistill.cli.init_command import init
from fcdistill.cli.inspect_command import inspect
from fcdistill.cli.models_commands import models_list, models_pull
from fcdistill.cli.schemas_commands import schemas_config, schemas_export
from fcdistill.cli.traces_commands import traces_check, traces_export, traces_import, traces_judge, traces_split
from fcdistill.cli.training_commands import adapt, cache, check, plot, train
from fcdistill.errors import FcdistillError
from fcdistill.machine.launcher import is_main_process

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
traces_app = typer.Typer(help="Traces and a changed catalogue; other tools' layouts.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(schemas_app, name="schemas")
app.add_typer(traces_app, name="traces")

for _command in (generate, adapt, train, plot, cache, check):
    app.command()(_command)
app.command("eval")(evaluate)
app.command()(compare)
app.command()(call)
app.command()(inspect)
app.command()(init)
models_app.command("list")(models_list)
models_app.command("pull")(models_pull)
schemas_app.command("export")(schemas_export)
schemas_app.command("config")(schemas_config)
traces_app.command("check")(traces_check)
traces_app.command("export")(traces_export)
traces_app.command("import")(traces_import)
traces_app.command("judge")(traces_judge)
traces_app.command("split")(traces_split)

_INTERRUPTED = 130


def main() -> NoReturn:
    """The `fcdistill` command: runs the app; a user's error is one message and an exit code, never a traceback."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except FcdistillError as error:
        fail(str(error), error.exit_code)
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
        fail(
            f"internal error, a defect of fcdistill: {type(error).__name__}: {error}\n"
            "Finished work is kept. Set FCDISTILL_DEBUG=1 for the traceback and report it.",
            3,
        )
    sys.exit(0)


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
