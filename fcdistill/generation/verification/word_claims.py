"""Which words of a request say which value: a ledger that grounding fills and then reads.

It counts and compares places of words; what they say was decided before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fcdistill.generation.verification.languages.language_pack import LanguagePack
from fcdistill.generation.verification.languages.word_places import Word, format_number, is_mixed

__all__ = ["WordClaims", "are_listed", "are_mixed"]


@dataclass
class WordClaims:
    """Which words of a request say a value.

    Attributes:
        starts: where something new may begin in the request; None where that is not known.
        by_path: indices of the words that say the values of each parameter.
        words: indices of all words that do.
        phrases: of those in texts, times and durations.
        numbers: per number the arguments that hold it, each with the places that say it.
        certain: of `words`, those that say a value which stands in one place only.
        mixed: paths of lists whose objects do not have their words in places of their own.
    """

    starts: frozenset[int] | None
    by_path: dict[str, set[int]] = field(default_factory=dict)
    words: set[int] = field(default_factory=set)
    phrases: set[int] = field(default_factory=set)
    numbers: dict[float, dict[str, set[int]]] = field(default_factory=dict)
    certain: set[int] = field(default_factory=set)
    mixed: list[str] = field(default_factory=list)

    def take(self, other: "WordClaims") -> None:
        """Take in all claims of a part."""
        self.words |= other.words
        self.phrases |= other.phrases
        self.certain |= other.certain
        self.mixed += other.mixed
        for path, indices in other.by_path.items():
            self.by_path.setdefault(path, set()).update(indices)
        for number, paths in other.numbers.items():
            for path, starts in paths.items():
                self.numbers.setdefault(number, {}).setdefault(path, set()).update(starts)

    def add(self, path: str, value: Any, places: Sequence[range], *, several: bool) -> None:
        """Note where a value is said; `several` tells that its parts may stand apart."""
        indices = {index for place in places for index in place}
        self.words |= indices
        if several or len(indices) == len(range(min(indices, default=0), max(indices, default=-1) + 1)):
            self.certain |= indices
        self.by_path.setdefault(path, set()).update(indices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.phrases |= indices
        elif places:
            self.numbers.setdefault(value, {}).setdefault(path, set()).update(place.start for place in places)

    def shared(self) -> Iterator[str]:
        """A 20 that is said once can't be a brightness and a volume, nor the 20 of 20 minutes and a brightness."""
        for value, places in self.numbers.items():
            if len(set().union(*places.values()) - self.phrases) < len(places):
                phrase = " and part of a phrase" if len(places) == 1 else ""
                yield f"{format_number(value)} ({', '.join(places)}{phrase})"


def are_mixed(parts: Sequence[WordClaims], words: Sequence[Word], pack: LanguagePack) -> bool:
    """Whether the words of one part of an answer stand among those of another.

    Args:
        parts: the claims of each.
        words: of the request.
        pack: its language.
    """
    starts = parts[0].starts if parts else None
    units = [{index for index in part.certain if words[index].text not in pack.function_words} for part in parts]
    return starts is not None and is_mixed(units, starts)


def are_listed(one: WordClaims, other: WordClaims, words: Sequence[Word], pack: LanguagePack) -> bool:
    """Whether two parts are named in one list: "the office and the hall".

    The first value of the one follows the last of the other, of the same parameter, with nothing but a link between.

    Args:
        one: the claims of a part.
        other: those of another.
        words: of the request.
        pack: its language.
    """
    first, second = one.certain - other.certain, other.certain - one.certain
    if not first or not second or max(first) > min(second):
        return False
    end, start = max(first), min(second)
    is_alike = any(end in places and start in other.by_path.get(path, ()) for path, places in one.by_path.items())
    return is_alike and all(word.text in pack.list_words for word in words[end + 1 : start])
