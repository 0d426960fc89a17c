from math import comb

import numpy
import pytest

from fcdistill.errors import DataError
from fcdistill.evaluation.pairing import compare_scores
from fcdistill.records import Score


def scores_of(outcomes: dict[str, bool]) -> list[Score]:
    fixed = {"category": "simple", "behaviour": "call", "tools": ("dim",), "parsed": True, "schema_valid": True}
    return [
        Score.model_validate({**fixed, "id": id, "correct": correct, "primary_error": None, "names_correct": True})
        for id, correct in outcomes.items()
    ]


def outcomes(worse: int, better: int, right: int = 0, wrong: int = 0) -> tuple[list[Score], list[Score]]:
    pairs = [(True, False)] * worse + [(False, True)] * better + [(True, True)] * right + [(False, False)] * wrong
    before = {f"c{number}": pair[0] for number, pair in enumerate(pairs)}
    now = {f"c{number}": pair[1] for number, pair in enumerate(pairs)}
    return scores_of(before), scores_of(now)


@pytest.mark.parametrize(("worse", "better"), [(5, 0), (9, 4), (3, 3), (1, 6), (0, 0)])
def test_p_is_that_of_so_many_heads(worse: int, better: int) -> None:
    found = compare_scores(*outcomes(worse, better, right=7, wrong=2))
    n = worse + better
    tail = sum(comb(n, k) for k in range(worse, n + 1)) / 2**n
    assert found.p_worse == pytest.approx(tail)
    lower = sum(comb(n, k) for k in range(min(worse, better) + 1)) / 2**n
    assert found.p_differs == pytest.approx(min(1.0, 2 * lower))
    assert (found.baseline_only, found.candidate_only, found.both_right, found.num_pairs) == (worse, better, 7, n + 9)
    assert found.difference == pytest.approx((better - worse) / (n + 9))
    assert found.low <= found.difference <= found.high


def test_pairs_are_found_by_id_not_by_order() -> None:
    before, now = outcomes(2, 1, right=3)
    assert compare_scores(before, now[::-1]) == compare_scores(before, now)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    rng = numpy.random.default_rng(1)
    shares = [0.10, 0.04, 0.5, 0.36]
    covered = 0
    for counts in rng.multinomial(300, shares, size=200).tolist():
        found = compare_scores(*outcomes(*counts))
        covered += found.low <= shares[1] - shares[0] <= found.high
    assert 0.90 <= covered / 200 <= 0.99


def test_runs_of_other_cases_are_refused() -> None:
    one, two = scores_of({"a": True, "b": True}), scores_of({"a": True, "c": True})
    with pytest.raises(DataError, match="'b'"):
        compare_scores(one, two)
    with pytest.raises(DataError, match="one each"):
        compare_scores([one[0], one[0]], [one[0]])
    with pytest.raises(DataError, match="0 and 0 verdicts"):
        compare_scores([], [])
