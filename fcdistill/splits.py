"""Which split groups are held out: whole groups, the same for the same seed, as many of each kind as of all.

Rows of one group share arguments or a seed, so that a split by rows would test what was trained.
"""

import random
from collections import defaultdict
from collections.abc import Mapping

from fcdistill.errors import DataError

__all__ = ["hold_out_groups"]


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
