"""Comparable words of any language, and the places where a phrase stands among them.

How a text falls into comparable words is the affair of a language; numbers in digits are read here for all of them.
"""

from collections.abc import Container, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal

from rapidfuzz.distance import OSA

__all__ = ["Word", "find", "format_number", "is_mixed"]

_MIN_TYPO_LENGTH = 6


@dataclass(frozen=True)
class Word:
    """One word: its comparable form, and whether it states a number in digits or in words."""

    text: str
    is_number: bool = False
    spelled_out: bool = False


def format_number(value: float) -> str:
    """The comparable form of a number: no trailing zeros, a point for decimals, no exponent."""
    return str(int(value)) if float(value).is_integer() else format(Decimal(repr(float(value))), "f")


def find(phrase: Sequence[Word], words: Sequence[Word], distinct: Container[str] = frozenset()) -> list[range]:
    """Every place where the phrase stands in the words, as index ranges; an empty phrase stands nowhere.

    Longer words may differ by one typo, since requests have typos. That takes some pairs of real words
    for one another ("hallway" and "halfway"): whoever must not be wrong names the words that stand for themselves.
    Compounds may be written in one word or in two ("livingroom", "bed room").

    Args:
        phrase: what is looked for.
        words: where.
        distinct: words that are no typo of another.
    """
    size = len(phrase)
    if size == 0:
        return []
    joined = "".join(word.text for word in phrase)
    compounds = [
        range(start, start + other)
        for other in (1, 2)
        if {size, other} == {1, 2} and joined.isalpha() and len(joined) >= _MIN_TYPO_LENGTH
        for start in range(len(words) - other + 1)
        if "".join(word.text for word in words[start : start + other]) == joined
    ]
    return compounds + [
        range(start, start + size)
        for start in range(len(words) - size + 1)
        if all(_alike(wanted.text, found.text, distinct) for wanted, found in zip(phrase, words[start:], strict=False))
    ]


def is_mixed(units: Sequence[Set[int]], starts: Set[int]) -> bool:
    """Whether words of one unit stand among those of another.

    "Turn the kitchen light on at 40% and play jazz" gives 40 to the light, whichever call holds it: people say what
    belongs together in one stretch. Words that several units take say nothing of either. Between words of two units
    something new must begin, and no unit may come back after another had its words.

    Args:
        units: per unit (a call, an item of a list) the indices of the words that say its values.
        starts: indices of the words before which something new may begin.
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


def _alike(wanted: str, found: str, distinct: Container[str]) -> bool:
    if wanted == found:
        return True
    if len(wanted) < _MIN_TYPO_LENGTH or wanted[:1] != found[:1] or found in distinct:
        return False
    if not (wanted.isalpha() and found.isalpha()):
        return False
    # One letter more, less or another, or two neighbours swapped.
    return OSA.distance(wanted, found, score_cutoff=1) <= 1
