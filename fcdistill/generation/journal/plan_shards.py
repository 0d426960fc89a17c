"""A plan cut into shards, at which machines work side by side, and how their work comes together again.

A shard is every n-th item of the plan, so that all shards have about the same kinds and as many. It gives its items the
attempts that their own checks call for. What only all items together show, such as duplicates, is found by the
generation that takes the shards up, which gives such items the attempts that they have left. An item has the same id,
prompt and seed in either, so that the outcome is that of a generation which was never cut.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdistill.errors import DataError
from fcdistill.generation.journal.outcomes import Outcomes
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.records import Outcome
from fcdistill.storage import RunDirectory, read_json

__all__ = ["JOURNAL", "Shard", "finished_journals", "is_complete", "merge_journals", "require_cut"]

JOURNAL = "journal.jsonl"


@dataclass(frozen=True, order=True)
class Shard:
    """One of the parts of a plan.

    Attributes:
        count: how many there are.
        number: which one, from 1.
    """

    count: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that the configuration writes as `number/count`."""
        number, _, count = text.partition("/")
        return cls(int(count), int(number))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, plan: Sequence[PlanItem]) -> list[PlanItem]:
        """Its items of a plan."""
        return list(plan[self.number - 1 :: self.count])

    def directory(self, out: Path) -> Path:
        """Where it lies in the directory of the generation."""
        return out / f"shard-{self.number}-of-{self.count}"


def finished_journals(out: Path, opened: Callable[[Shard], RunDirectory]) -> list[Path]:
    """The journals of all shards in the directory of a generation; none where it has no shards.

    Args:
        out: the directory of the generation.
        opened: locks a shard's directory, and refuses one of another generation.

    Raises:
        DataError: a shard is missing or unfinished, or belongs to another generation or another cut.
        StorageError: a shard is still being worked at.
    """
    found = _find(out)
    counts = sorted({shard.count for shard in found})
    require_cut(out)
    journals, lacking = [], []
    for shard in (Shard(count, number) for count in counts for number in range(1, count + 1)):
        if shard not in found:
            lacking.append((shard, "is missing"))
            continue
        with opened(shard) as run:
            if run.complete:
                journals.append(shard.directory(out) / JOURNAL)
            else:
                lacking.append((shard, "is unfinished"))
    if lacking:
        raise DataError(
            f"of the shards in {out}, " + ", ".join(f"{shard} {state}" for shard, state in lacking),
            required="every shard, finished",
            fix="; ".join(f"fcdistill generate CONFIG --shard {shard}" for shard, _ in lacking)
            + "; then run the same command again",
        )
    return journals


def merge_journals(journals: Iterable[Path]) -> Iterator[Outcome]:
    """The outcomes of several journals, one at a time, earlier attempts first.

    Raises:
        DataError: one of them holds something else.
    """
    with contextlib.ExitStack() as opened:
        found = [opened.enter_context(Outcomes(journal)) for journal in journals]
        entries = [(entry, outcomes) for outcomes in found for entry in outcomes.entries]
        for entry, outcomes in sorted(entries, key=lambda pair: pair[0].attempt):
            yield outcomes.read(entry)


def require_cut(out: Path, *counts: int) -> None:
    """Raise `DataError` where a directory holds shards of another cut than one into so many."""
    found = sorted({*counts, *(shard.count for shard in _find(out))})
    if len(found) > 1:
        raise DataError(
            f"{out} holds shards of several cuts: into {' and into '.join(map(str, found))}",
            required="the shards of one cut",
            fix="delete the shard directories of the others",
        )


def is_complete(out: Path) -> bool:
    """Whether the directory of a generation needs no shards any more."""
    path = out / "manifest.json"
    found = read_json(path, "manifest") if path.exists() else {}
    return isinstance(found, dict) and found.get("status") == "complete"


def _find(out: Path) -> set[Shard]:
    """The shards that were begun."""
    directories = (manifest.parent.name for manifest in out.glob("shard-*-of-*/manifest.json"))
    names = (re.fullmatch(r"shard-(\d+)-of-(\d+)", name) for name in directories)
    return {Shard(count=int(name[2]), number=int(name[1])) for name in names if name}
