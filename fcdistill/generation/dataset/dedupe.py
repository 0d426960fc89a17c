"""Texts that share their wording: duplicates among traces, and traces that repeat eval cases.

Two texts share so much wording as their word trigrams have in common (Jaccard similarity); short ones share all of it
where they have the same words, in any order. MinHash with locality-sensitive hashing (Broder 1997; Indyk and Motwani
1998) finds who is worth comparing, so that every text need not be compared with every other; the similarity itself is
then computed exactly. Nothing here knows how traces are made.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from datasketch import MinHash, MinHashLSH

from fcdistill.config import CONTAMINATION_JACCARD, NEAR_DUPLICATE_JACCARD
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.ladder import Similar
from fcdistill.records import EvalCase, Message, Trace
from fcdistill.records.equality import same_calls

__all__ = ["Contamination", "NearDuplicates", "WordingIndex", "request_key", "request_text"]

_SHORT = 5
"""Texts with fewer words than this share their wording where they have the same words, in any order."""

_LONG = 8
"""Texts with at least so many words are seldom said twice by chance: greetings and thanks have fewer."""

_NUM_PERMUTATIONS = 64
"""Twice as many would save a third of the comparisons among real requests, and take half as many tables again."""
_BLANK = MinHash(num_perm=_NUM_PERMUTATIONS)
"""Drawing the permutations anew for each text takes longer than using them."""
_MISSED = 1e-3
"""Highest probability that two texts exactly at the threshold are not found; more alike ones are missed less."""


def request_text(trace: Trace) -> str:
    """The last user message of a trace."""
    return next(message.content for message in reversed(trace.messages) if message.role == "user")


def request_key(text: str) -> str:
    """What two requests share when they differ only in case, punctuation, plurals or the spelling of numbers."""
    return " ".join(word.text for word in words_of(text))


class WordingIndex:
    """Texts, found by what they share with another one; the same texts and threshold give the same answers.

    Args:
        jaccard: the least similarity that counts, above 0.
    """

    def __init__(self, jaccard: float) -> None:
        self._jaccard = jaccard
        self._lsh = MinHashLSH(num_perm=_NUM_PERMUTATIONS, params=_bands(jaccard))
        # By position, since several texts may have one id.
        self._texts: list[tuple[str, str]] = []
        self._positions_by_key: dict[str, list[int]] = {}

    def add(self, identity: str, text: str) -> None:
        """Remember a text."""
        position, wording = len(self._texts), _wording(text)
        self._texts.append((identity, text))
        self._positions_by_key.setdefault(wording.key, []).append(position)
        if wording.grams:
            self._lsh.insert(position, wording.signature, check_duplication=False)

    def find(self, text: str) -> list[Similar]:
        """The known texts that share their wording with this one, the most similar first."""
        wording = _wording(text)
        similarities = dict.fromkeys(self._positions_by_key.get(wording.key, ()), 1.0)
        for position in self._lsh.query(wording.signature) if wording.grams else ():
            other = _grams(_words(self._texts[position][1]))
            similarities.setdefault(position, len(wording.grams & other) / len(wording.grams | other))
        found = sorted((-jaccard, position) for position, jaccard in similarities.items() if jaccard >= self._jaccard)
        return [Similar(*self._texts[position], -jaccard) for jaccard, position in found]


class Contamination:
    """Finds conversations that are taken from eval cases: in any turn, their user says what the user of a case says.

    Long turns tell by their wording alone. Shorter ones may stand in any conversation, as greetings and thanks do:
    they tell where a call answers them on either side; else, and always where they are as short as "Thanks!", only
    where the user said the same before and the answer is alike.

    Args:
        cases: the cases; files may use the same ids.
        jaccard: share of common word trigrams from which two turns share their wording.
    """

    def __init__(self, cases: Iterable[EvalCase], jaccard: float = CONTAMINATION_JACCARD) -> None:
        self.jaccard = jaccard
        self._index = WordingIndex(jaccard)
        self._turns: list[tuple[str, _UserTurn]] = []
        for case in cases:
            wanted = {call.name for answer in case.expected for call in answer}
            for turn in _user_turns(case.messages, wanted):
                self._index.add(str(len(self._turns)), turn.text)
                self._turns.append((case.id, turn))

    def find(self, trace: Trace) -> Similar | None:
        """The eval case that the trace is taken from, with the case's turn that tells it, or None."""
        for turn in _user_turns(trace.messages, ()):
            for like in self._index.find(turn.text):
                identity, known = self._turns[int(like.id)]
                if turn.repeats(known):
                    return Similar(identity, like.text, like.jaccard)
        return None


