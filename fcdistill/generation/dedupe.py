"""Duplicates among traces, and traces that share wording with eval cases.

Exact duplicates are found on comparable words, contamination by word trigrams. Nothing here knows how traces are made.
"""

from collections.abc import Iterable, Sequence

from fcdistill.generation.words import words_of
from fcdistill.records import EvalCase, Trace

__all__ = ["Contamination", "request_key", "request_text"]

CONTAMINATION_JACCARD = 0.5
"""Share of common word trigrams from which a request counts as taken from an eval case."""


def request_text(trace: Trace) -> str:
    """The last user message of a trace."""
    return next(message.content for message in reversed(trace.messages) if message.role == "user")


def request_key(text: str) -> str:
    """What two requests share when they differ only in case, punctuation, plurals or the spelling of numbers."""
    return " ".join(word.text for word in words_of(text))


class Contamination:
    """Finds requests that share their wording with eval cases."""

    def __init__(self, cases: Iterable[EvalCase]) -> None:
        self._ids_by_key: dict[str, str] = {}
        self._cases: dict[str, frozenset[str]] = {}
        self._ids_by_gram: dict[str, list[str]] = {}
        for case in cases:
            text = next(message.content for message in reversed(case.messages) if message.role in ("user", "tool"))
            self._ids_by_key.setdefault(request_key(text), case.id)
            self._cases[case.id] = grams = _trigrams(text)
            for gram in grams:
                self._ids_by_gram.setdefault(gram, []).append(case.id)

    def find(self, text: str) -> str | None:
        """The id of the eval case whose wording this request shares, or None."""
        same = self._ids_by_key.get(request_key(text))
        if same is not None:
            return same
        grams = _trigrams(text)
        candidates = dict.fromkeys(identity for gram in grams for identity in self._ids_by_gram.get(gram, ()))
        for identity in candidates:
            other = self._cases[identity]
            if len(grams & other) / len(grams | other) >= CONTAMINATION_JACCARD:
                return identity
        return None


def _trigrams(text: str) -> frozenset[str]:
    words: Sequence[str] = request_key(text).split()
    return frozenset(" ".join(words[start : start + 3]) for start in range(len(words) - 2))
