"""Which traces are held out: whole split groups, the same for the same seed, as many of each kind as of all.

Rows of one group share arguments or a seed, so that a split by rows would test what was trained.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcdistill.errors import DataError
from fcdistill.records import Trace

__all__ = ["Split", "hold_out_groups", "split_traces"]


@dataclass(frozen=True)
class Split:
    """The sides of a split.

    Attributes:
        train: to learn from.
        held_out: to measure by.
        left_out: made of traces of both sides, such as joined requests: each would show one side the other.
    """

    train: list[Trace]
    held_out: list[Trace]
    left_out: list[Trace]


def split_traces(traces: Sequence[Trace], *, held_out_fraction: float, seed: int) -> Split:
    """Split traces by their groups, with about the same share of every category on either side.

    Args:
        traces: all of them; their order does not matter to who goes where.
        held_out_fraction: share of the groups that is held out.
        seed: which groups.

    Raises:
        DataError: there are too few groups.
    """
    # A group mostly has one category; where it has several, the trace with the first id decides.
    ordered = sorted(traces, key=lambda trace: trace.id, reverse=True)
    strata = {trace.split_group: trace.meta.category for trace in ordered}
    groups = hold_out_groups(strata, held_out_fraction, seed)
    is_held_out = {trace.id: trace.split_group in groups for trace in traces}
    split = Split([], [], [])
    for trace in traces:
        here = is_held_out[trace.id]
        sources = trace.meta.teacher.params.get("from", ())
        if any(is_held_out.get(source, here) != here for source in sources):
            split.left_out.append(trace)
        else:
            (split.held_out if here else split.train).append(trace)
    return split


def hold_out_groups(strata: Mapping[str, str], fraction: float, seed: int) -> set[str]:
    """The groups that are held out.

    Args:
        strata: each group's kind; of every kind about the same share is held out.
        fraction: share of the groups, above 0; at least one is held out, and one is left.
        seed: which groups.

    Raises:
        DataError: there are too few groups to hold any out.
    """
    if len(strata) < 2:
        raise DataError(
            f"held_out_fraction is {fraction}, but the traces have a single split group",
            required="at least two split groups",
            fix="give more traces, or in a training set held_out_fraction to 0",
        )
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for group in sorted(strata):
        by_stratum[strata[group]].append(group)
    generator = random.Random(seed)
    # Whatever share is cut off the front holds about that share of every stratum.
    placed = []
    for stratum, groups in sorted(by_stratum.items()):
        generator.shuffle(groups)
        placed += [((index + 0.5) / len(groups), stratum, group) for index, group in enumerate(groups)]
    count = min(max(1, round(fraction * len(strata))), len(strata) - 1)
    return {group for _, _, group in sorted(placed)[:count]}
