"""Which weights of a training are kept, and when it is no use to go on: both by held-out call accuracy.

What is remembered stands in the Trainer's own state (`best_metric`, `best_global_step`): every checkpoint holds it, and
a resumed run decides as the uninterrupted one. How call accuracy is measured is not known here (`call_accuracy`).
"""

import logging
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fcdistill.config import MonitorConfig

__all__ = ["BestStudent"]

log = logging.getLogger(__name__)


class BestStudent(TrainerCallback):  # type: ignore[misc]
    """Has a checkpoint written whenever call accuracy is higher than ever before, and ends a run that stays below.

    The first measurement counts as an improvement, an equal one does not.

    Args:
        config: how many measurements without an improvement end the run, and whether the best weights are kept.
    """

    def __init__(self, config: MonitorConfig) -> None:
        assert config.steps is not None
        self._steps = config.steps
        self._patience = config.patience
        self._keeps_best = config.keeps_best

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: Any,
    ) -> None:
        """Compare a measurement with the best one."""
        call_accuracy = metrics.get("held_out_call_accuracy")
        if call_accuracy is None:
            return
        if state.best_metric is None or call_accuracy > state.best_metric:
            state.best_metric, state.best_global_step = call_accuracy, state.global_step
            control.should_save |= self._keeps_best
        elif self._patience is not None and self._measurements_since_best(state) >= self._patience:
            control.should_training_stop = True
            # A run that was resumed from here would train another step before it stopped.
            control.should_save = False
            log.warning("call accuracy has not risen in %d measurements: training stops", self._patience)

    def _measurements_since_best(self, state: TrainerState) -> int:
        now, best = (step // self._steps for step in (state.global_step, state.best_global_step))
        num_since: int = now - best
        return num_since
