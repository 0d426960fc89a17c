"""Several answers to one request: which calls most of them make, and how many make calls that are known.

An answer that fails its own checks is a vote for nothing, but it counts among the answers. Nothing here asks a model or
knows what a call means.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fcdistill.records import Check, ToolCall
from fcdistill.records.equality import same_calls

__all__ = ["Ballot", "VoteCount", "compare", "elect"]

Calls = tuple[ToolCall, ...]


@dataclass(frozen=True)
class Ballot:
    """One answer.

    Attributes:
        calls: what it calls; nothing is an answer too.
        failed: the check that it failed, which makes it a vote for nothing.
    """

    calls: Calls
    failed: Check | None = None


@dataclass(frozen=True)
class VoteCount:
    """How many of the answers make certain calls.

    Attributes:
        votes: those that do.
        num_answers: all of them.
        others: what the other valid answers call, each with its votes, the most frequent first.
        failures: why the rest are no votes, by the check that they failed.
    """

    votes: int
    num_answers: int
    others: tuple[tuple[Calls, int], ...]
    failures: tuple[tuple[str, int], ...]

    @property
    def is_majority(self) -> bool:
        """Whether more than half of all answers make the calls."""
        return 2 * self.votes > self.num_answers

    @property
    def is_plurality(self) -> bool:
        """Whether no other calls have as many votes."""
        return self.votes > max((votes for _, votes in self.others), default=0)

    def check(self, name: str) -> Check:
        """The verdict under a check's name; its detail tells all votes."""
        told = [f"{self.votes} of {self.num_answers} answers make these calls"]
        if self.others:
            told.append(f"{sum(votes for _, votes in self.others)} make others")
        told += [f"{count} failed {name}" for name, count in self.failures]
        return Check(name=name, ok=self.is_majority, detail=", ".join(told))


def elect(ballots: Sequence[Ballot]) -> tuple[int, VoteCount]:
    """The index of an answer with the most votes, and the tally of its calls.

    Of calls with equally many votes those of the earliest answer win; where no answer is valid, the first stands for
    all, with no votes.
    """
    winner = 0
    groups = _groups(ballots)
    if groups:
        winner = max(groups, key=len)[0]
    return winner, compare(ballots[winner].calls, ballots)


def compare(calls: Calls, ballots: Sequence[Ballot]) -> VoteCount:
    """How many of the answers make these calls, in any order."""
    groups = [(ballots[group[0]].calls, len(group)) for group in _groups(ballots)]
    others = [(other, votes) for other, votes in groups if not same_calls(other, calls)]
    failures = Counter(ballot.failed.name for ballot in ballots if ballot.failed is not None)
    return VoteCount(
        votes=sum(votes for _, votes in groups) - sum(votes for _, votes in others),
        num_answers=len(ballots),
        others=tuple(sorted(others, key=lambda other: -other[1])),
        failures=tuple(sorted(failures.items())),
    )


def _groups(ballots: Sequence[Ballot]) -> list[list[int]]:
    """Indices of the valid answers, those with the same calls together, in the order of their first."""
    groups: list[list[int]] = []
    for index, ballot in enumerate(ballots):
        if ballot.failed is not None:
            continue
        same = next((group for group in groups if same_calls(ballots[group[0]].calls, ballot.calls)), None)
        if same is None:
            groups.append([index])
        else:
            same.append(index)
    return groups
