"""Where something new may begin in a request: people mark it by punctuation or by a linking word. English only."""

import re

from fcdistill.generation.verification.english.words import words_of

__all__ = ["clause_starts"]

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
