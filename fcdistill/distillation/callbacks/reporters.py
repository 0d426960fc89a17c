"""Experiment trackers that watch a training: the Trainer's own reporters, for those that are asked for.

They receive what passes through `Trainer.log`: loss components, speed, held-out figures. Each finds its account and its
keys by itself, in the environment or in files of its own; nothing of that is known or stored here.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks

from fcdistill.config import Reporter
from fcdistill.errors import MissingDependencyError

__all__ = ["open_reporters", "require_reporters"]


def require_reporters(reporters: Sequence[Reporter]) -> None:
    """Raise `MissingDependencyError` where a tracker's package, which is named like it, is not installed."""
    for name in reporters:
        if find_spec(name) is None:
            raise MissingDependencyError(
                f"report_to names {name}, but the package {name} is not installed",
                required=f"the package {name}",
                fix=f"pip install {name}, or remove it from report_to",
            )


def open_reporters(
    reporters: Sequence[Reporter], out: Path, *, resumed_step: int, is_main_process: bool
) -> list[TrainerCallback]:
    """The reporters as callbacks of a Trainer.

    Args:
        reporters: which ones.
        out: the run's directory; TensorBoard's files go below it, unless TENSORBOARD_LOGGING_DIR says where.
        resumed_step: where training goes on; what TensorBoard has of later steps is hidden, since they come again.
        is_main_process: reporters of other processes are silent.
    """
    callbacks: list[TrainerCallback] = []
    for name in reporters:
        if name == "tensorboard" and is_main_process:
            from torch.utils.tensorboard import SummaryWriter

            # By itself the Trainer's reporter writes among the checkpoints, which are removed in the end.
            directory = os.environ.get("TENSORBOARD_LOGGING_DIR", str(out / "tensorboard"))
            callbacks.append(TensorBoardCallback(SummaryWriter(directory, purge_step=resumed_step + 1)))
        else:
            callbacks += [reporter() for reporter in get_reporting_integration_callbacks([name])]
    return callbacks
