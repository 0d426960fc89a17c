"""What a run says while it runs: lines of metrics.jsonl, a progress bar, and how it stops on Ctrl-C."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fcdistill.records import MetricsLine
from fcdistill.storage import Journal, iter_jsonl, write_jsonl

__all__ = ["GracefulStop", "LinesBeforeCheckpoints", "MetricsLog", "ProgressBar", "step_of", "to_stderr"]

log = logging.getLogger(__name__)

_IN_BAR = {
    "loss": "loss",
    "ce": "ce",
    "kd": "kd",
    "hidden": "hidden",
    "on_policy_kd": "kd of samples",
    "tokens_per_s": "tokens/s",
    "held_out_ce": "held-out ce",
    "held_out_call_accuracy": "held-out calls",
}
"""What the progress bar shows of a log, and how it calls it."""


class MetricsLog(TrainerCallback):  # type: ignore[misc]
    """Appends to metrics.jsonl, and reports each line.

    Args:
        path: the file; lines of an earlier run that lie after `resumed_step` are dropped, since they come again.
        resumed_step: where training goes on; 0 for a fresh run.
        report: takes a readable form of each line.
    """

    def __init__(self, path: Path, resumed_step: int, report: Callable[[str], None]) -> None:
        self._report = report
        self._began: tuple[int, float] | None = None
        with Journal(path, MetricsLine):
            pass  # cuts off a line that a killed run left half written
        write_jsonl(path, [line for line in iter_jsonl(path, MetricsLine, "metrics") if line.step <= resumed_step])
        self._journal = Journal(path, MetricsLine)

    @property
    def lines(self) -> list[MetricsLine]:
        """All lines of the file."""
        return list(self._journal)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Begin to measure how long a step takes."""
        self._began = (state.global_step, time.monotonic())

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
        self._report(f"step {line.step}/{state.max_steps}  epoch {line.epoch:.2f}  {figures}{self._left(state)}")

    def _left(self, state: TrainerState) -> str:
        """How long the rest takes at the mean speed since training began, evaluations and checkpoints included."""
        if self._began is None or state.global_step == self._began[0]:
            return ""
        step, began = self._began
        step_s = (time.monotonic() - began) / (state.global_step - step)
        return f"  {tqdm.format_interval(step_s * (state.max_steps - state.global_step))} left"

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the file."""
        self._journal.close()


class ProgressBar(ProgressCallback):  # type: ignore[misc]
    """The Trainer's bar with the time that is left and the newest figures; what `MetricsLog` reports goes above it."""

    def __init__(self) -> None:
        super().__init__()
        self._figures: dict[str, str] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar where training goes on: the steps of an earlier run say nothing of this one's speed."""
        self.current_step = state.global_step
        if state.is_world_process_zero:
            # The mean speed, since evaluations and checkpoints come in bursts.
            self.training_bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="step", smoothing=0, dynamic_ncols=True
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Show the newest figures; those of the last evaluation stay."""
        values = logs or {}
        self._figures |= {label: f"{values[name]:.4g}" for name, label in _IN_BAR.items() if name in values}
        if self.training_bar is not None:
            self.training_bar.set_postfix(self._figures)


class GracefulStop(TrainerCallback):  # type: ignore[misc]
    """Turns the first Ctrl-C into a checkpoint at the end of the running step; the second one stops at once.

    Args:
        agree: whether the argument is true in any process of the run, so that all stop after the same step.
    """

    def __init__(self, agree: Callable[[bool], bool] = bool) -> None:
        self.requested = False
        self._agree = agree

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
        self.requested = self._agree(self.requested)
        if self.requested:
            control.should_save = True
            control.should_training_stop = True


class LinesBeforeCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Has the losses logged at each step that is or may be saved, the last one included, however few steps they are of.

    Means begin anew where a killed run goes on. With this they do so in an uninterrupted one too, and both have the
    same lines; only a checkpoint of Ctrl-C has a line that an uninterrupted run lacks. An evaluation may have a
    checkpoint written (`best_student`) when it is too late for a line.

    It comes after whatever else asks for checkpoints and evaluations, in every process: they add up what is logged.
    """

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask the Trainer for a line."""
        control.should_log |= control.should_save or control.should_evaluate


def step_of(checkpoint: Path | None) -> int:
    """The optimizer step at which a checkpoint was written; 0 without one."""
    return int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint is not None else 0


def to_stderr(text: str) -> None:
    """Print a line above the progress bar, where there is one."""
    tqdm.write(text, file=sys.stderr)
