"""Tests of `fcdistill.generation.teacher.voting`."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.teacher.voting import Ballot, compare, elect
from fcdistill.records import Check, ToolCall

ON, OFF, UP = (ToolCall(name="light", arguments={"state": state}) for state in ("on", "off", "up"))
FAILED = Ballot((ON,), Check(name="schema", ok=False, detail="no"))


def ballots(*answers: tuple[ToolCall, ...] | Ballot) -> list[Ballot]:
    return [answer if isinstance(answer, Ballot) else Ballot(answer) for answer in answers]


@pytest.mark.parametrize(
    ("answers", "winner", "votes", "majority", "plurality"),
    [
        ([(ON,)], 0, 1, True, True),
        ([(OFF,), (ON,), (ON,)], 1, 2, True, True),
        ([(ON,), (ON,), (OFF,), (OFF,)], 0, 2, False, False),
        ([(ON,), (ON,), (OFF,), (UP,)], 0, 2, False, True),
        ([(ON, OFF), (OFF, ON), (ON,)], 0, 2, True, True),
        ([(ON,), (ON, ON), (ON, ON)], 1, 2, True, True),
        ([FAILED, (ON,), FAILED], 1, 1, False, True),
        ([FAILED, FAILED], 0, 0, False, False),
        ([(), (), (ON,)], 0, 2, True, True),
    ],
)
def test_the_calls_of_most_answers_win(
    answers: list[tuple[ToolCall, ...] | Ballot], winner: int, votes: int, majority: bool, plurality: bool
) -> None:
    index, tally = elect(ballots(*answers))
    assert (index, tally.votes, tally.num_answers) == (winner, votes, len(answers))
    assert (tally.is_majority, tally.is_plurality) == (majority, plurality)
    assert tally.check("vote").ok == majority


def test_a_verdict_tells_all_votes() -> None:
    _, tally = elect(ballots((ON,), (OFF,), (ON,), (UP,), FAILED))
    check = tally.check("vote")
    assert (check.name, check.ok) == ("vote", False)
    assert check.detail == "2 of 5 answers make these calls, 2 make others, 1 failed schema"
    assert tally.others == (((OFF,), 1), ((UP,), 1))


def test_answers_are_compared_with_calls_that_nobody_made() -> None:
    tally = compare((UP,), ballots((ON,), (OFF,), (OFF,)))
    assert (tally.votes, tally.is_majority, tally.others) == (0, False, (((OFF,), 2), ((ON,), 1)))
    assert compare((ON, OFF), ballots((OFF, ON))).check("blind").ok
    assert not compare((), ballots((ON,))).is_majority and compare((), ballots(())).is_majority


@given(st.lists(st.sampled_from([Ballot((ON,)), Ballot((OFF,)), Ballot((UP, ON)), FAILED]), min_size=1, max_size=6))
def test_a_majority_does_not_depend_on_the_order(answers: list[Ballot]) -> None:
    verdicts: set[tuple[int, str | None]] = set()
    for order in itertools.islice(itertools.permutations(answers), 12):
        winner, tally = elect(order)
        verdicts.add((tally.votes, str(order[winner].calls) if tally.is_majority else None))
    assert len(verdicts) == 1
