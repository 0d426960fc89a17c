"""What the commands share: their common arguments, and how they speak to a terminal."""

import enum
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fcdistill.machine.launcher import is_main_process, num_processes, process_index

if TYPE_CHECKING:
    from fcdistill.backends import Backend
    from fcdistill.config import BackendConfig

__all__ = [
    "POLICY_HELP",
    "ConfigPath",
    "Overrides",
    "Policy",
    "SkipInvalid",
    "fail",
    "opened",
    "print_notes",
    "print_rich",
    "progress",
    "quiet_libraries",
]

_MAIN_SPEAKS_FIRST_S = 10.0
POLICY_HELP = "How the witnesses of an answer are combined."


class Policy(enum.StrEnum):
    """Typer shows the values of an enum as the choices of an option."""

    STRICT = "strict"
    BALANCED = "balanced"
    TRUSTING = "trusting"


ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file with a section for this stage.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the section; may be repeated."),
]


SkipInvalid = Annotated[
    bool | None, typer.Option("--skip-invalid", help="Leave out tools that can't be used, each with a note.")
]


def fail(message: str, code: int) -> NoReturn:
    """End with one message on stderr; of several processes, the main one speaks first."""
    if not is_main_process():
        # What the main process refuses too is said there, and when it ends, the launcher ends this one.
        time.sleep(_MAIN_SPEAKS_FIRST_S)
        message = f"process {process_index()} of {num_processes()}: {message}"
    print(f"fcdistill: {message}", file=sys.stderr)
    sys.exit(code)


def opened(config: "BackendConfig") -> "Backend":
    """The backend that a config names; a local model loads without its libraries' chatter.

    What was asked of a server, and its cost, is said on stderr when the backend is closed.
    """
    from fcdistill.backends import open_backend

    if config.backend == "local":
        quiet_libraries()
    return open_backend(config, report=lambda usage: print(f"Asked of the server: {usage}", file=sys.stderr))


def quiet_libraries() -> None:
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


def print_notes(notes: Iterable[str]) -> None:
    """Say on stderr what a reader should know although it stops nothing."""
    for note in notes:
        print(f"fcdistill: note: {note}", file=sys.stderr)


def print_rich(renderable: Any) -> None:
    """Print a table or text as wide as the terminal, or 120 columns into a pipe."""
    from rich.console import Console

    # A pipe has no width; tables must not be cut to 80 columns there.
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(renderable)


@contextmanager
def progress(noun: str) -> Iterator[Any]:
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
