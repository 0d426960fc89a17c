import math
import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.errors import DataError
from fcdistill.evaluation.pairing import changed_ids, compare_scores
from fcdistill.records import Score
from tests.evaluation.scores import repeated, score


def scores(outcomes: Sequence[bool]) -> list[Score]:
    return [score(f"c{number}", correct=outcome) for number, outcome in enumerate(outcomes)]


def sides(both: int, baseline_only: int, candidate_only: int, neither: int = 0) -> tuple[list[Score], list[Score]]:
    before = [True] * both + [True] * baseline_only + [False] * candidate_only + [False] * neither
    now = [True] * both + [False] * baseline_only + [True] * candidate_only + [False] * neither
    return scores(before), scores(now)


@pytest.mark.parametrize(
    ("baseline_only", "candidate_only", "p_worse", "p_differs"),
    [
        (5, 0, 1 / 32, 2 / 32),
        (0, 5, 1.0, 2 / 32),
        (3, 1, (4 + 1) / 16, 2 * (4 + 1) / 16),
        (8, 2, (45 + 10 + 1) / 1024, 2 * (45 + 10 + 1) / 1024),
        (2, 8, 1 - (1 + 10) / 1024, 2 * (45 + 10 + 1) / 1024),
        (2, 2, (6 + 4 + 1) / 16, 1.0),
        (1, 0, 1 / 2, 1.0),
        (0, 0, 1.0, 1.0),
    ],
)
def test_the_p_values_are_binomial_tails(
    baseline_only: int, candidate_only: int, p_worse: float, p_differs: float
) -> None:
    found = compare_scores(*sides(20, baseline_only, candidate_only, 3))
    assert (found.p_worse, found.p_differs) == pytest.approx((p_worse, p_differs), rel=1e-12)
    # Cases on which both agree say nothing about which is better.
    alone = compare_scores(*sides(1, baseline_only, candidate_only))
    assert (alone.p_worse, alone.p_differs) == (found.p_worse, found.p_differs)


def test_the_figures_of_a_comparison() -> None:
    found = compare_scores(*sides(10, 2, 5, 3))
    counts = (found.num_pairs, found.both_right, found.baseline_only, found.candidate_only)
    assert counts == (20, 10, 2, 5)
    assert found.difference == pytest.approx(0.15)
    assert found.low < found.difference < found.high
    # The normal interval, 1.96 times the paired standard error, is about right at this size.
    error = math.sqrt((7 - 9 / 20) / 20 / 20)
    assert found.low == pytest.approx(0.15 - 1.96 * error, abs=0.04)
    assert found.high == pytest.approx(0.15 + 1.96 * error, abs=0.04)


def test_verdicts_pair_by_id_and_not_by_place() -> None:
    before, now = sides(4, 2, 1, 2)
    assert compare_scores(before, now[::-1]) == compare_scores(before, now) == compare_scores(before[::-1], now)
    assert changed_ids(before, now[::-1]) == (("c4", "c5"), ("c6",))
    assert changed_ids(now, before) == (("c6",), ("c4", "c5"))


def test_models_that_agree_everywhere_differ_by_nothing() -> None:
    found = compare_scores(*sides(3, 0, 0, 2))
    assert (found.difference, found.low, found.high, found.p_worse, found.p_differs) == (0, 0, 0, 1, 1)


@settings(deadline=None, max_examples=50)
@given(*[st.integers(0, 40)] * 4)
def test_exchanging_the_sides_mirrors_the_comparison(both: int, first: int, second: int, neither: int) -> None:
    if not both + first + second + neither:
        both = 1
    before, now = sides(both, first, second, neither)
    found, mirrored = compare_scores(before, now), compare_scores(now, before)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert mirrored.difference == -found.difference and mirrored.p_differs == pytest.approx(found.p_differs)
    # Two opposite tails hold every outcome, and the observed one twice.
    observed = math.comb(first + second, first) / 2 ** (first + second)
    assert found.p_worse + mirrored.p_worse == pytest.approx(1 + observed)


def test_the_interval_covers_the_true_difference() -> None:
    generator = numpy.random.default_rng(7)
    shares = numpy.array([0.5, 0.1, 0.2, 0.2])  # both, only the baseline, only the candidate, neither
    trials = 300
    covered = 0
    for counts in generator.multinomial(120, shares, size=trials):
        found = compare_scores(*sides(*map(int, counts)))
        covered += found.low <= 0.1 <= found.high
    # Were the coverage 95%, fewer than 274 or more than 296 of 300 had a probability below 0.005 each.
    assert 274 <= covered <= 296


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ([], [], "no scored case"),
        (["a"], [], r"1 cases \(a\) only in the baseline$"),
        (["a", "b"], ["b", "c"], r"1 cases \(a\) only in the baseline; 1 cases \(c\) only in the candidate$"),
        (["a"], list("abcdef"), r"5 cases \(b, c, d, …\) only in the candidate$"),
        (["a", "a"], ["a", "b"], "the baseline holds two verdicts on case 'a'"),
        (["a", "b"], ["b", "b"], "the candidate holds two verdicts on case 'b'"),
    ],
)
def test_what_does_not_pair_is_refused(before: list[str], now: list[str], message: str) -> None:
    for function in (compare_scores, changed_ids):
        with pytest.raises(DataError) as caught:
            function([score(name) for name in before], [score(name) for name in now])
        assert re.search(message, caught.value.found) and caught.value.required and caught.value.fix


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_p_values_of_repeated_cases_are_those_of_all_sign_flips(pairs: list[tuple[int, int]]) -> None:
    def side(place: int) -> list[Score]:
        rights = [pair[place] for pair in pairs]
        return [each for i, right in enumerate(rights) for each in repeated(f"c{i}", "1" * right + "0" * (3 - right))]

    found = compare_scores(side(0), side(1))
    rises = [Fraction(now - before, 3) for before, now in pairs]
    sums = [
        sum(sign * rise for sign, rise in zip(signs, rises, strict=True))
        for signs in product((1, -1), repeat=len(pairs))
    ]
    assert found.difference == pytest.approx(float(sum(rises) / len(rises)))
    assert found.p_worse == pytest.approx(sum(each <= sum(rises) for each in sums) / len(sums))
    assert found.p_differs == pytest.approx(sum(abs(each) >= abs(sum(rises)) for each in sums) / len(sums))
    assert found.low <= found.difference + 1e-12 and found.difference <= found.high + 1e-12


def test_a_repeated_case_changes_with_its_majority() -> None:
    before = [*repeated("a", "111"), *repeated("b", "110"), *repeated("c", "000"), *repeated("d", "111")]
    now = [*repeated("a", "110"), *repeated("b", "100"), *repeated("c", "011"), *repeated("d", "111")]
    found = compare_scores(before, now)
    assert changed_ids(before, now) == (("b",), ("c",))
    assert (found.both_right, found.baseline_only, found.candidate_only) == (2, 1, 1)
    assert found.difference == pytest.approx(0)
    # Single answers on one side and several on the other pair up too.
    assert compare_scores(scores([True]), repeated("c0", "110")).difference == pytest.approx(-1 / 3)
