"""Processes that train together: what one of them does for all, and what they agree on.

The main process owns the output directory and the teacher cache; the others take over what it found and wait while it
works. Messages travel in a gloo group of their own, beside the one for gradients, and wait for as long as the main
process needs. Whoever fails ends, and then the launcher ends the others. A single process does all of this alone.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from transformers import TrainingArguments

from fcdistill.errors import ConfigError, InfrastructureError
from fcdistill.machine.launcher import num_processes

__all__ = ["Processes", "require_one_writer"]

T = TypeVar("T")

_LONGEST_WAIT = timedelta(days=30)
"""A large teacher may write its cache for days."""


def require_one_writer() -> None:
    """Refuse several processes for the writing of a cache.

    Raises:
        ConfigError: several were launched.
    """
    if num_processes() > 1:
        raise ConfigError(
            f"`fcdistill cache` was launched as {num_processes()} processes",
            required="one: it writes a single cache",
            fix="start it without a launcher",
        )


class Processes:
    """The processes of a run, seen from one of them.

    Args:
        args: arguments of the Trainer; reading its device has joined the process to the others.
    """

    def __init__(self, args: TrainingArguments) -> None:
        self.count: int = args.world_size
        self.is_main: bool = args.process_index == 0
        self._group: Any = dist.new_group(backend="gloo", timeout=_LONGEST_WAIT) if self.count > 1 else None

    def from_main(self, work: Callable[[], T]) -> T:
        """What `work` returns in the main process, which alone does it.

        Raises:
            InfrastructureError: the main process has ended meanwhile.
        """
        if self._group is None:
            return work()
        box: list[Any] = [work() if self.is_main else None]
        try:
            dist.broadcast_object_list(box, src=0, group=self._group)
        except RuntimeError as error:
            raise _lost(error) from error
        found: T = box[0]
        return found

    def wait(self) -> None:
        """Wait until the main process has come here too. Raises like `from_main`."""
        self.from_main(lambda: None)

    def any(self, value: bool) -> bool:
        """Whether the value is true in any of them; all must ask.

        Raises:
            InfrastructureError: another process has ended meanwhile.
        """
        if self._group is None:
            return value
        found = torch.tensor(int(value))
        try:
            dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self._group)
        except RuntimeError as error:
            raise _lost(error) from error
        return bool(found)

    def leave(self) -> None:
        """Part from the others, once nothing more is to be said."""
        if self._group is not None:
            dist.destroy_process_group()


def _lost(error: RuntimeError) -> InfrastructureError:
    return InfrastructureError(
        f"another process of this run has ended: {str(error).splitlines()[0]}",
        required="all processes until the end of the run",
        fix="see what the other process said; run the same command again, finished work is kept",
    )
