"""The outcomes of a generation, on disk, with what is asked of them all the time in memory.

An outcome with its conversation and tools takes many times the memory of its line in the journal. What stays in memory
is an entry of fixed size for each, and its place in the file. What the outcomes mean is not known here.
"""

import sys
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from fcdistill.records import Outcome
from fcdistill.storage import Journal

__all__ = ["Entry", "Outcomes"]

_BATCH = 128
"""Outcomes of one append where many are found at once."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is remembered of an outcome.

    Attributes:
        id: of the planned trace.
        attempt: at it.
        failed: the check that it failed; empty where it passed its own checks.
        teacher: the model that was asked.
        place: in the journal.
    """

    id: str
    attempt: int
    failed: str
    teacher: str
    place: int


class Outcomes:
    """The journal of a generation, and an entry for each of its outcomes.

    Args:
        path: of the journal.

    Raises:
        DataError: the journal holds something else.
        StorageError: it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path, Outcome)
        try:
            self.entries = [_entry(outcome, place) for place, outcome in self._journal.places()]
        except BaseException:
            self._journal.close()
            raise

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Add outcomes durably. Raises like `Journal.append`."""
        added = list(outcomes)
        self.entries += map(_entry, added, self._journal.append(added))

    def append_missing(self, found: Iterable[Outcome]) -> Set[tuple[str, int]]:
        """Add what is not there yet, so that a run which is killed here doubles nothing.

        Returns:
            Ids and attempts of all that was found.
        """
        known = {(entry.id, entry.attempt) for entry in self.entries}
        made: set[tuple[str, int]] = set()
        waiting = iter(found)
        while batch := list(islice(waiting, _BATCH)):
            made.update((outcome.id, outcome.attempt) for outcome in batch)
            missing = [outcome for outcome in batch if (outcome.id, outcome.attempt) not in known]
            if missing:
                self.append(missing)
        return made

    def last(self, before: int = sys.maxsize) -> dict[str, Entry]:
        """The last attempt at each item, by its id, of those before an attempt."""
        return {entry.id: entry for entry in self.entries if entry.attempt < before}

    def read(self, entry: Entry) -> Outcome:
        """The outcome itself."""
        return self._journal.read(entry.place)

    def __iter__(self) -> Iterator[Outcome]:
        """All attempts, one at a time."""
        return map(self.read, self.entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()


def _entry(outcome: Outcome, place: int) -> Entry:
    check = outcome.failed
    return Entry(
        outcome.id,
        outcome.attempt,
        sys.intern(check.name) if check is not None else "",
        sys.intern(outcome.candidate.meta.teacher.model),
        place,
    )