@dataclass(frozen=True)
class _UserTurn:
    """What a user says, what they said before it, and the tools that are called in answer to it."""

    text: str
    before: tuple[str, ...]
    tools: frozenset[str]

    def repeats(self, other: "_UserTurn") -> bool:
        """Whether one is taken from the other, whose wording it shares."""
        num_words = min(len(_words(self.text)), len(_words(other.text)))
        alike = bool(self.tools & other.tools) or self.tools == other.tools
        if num_words >= _LONG or alike and self.before == other.before:
            return True
        return num_words >= _SHORT and bool(self.tools | other.tools)


def _user_turns(messages: Sequence[Message], wanted: Iterable[str]) -> Iterator[_UserTurn]:
    """The turns of a conversation's user; `wanted` are tools that are to be called after all messages."""
    before: tuple[str, ...] = ()
    places = [place for place, message in enumerate(messages) if message.role == "user"]
    for place, end in itertools.pairwise([*places, len(messages)]):
        text = messages[place].content
        tools = {call.name for message in messages[place:end] for call in message.calls}
        yield _UserTurn(text, before, frozenset(tools.union(wanted if end == len(messages) else ())))
        before = (*before, _wording(text).key)


class NearDuplicates:
    """Finds traces that say almost what an earlier one says, and answer it alike.

    Where the answer is another one, for a single other number, both are worth learning from, however alike they are.

    Args:
        jaccard: share of common word trigrams from which two conversations say almost the same.
    """

    def __init__(self, jaccard: float = NEAR_DUPLICATE_JACCARD) -> None:
        self.jaccard = jaccard
        self._index = WordingIndex(jaccard)
        self._answers: dict[str, tuple[str, str]] = {}

    def add(self, trace: Trace) -> None:
        """Remember a trace; its id is its own."""
        self._answers[trace.id] = trace.answer.model_dump_json(), trace.meta.category
        self._index.add(trace.id, _said(trace))

    def find(self, trace: Trace) -> Similar | None:
        """The most similar of the remembered traces that this one nearly repeats, or None."""
        similar = self._index.find(_said(trace))
        return next((each for each in similar if _answers_alike(*self._answers[each.id], trace)), None)


def _said(trace: Trace) -> str:
    """All that is said before the answer; in a longer conversation calls and their results decide it too."""
    return "\n".join(
        " ".join([message.content, *(call.model_dump_json() for call in message.calls)])
        for message in trace.messages[:-1]
        if message.role != "system"
    )


def _answers_alike(answer_json: str, category: str, other: Trace) -> bool:
    """Whether a trace makes the same calls as an answer, or none for the same kind of reason."""
    calls = Message.model_validate_json(answer_json).calls
    if calls or other.answer.calls:
        return same_calls(calls, other.answer.calls)
    return category == other.meta.category


@dataclass(frozen=True)
class _Wording:
    """What texts are compared by: equal keys share all their wording."""

    key: str
    grams: frozenset[str]
    signature: MinHash


# A text is mostly looked for and then added.
@functools.lru_cache(maxsize=4)
def _wording(text: str) -> _Wording:
    words = _words(text)
    key = " ".join(sorted(set(words)) if len(words) < _SHORT else words)
    grams = _grams(words)
    signature = _BLANK.copy()
    signature.update_batch([gram.encode() for gram in grams])
    return _Wording(key, grams, signature)


def _words(text: str) -> list[str]:
    return request_key(text).split()


def _grams(words: Sequence[str]) -> frozenset[str]:
    return frozenset(" ".join(words[start : start + 3]) for start in range(len(words) - 2))


def _bands(jaccard: float) -> tuple[int, int]:
    """How many bands of how many rows: the longest rows, and so the fewest comparisons, that miss few enough.

    Two texts of similarity s are compared with probability 1 - (1 - s^rows)^bands (Leskovec et al., Mining of Massive
    Datasets, 3.4.2). Each band costs a text an entry in a table of its own: there are no more than are needed.
    """

    def needed(rows: int) -> int:
        met = jaccard**rows
        return max(2, math.ceil(math.log(_MISSED) / math.log1p(-met))) if met < 1 else 2

    rows = 1
    while needed(rows + 1) * (rows + 1) <= _NUM_PERMUTATIONS and rows < 8:
        rows += 1
    return min(needed(rows), _NUM_PERMUTATIONS), rows
