from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.evaluation.repeats import agreement, by_case, case_verdict, pass_hat
from tests.evaluation.scores import score


def test_answers_stand_by_their_case_in_order() -> None:
    scores = [score("b"), score("a"), score("b", repetition=1)]
    assert by_case(scores) == {"b": [scores[0], scores[2]], "a": [scores[1]]}


@pytest.mark.parametrize(
    ("outcomes", "speaks"),
    [
        ("1", 0),
        ("w", 0),
        ("w11", 1),
        ("11w", 0),
        ("1w", 1),  # half is no majority
        ("1ww", 1),
        ("1wmm", 2),  # the most frequent error, not the first
        ("mw", 0),
    ],
)
def test_a_case_is_right_where_more_than_half_of_its_answers_are(outcomes: str, speaks: int) -> None:
    errors = {"1": None, "w": "wrong_value", "m": "missing_call"}
    scores = [
        score("a", correct=outcome == "1", primary_error=errors[outcome], repetition=number)
        for number, outcome in enumerate(outcomes)
    ]
    found = case_verdict(scores)
    assert found.repetition == speaks
    assert found.correct is (2 * outcomes.count("1") > len(outcomes))


@given(st.lists(st.booleans(), min_size=2, max_size=7), st.data())
def test_pass_hat_and_agreement_count_the_draws(outcomes: list[bool], data: st.DataObject) -> None:
    drawn = data.draw(st.integers(1, len(outcomes)))
    draws = list(combinations(outcomes, drawn))
    share = Fraction(sum(map(all, draws)), len(draws))
    assert pass_hat(sum(outcomes), len(outcomes), drawn) == pytest.approx(float(share))
    pairs = list(combinations(outcomes, 2))
    alike = Fraction(sum(one == other for one, other in pairs), len(pairs))
    assert agreement(sum(outcomes), len(outcomes)) == pytest.approx(float(alike))


def test_pass_hat_is_unbiased() -> None:
    share, num_answers, drawn = 0.7, 5, 3
    chances = [
        (sum(outcomes), share ** sum(outcomes) * (1 - share) ** (num_answers - sum(outcomes)))
        for outcomes in [
            [bool(number >> place & 1) for place in range(num_answers)] for number in range(2**num_answers)
        ]
    ]
    assert sum(chance * pass_hat(right, num_answers, drawn) for right, chance in chances) == pytest.approx(share**drawn)
