"""Work at a shard, as Ray's workers import it, by a teacher whose process is killed at a given instant."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from fcdistill.backends.base import Completion, Request
from fcdistill.config import DecodeSettings, GenerateConfig
from fcdistill.errors import BackendError
from fcdistill.generation import generator
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import ModelRef
from tests.generation.crashing import CHUNK, FitfulTeacher, open_judge
from tests.generation.home import catalog


class Killer:
    """Answers like the teacher of the tests; once, before its second chunk, its process is killed."""

    ref = ModelRef(model="fitful")

    def __init__(self, marker: Path) -> None:
        self._marker = marker
        self._teacher = FitfulTeacher()
        self._num_asked = 0

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        self._num_asked += len(requests)
        if self._num_asked > CHUNK and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self._teacher.complete(requests, settings)

    def close(self) -> None:
        pass


def work(config: GenerateConfig) -> None:
    """Work at a shard; the first one's worker is killed once."""
    generator._CHUNK = CHUNK
    assert config.shard is not None
    marker = config.out.with_name("killed")
    is_first = config.shard.startswith("1/")
    run_generation(config, lambda: Killer(marker) if is_first else FitfulTeacher(), catalog(), judge=open_judge)


def fail(config: GenerateConfig) -> None:
    """A shard that a user's error ends."""
    raise BackendError(f"no teacher for shard {config.shard}", required="a teacher", fix="start one")


def die(config: GenerateConfig) -> None:
    """A shard whose worker is killed every time."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(config: GenerateConfig) -> None:
    """Work that nobody should ask for."""
    raise AssertionError(config.shard)
