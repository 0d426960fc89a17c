"""Do the words of a request go with the calls that take them?

"Turn the kitchen light on at 40% and play jazz" gives 40 to the light, whichever call holds it. People say what belongs
together in one stretch, and mark where the next thing begins: by punctuation or by a linking word. English only; this
module knows indices of words alone, neither tools nor values.
"""

import re
from collections.abc import Sequence, Set

from fcdistill.generation.verification.english.words import words_of

__all__ = ["clause_starts", "is_mixed"]

_LINKS = frozenset("and then also plus but or while before after too once so because when if as".split())
_PUNCTUATION = re.compile(r"[;!?&+\n]|,(?!\d)|[.:](?=\s|$)|\s[-–—/](?=\s)")


def clause_starts(text: str) -> frozenset[int] | None:
    """Indices of the words (see `words_of`) before which something new may begin.

    None where punctuation stands inside of what counts as one word.
    """
    starts: set[int] = set()
    words = words_of(text)
    place = 0
    for part in _PUNCTUATION.split(text):
        starts.add(place)
        place += len(words_of(part))
    if place != len(words):
        return None
    return frozenset(starts | {index for index, word in enumerate(words) if word.text in _LINKS})


def is_mixed(units: Sequence[Set[int]], starts: Set[int]) -> bool:
    """Whether words of one unit stand among those of another.

    Words that several units take say nothing of either. Between words of two units something new must begin, and no
    unit may come back after another had its words.

    Args:
        units: per unit (a call, an item of a list) the indices of the words that say its values.
        starts: see `clause_starts`.
    """
    shared = {index for unit in units for index in unit if sum(index in other for other in units) > 1}
    owners = sorted((index, number) for number, unit in enumerate(units) for index in unit - shared)
    left: set[int] = set()
    for (before, one), (after, other) in zip(owners, owners[1:], strict=False):
        if one == other:
            continue
        left.add(one)
        if other in left or not any(index in starts for index in range(before + 1, after + 1)):
            return True
    return False
