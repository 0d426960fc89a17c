"""What a run says while it runs: lines of metrics.jsonl, a progress bar, and how it stops on Ctrl-C."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fcdistill.records import Record
from fcdistill.storage import Journal, iter_jsonl, write_jsonl

__all__ = ["GracefulStop", "MetricsLine", "MetricsLog", "ProgressBar", "step_of", "to_stderr"]

log = logging.getLogger(__name__)


class MetricsLine(Record):
    """A line of metrics.jsonl: means over the optimizer steps since the line before, or a held-out evaluation.

    `ce`, `kd` and `hidden` are the components before their weights:
    loss = ce_weight * ce + kd_weight * kd + hidden_weight * hidden.
    Where some steps train on what the student samples, `loss` is the mean over all steps, and each component that over
    the steps of its kind.
    """

    step: int
    epoch: float
    loss: float | None = None
    ce: float | None = None
    kd: float | None = None
    """KL(teacher || student) at kd_temperature, times its square."""
    hidden: float | None = None
    on_policy_kd: float | None = None
    """`kd` of the steps that train on samples."""
    on_policy_hidden: float | None = None
    """`hidden` of these steps."""
    on_policy_examples: int | None = None
    """Samples that were trained on."""
    on_policy_valid: float | None = None
    """Share of them that can be read and whose calls fit their tools' schemas."""
    learning_rate: float | None = None
    grad_norm: float | None = None
    """Before clipping."""
    tokens_per_s: float | None = None
    """Tokens that the student computed for the loss, each shared one once; those of sampling only take time."""
    examples_per_s: float | None = None
    held_out_ce: float | None = None
    """Nats per completion token."""
    held_out_token_accuracy: float | None = None


class MetricsLog(TrainerCallback):  # type: ignore[misc]
    """Appends to metrics.jsonl, and reports each line.

    Args:
        path: the file; lines of an earlier run that lie after `resumed_step` are dropped, since they come again.
        resumed_step: where training goes on; 0 for a fresh run.
        report: takes a readable form of each line.
    """

    def __init__(self, path: Path, resumed_step: int, report: Callable[[str], None]) -> None:
        self._report = report
        with Journal(path, MetricsLine):
            pass  # cuts off a line that a killed run left half written
        write_jsonl(path, [line for line in iter_jsonl(path, MetricsLine, "metrics") if line.step <= resumed_step])
        self._journal = Journal(path, MetricsLine)

    @property
    def lines(self) -> list[MetricsLine]:
        """All lines of the file."""
        return self._journal.records

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Keep what belongs into a line; the Trainer also logs its own summaries."""
        values = {name: value for name, value in (logs or {}).items() if name in MetricsLine.model_fields}
        if not state.is_world_process_zero or not values.keys() & {"loss", "held_out_ce"}:
            return
        line = MetricsLine(**{"epoch": state.epoch or 0.0, **values, "step": state.global_step})
        self._journal.append([line])
        shown = line.model_dump(exclude={"schema_version", "step", "epoch"}, exclude_none=True)
        figures = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self._report(f"step {line.step}/{state.max_steps}  epoch {line.epoch:.2f}  {figures}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the file."""
        self._journal.close()


class ProgressBar(ProgressCallback):  # type: ignore[misc]
    """The Trainer's bar without its dump of each log; what `MetricsLog` reports goes above it."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Leave the log to `MetricsLog`."""


class GracefulStop(TrainerCallback):  # type: ignore[misc]
    """Turns the first Ctrl-C into a checkpoint at the end of the running step; the second one stops at once."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over SIGINT inside the block. Raises `KeyboardInterrupt` at its end where it was asked to stop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self.requested:
            raise KeyboardInterrupt

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        log.warning("interrupted: saving a checkpoint after this step (interrupt again to stop at once)")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask the Trainer for a checkpoint and the end."""
        if self.requested:
            control.should_save = True
            control.should_training_stop = True


def step_of(checkpoint: Path | None) -> int:
    """The optimizer step at which a checkpoint was written; 0 without one."""
    return int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint is not None else 0


def to_stderr(text: str) -> None:
    """Print a line above the progress bar, where there is one."""
    tqdm.write(text, file=sys.stderr)
