"""Rounds of a generation: whose attempts are which, what each gave, and teachers that are opened when they are asked.

In the first round the teacher works as it is. Before each further one it learns what was kept so far; then it answers
the requests that are still without a right answer. How attempts are made, and how a teacher learns, is not known here.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from fcdistill.backends.base import Backend, Completion, PromptFormat, Request
from fcdistill.config import DecodeSettings
from fcdistill.generation.journal.outcomes import Entry
from fcdistill.records import ModelRef, RoundYield
from fcdistill.storage import read_json, write_json

__all__ = ["OnDemand", "Round", "count_rounds", "read_rounds", "write_rounds"]


@dataclass(frozen=True)
class Round:
    """A round of attempts.

    Attributes:
        number: from 1.
        first: its first attempt.
        num_attempts: at what earlier attempts have left.
    """

    number: int
    first: int
    num_attempts: int

    @property
    def attempts(self) -> range:
        """The attempts of the round."""
        return range(self.first, self.first + self.num_attempts)


def read_rounds(out: Path, num_attempts: int) -> list[Round]:
    """The rounds that a directory has begun; of a new one the first, with this number of attempts."""
    path = out / "rounds.json"
    counts = read_json(path, "rounds file") if path.exists() else [num_attempts]
    return [
        Round(number, first, count)
        for number, (first, count) in enumerate(zip(accumulate(counts, initial=0), counts, strict=False), 1)
    ]


def write_rounds(out: Path, rounds: Iterable[Round]) -> None:
    """Record, before the last of them begins, the rounds that a directory has."""
    write_json(out / "rounds.json", [each.num_attempts for each in rounds])


def count_rounds(rounds: Sequence[Round], entries: Sequence[Entry], kept: Collection[str]) -> tuple[RoundYield, ...]:
    """What each teacher was asked for in each round, and what of it was kept.

    Args:
        rounds: those that have begun.
        entries: every attempt, in order.
        kept: ids of the traces that passed all checks.
    """
    last = {entry.id: entry for entry in entries}
    found = []
    for each in rounds:
        asked: dict[str, dict[str, bool]] = {}
        for entry in entries:
            if entry.attempt in each.attempts:
                asked.setdefault(entry.teacher, {})[entry.id] = entry is last[entry.id] and entry.id in kept
        found += [
            RoundYield(round=each.number, teacher=teacher, asked=len(items), kept=sum(items.values()))
            for teacher, items in asked.items()
        ]
    return tuple(found)


class OnDemand:
    """A backend that is opened when it is first asked."""

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open = open_backend
        self._opened: Backend | None = None

    def open(self) -> Backend:
        """The backend itself."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    @property
    def ref(self) -> ModelRef:
        """The model that answers."""
        return self.open().ref

    @property
    def prompt_format(self) -> PromptFormat | None:
        """How prompts are rendered."""
        return self.open().prompt_format

    def complete(self, requests: Sequence[Request], settings: DecodeSettings) -> Iterator[Completion]:
        """Answer each request, as the backend does."""
        return self.open().complete(requests, settings)

    def close(self) -> None:
        """Release the backend, if it was opened."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
