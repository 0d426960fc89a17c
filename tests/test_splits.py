"""Tests of `fcdistill.splits`."""

from collections import Counter

import pytest

from fcdistill.errors import DataError
from fcdistill.splits import hold_out_groups

STRATA = {f"g{number:03}": "common" if number % 10 else "rare" for number in range(200)}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.9])
def test_every_kind_gives_its_share(fraction: float) -> None:
    held_out = hold_out_groups(STRATA, fraction, seed=3)
    assert len(held_out) == round(200 * fraction)
    counts = Counter(STRATA[group] for group in held_out)
    assert abs(counts["rare"] - 20 * fraction) <= 1 and abs(counts["common"] - 180 * fraction) <= 1


def test_the_seed_alone_decides() -> None:
    shuffled = dict(reversed(STRATA.items()))
    assert hold_out_groups(shuffled, 0.2, seed=1) == hold_out_groups(STRATA, 0.2, seed=1)
    assert hold_out_groups(STRATA, 0.2, seed=1) != hold_out_groups(STRATA, 0.2, seed=2)


def test_one_group_at_least_is_on_either_side() -> None:
    assert len(hold_out_groups({"a": "x", "b": "y", "c": "z"}, 0.001, seed=0)) == 1
    assert len(hold_out_groups({"a": "x", "b": "y", "c": "z"}, 0.999, seed=0)) == 2
    with pytest.raises(DataError, match="a single split group"):
        hold_out_groups({"a": "x"}, 0.5, seed=0)
