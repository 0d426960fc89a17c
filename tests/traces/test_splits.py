"""Tests of `fcdistill.traces.splits`."""

from collections import Counter

import pytest

from fcdistill.errors import DataError
from fcdistill.records import Trace
from fcdistill.traces.splits import hold_out_groups, split_traces
from tests.traces.grouped_traces import trace

STRATA = {f"g{number:03}": "common" if number % 10 else "rare" for number in range(200)}


TRACES = [trace(f"t{number:02}", f"g{number // 2}", "irrelevance" if number < 10 else "simple") for number in range(60)]


def ids(traces: list[Trace]) -> list[str]:
    return [trace.id for trace in traces]


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


def test_groups_stay_together_and_categories_keep_their_share() -> None:
    split = split_traces(TRACES, held_out_fraction=0.2, seed=0)
    assert sorted(ids(split.train) + ids(split.held_out)) == ids(TRACES) and split.left_out == []
    assert not {each.split_group for each in split.train} & {each.split_group for each in split.held_out}
    assert len(split.held_out) == 12
    assert sum(each.meta.category == "irrelevance" for each in split.held_out) == 2
    backwards = split_traces(TRACES[::-1], held_out_fraction=0.2, seed=0)
    assert set(ids(backwards.held_out)) == set(ids(split.held_out))
    assert ids(split_traces(TRACES, held_out_fraction=0.2, seed=1).held_out) != ids(split.held_out)


def test_what_is_made_of_both_sides_is_on_neither() -> None:
    split = split_traces(TRACES, held_out_fraction=0.2, seed=0)
    inside, other = (next(each for each in side) for side in (split.train, split.held_out))
    joined = [
        trace("z-within", inside.split_group, made_of=(inside.id,)),
        trace("z-across", inside.split_group, made_of=(inside.id, other.id)),
        trace("z-apart", other.split_group, made_of=(inside.id,)),
        trace("z-gone", inside.split_group, made_of=("rejected",)),
    ]
    again = split_traces([*TRACES, *joined], held_out_fraction=0.2, seed=0)
    assert set(ids(again.held_out)) == set(ids(split.held_out))
    assert ids(again.left_out) == ["z-across", "z-apart"] and {"z-within", "z-gone"} <= set(ids(again.train))
