"""Duplicates among traces, and traces that share wording with eval cases.

Exact duplicates are found on comparable words, contamination by word trigrams and, in short texts, by the set of words.
Nothing here knows how traces are made.
"""

from collections.abc import Iterable, Sequence

from fcdistill.generation.words import words_of
from fcdistill.records import EvalCase, Trace

__all__ = ["Contamination", "request_key", "request_text"]

CONTAMINATION_JACCARD = 0.5
"""Share of common word trigrams from which a request counts as taken from an eval case."""

_SHORT = 5
"""Texts with fewer words than this share their wording where they have the same words, in any order."""


def request_text(trace: Trace) -> str:
    """The last user message of a trace."""
    return next(message.content for message in reversed(trace.messages) if message.role == "user")


def request_key(text: str) -> str:
    """What two requests share when they differ only in case, punctuation, plurals or the spelling of numbers."""
    return " ".join(word.text for word in words_of(text))


class Contamination:
    """Finds requests that share their wording with what users say in eval cases."""

    def __init__(self, cases: Iterable[EvalCase]) -> None:
        self._ids_by_key: dict[str, str] = {}
        # By position, since several files may use the same ids.
        self._cases: list[tuple[str, frozenset[str]]] = []
        self._positions_by_gram: dict[str, list[int]] = {}
        said = [(case.id, message.content) for case in cases for message in case.messages if message.role == "user"]
        for position, (identity, text) in enumerate(said):
            self._ids_by_key.setdefault(_wording(text), identity)
            grams = _trigrams(text)
            self._cases.append((identity, grams))
            for gram in grams:
                self._positions_by_gram.setdefault(gram, []).append(position)

    def find(self, text: str) -> str | None:
        """The id of the eval case whose wording this request shares, or None."""
        same = self._ids_by_key.get(_wording(text))
        if same is not None:
            return same
        grams = _trigrams(text)
        candidates = {position for gram in grams for position in self._positions_by_gram.get(gram, ())}
        for identity, other in (self._cases[position] for position in sorted(candidates)):
            if len(grams & other) / len(grams | other) >= CONTAMINATION_JACCARD:
                return identity
        return None


def _wording(text: str) -> str:
    words = request_key(text).split()
    return " ".join(sorted(set(words)) if len(words) < _SHORT else words)


def _trigrams(text: str) -> frozenset[str]:
    words: Sequence[str] = request_key(text).split()
    return frozenset(" ".join(words[start : start + 3]) for start in range(len(words) - 2))
