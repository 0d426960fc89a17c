"""Texts that share their wording: duplicates among traces, and traces that repeat eval cases.

Two texts share so much wording as their word trigrams have in common (Jaccard similarity); short ones share all of it
where they have the same words, in any order. MinHash with locality-sensitive hashing (Broder 1997; Indyk and Motwani
1998) finds who is worth comparing, so that every text need not be compared with every other; the similarity itself is
then computed exactly. Nothing here knows how traces are made.
"""

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from datasketch import MinHash, MinHashLSH

from fcdistill.config import CONTAMINATION_JACCARD, NEAR_DUPLICATE_JACCARD
from fcdistill.generation.dataset.turns import user_texts
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.ladder import Similar
from fcdistill.records import EvalCase, Message, Trace
from fcdistill.records.equality import same_calls

__all__ = ["Contamination", "NearDuplicates", "WordingIndex", "request_key", "request_text", "similarity"]

_SHORT = 5
"""Texts with fewer words than this share their wording where they have the same words, in any order."""

_LONG = 8
"""Turns with at least so many words are more than a greeting, a thank-you or a short order."""

_TELLING = 13
"""So many words are not said twice by chance, whatever stands round them (Brown et al. 2020, appendix C: 13-grams)."""

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


def similarity(one: str, other: str) -> float:
    """How much of their wording two texts share, from 0 to 1."""
    words, others = _words(one), _words(other)
    return 1.0 if _key(words) == _key(others) else _jaccard(_grams(words), _grams(others))


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
            similarities.setdefault(position, _jaccard(wording.grams, _grams(_words(self._texts[position][1]))))
        found = sorted((-jaccard, position) for position, jaccard in similarities.items() if jaccard >= self._jaccard)
        return [Similar(*self._texts[position], -jaccard) for jaccard, position in found]


class Contamination:
    """Finds conversations that are taken from eval cases: their whole user side has the wording of a case's.

    Each turn of it must be found in the case, nearly word for word. Where none of the turns is long, as in greetings
    and short orders, the case must also begin with them, and be answered alike. Turns of a few words, such as "Hello"
    and "Thanks!", may be the conversation's own: at either end where a long turn is shared, at the end where all of the
    case is. Within a longer conversation, a turn or a whole case of 13 words and more tells by itself.

    Args:
        cases: the cases; files may use the same ids.
        jaccard: share of common word trigrams from which two texts share their wording.
    """

    def __init__(self, cases: Iterable[EvalCase], jaccard: float = CONTAMINATION_JACCARD) -> None:
        self.jaccard = jaccard
        self._index = WordingIndex(jaccard)
        self._passages: list[tuple[str, _Passage]] = []
        self._by_rest: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        self._num_turns: set[int] = {1}
        known: set[tuple[tuple[str, ...], int, bool, frozenset[str], frozenset[str]]] = set()
        for case in cases:
            turns = _user_turns(case.messages, {call.name for answer in case.expected for call in answer})
            self._num_turns.add(len(turns))
            for passage in _passages(turns, range(1, len(turns) + 1)):
                # The cases of one conversation begin alike; what they share is remembered once.
                key = (
                    tuple(turn.text for turn in passage.turns),
                    passage.start,
                    passage.is_whole,
                    passage.tools,
                    passage.turns[-1].tools,
                )
                if key not in known:
                    known.add(key)
                    for rest in passage.rests if passage.start == 0 else ():
                        self._by_rest[rest].append(len(self._passages))
                    self._index.add(str(len(self._passages)), passage.text)
                    self._passages.append((case.id, passage))

    def find(self, trace: Trace) -> Similar | None:
        """The eval case that the trace is taken from, with the case's turns that tell it, or None."""
        turns = _user_turns(trace.messages, ())
        for passage in (passage for passage in _passages(turns, {*self._num_turns, *_spans(turns)}) if passage.tells):
            for place, jaccard in self._alike(passage):
                identity, known = self._passages[place]
                if passage.repeats(known) and self._is_said_in(passage, known):
                    return Similar(identity, known.text, jaccard)
        return None

    def _is_said_in(self, passage: "_Passage", known: "_Passage") -> bool:
        """Whether each turn of a passage is found in one of a case; of a case's short turns too, each in it."""
        if not _is_said_in(passage.texts, known.texts, self.jaccard):
            return False
        return _are_long(passage, known) or _is_said_in(known.texts, passage.texts, self.jaccard)

    def _alike(self, passage: "_Passage") -> Iterator[tuple[int, float]]:
        """The places of passages of cases that share this one's wording, or all of its turns but one."""
        for like in self._index.find(passage.text):
            yield int(like.id), like.jaccard
        if passage.is_whole and passage.num_words >= _SHORT:
            # A word that is changed in a few short turns takes most of the trigrams with it.
            for place in dict.fromkeys(place for rest in passage.rests for place in self._by_rest.get(rest, ())):
                yield place, similarity(passage.text, self._passages[place][1].text)


@dataclass(frozen=True)
class _UserTurn:
    """What a user says, its number of words, and the tools that are called in answer to it."""

    text: str
    num_words: int
    tools: frozenset[str]


@dataclass(frozen=True)
class _Passage:
    """Turns of a conversation's user that follow one another.

    Attributes:
        turns: at least one.
        start: the place of the first one among all turns.
        is_whole: whether they are all turns.
        is_core: whether only short turns are left out.
        is_opening: whether they begin the conversation, and only short turns follow.
    """

    turns: Sequence[_UserTurn]
    start: int
    is_whole: bool
    is_core: bool
    is_opening: bool

    @property
    def texts(self) -> list[str]:
        """What is said, turn by turn."""
        return [turn.text for turn in self.turns]

    @property
    def text(self) -> str:
        """All that is said."""
        return "\n".join(self.texts)

    @property
    def rests(self) -> list[tuple[str, ...]]:
        """Of several turns, what is said but for one of them: equal for passages that differ in that turn alone."""
        keys = [_key(_words(turn.text)) for turn in self.turns]
        return [(str(place), *keys[:place], *keys[place + 1 :]) for place in range(len(keys)) if len(keys) > 1]

    @property
    def num_words(self) -> int:
        """In all turns."""
        return sum(turn.num_words for turn in self.turns)

    @property
    def longest(self) -> int:
        """The number of words of the longest turn."""
        return max(turn.num_words for turn in self.turns)

    @property
    def tools(self) -> frozenset[str]:
        """All that are called in answer to these turns."""
        return frozenset().union(*(turn.tools for turn in self.turns))

    @property
    def tells(self) -> bool:
        """Whether a conversation with this passage may be taken from a case for its sake."""
        return self.longest >= _LONG or (self.is_whole or self.is_opening) and self.num_words > 0

    def repeats(self, known: "_Passage") -> bool:
        """Whether the conversation of this passage is taken from that of another, whose wording it shares."""
        if _are_long(self, known):
            if self.is_core or self.is_whole:
                return True
            if known.is_whole and _key(_words(self.text)) == _key(_words(known.text)):
                return True  # all of a case, word for word, whatever else is said
            is_one_turn = len(self.turns) == len(known.turns) == 1
            return (known.is_whole or is_one_turn) and min(self.num_words, known.num_words) >= _TELLING
        if known.start > 0 or not (self.is_whole or self.is_opening and known.is_whole):
            return False
        one, other = self.turns[-1].tools, known.turns[-1].tools
        return one == other or bool(one & other) or self.longest >= _SHORT and bool(self.tools | known.tools)


def _are_long(*passages: _Passage) -> bool:
    """Whether each of these says more than what anybody may say."""
    return all(passage.longest >= _LONG for passage in passages)


def _user_turns(messages: Sequence[Message], wanted: Iterable[str]) -> list[_UserTurn]:
    """The turns of a conversation's user; `wanted` are tools that are to be called after all messages."""
    turns = []
    places = [place for place, message in enumerate(messages) if message.role == "user"]
    for place, end in itertools.pairwise([*places, len(messages)]):
        text = messages[place].content
        tools = {call.name for message in messages[place:end] for call in message.calls}
        turns.append(_UserTurn(text, len(_words(text)), frozenset(tools.union(wanted if end == len(messages) else ()))))
    return turns


def _core(turns: Sequence[_UserTurn]) -> tuple[int, int]:
    """Where the turns begin and end that are not short; all of them where there is none."""
    places = [place for place, turn in enumerate(turns) if turn.num_words >= _SHORT]
    return (places[0], places[-1] + 1) if places else (0, len(turns))


def _spans(turns: Sequence[_UserTurn]) -> set[int]:
    """How many turns the passages have that stand for a whole conversation."""
    start, end = _core(turns)
    return {len(turns), end, end - start}


def _passages(turns: Sequence[_UserTurn], lengths: Iterable[int]) -> Iterator[_Passage]:
    """The passages of so many turns."""
    core = _core(turns)
    for length in sorted(length for length in lengths if 0 < length <= len(turns)):
        for start in range(len(turns) - length + 1):
            end = start + length
            yield _Passage(
                turns[start:end],
                start,
                is_whole=length == len(turns),
                is_core=(start, end) == core,
                is_opening=(start, end) == (0, core[1]),
            )


def _is_said_in(texts: Sequence[str], others: Sequence[str], share: float) -> bool:
    """Whether each of these texts is found in the others: that share of its trigrams, or all but one of its words."""
    grams = _grams(_words("\n".join(others)))
    return all(_is_text_said_in(text, others, grams, share) for text in texts)


def _is_text_said_in(text: str, others: Sequence[str], grams: frozenset[str], share: float) -> bool:
    own = _grams(_words(text))
    if own and len(own & grams) >= share * len(own):
        return True
    return any(_key(_words(text)) == _key(_words(other)) or _differ_by_a_word(text, other) for other in others)


def _differ_by_a_word(one: str, other: str) -> bool:
    """Whether one text becomes the other where one word is changed, added or left out."""
    shorter, longer = sorted((_words(one), _words(other)), key=len)
    if len(longer) - len(shorter) > 1:
        return False
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(shorter, longer, strict=False)))
    return shorter[same + (len(shorter) == len(longer)) :] == longer[same + 1 :]


class NearDuplicates:
    """Finds traces that say almost what an earlier one says, and answer it alike.

    The users' whole sides are compared, each turn of which must be found in the other; the calls before the answer are
    the same. Where the answer is another one, for a single other number, both are worth learning from, however alike
    they are.

    Args:
        jaccard: share of common word trigrams from which two conversations say almost the same.
    """

    def __init__(self, jaccard: float = NEAR_DUPLICATE_JACCARD) -> None:
        self.jaccard = jaccard
        self._index = WordingIndex(jaccard)
        self._answers: dict[str, tuple[tuple[str, ...], str]] = {}
        self._turns: dict[str, tuple[str, ...]] = {}

    def add(self, trace: Trace) -> None:
        """Remember a trace; its id is its own."""
        texts = user_texts(trace)
        self._answers[trace.id] = _called(trace), trace.meta.category
        if len(texts) > 1:  # the index has the others' only turn
            self._turns[trace.id] = tuple(texts)
        self._index.add(trace.id, "\n".join(texts))

    def find(self, trace: Trace) -> Similar | None:
        """The most similar of the remembered traces that this one nearly repeats, or None."""
        texts = user_texts(trace)
        for like in self._index.find("\n".join(texts)):
            others = self._turns.get(like.id, (like.text,))
            is_said = _is_said_in(texts, others, self.jaccard) and _is_said_in(others, texts, self.jaccard)
            if is_said and _answers_alike(*self._answers[like.id], trace):
                return like
        return None


def _called(trace: Trace) -> tuple[str, ...]:
    """The calls of each answer, the last one's too where it makes none."""
    return tuple(
        message.model_dump_json(include={"role", "tool_calls"})
        for place, message in enumerate(trace.messages, 1)
        if message.tool_calls or place == len(trace.messages)
    )


def _answers_alike(called: Sequence[str], category: str, other: Trace) -> bool:
    """Whether a trace makes the same calls all along, and calls none at the end for the same kind of reason."""
    others = _called(other)
    if len(called) != len(others) or not (other.answer.calls or category == other.meta.category):
        return False
    pairs = zip(called, others, strict=True)
    return all(
        one == another or same_calls(*(Message.model_validate_json(text).calls for text in (one, another)))
        for one, another in pairs
    )


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
    key = _key(words)
    grams = _grams(words)
    signature = _BLANK.copy()
    signature.update_batch([gram.encode() for gram in grams])
    return _Wording(key, grams, signature)


def _words(text: str) -> list[str]:
    return request_key(text).split()


def _key(words: Sequence[str]) -> str:
    return " ".join(sorted(set(words)) if len(words) < _SHORT else words)


def _grams(words: Sequence[str]) -> frozenset[str]:
    return frozenset(" ".join(words[start : start + 3]) for start in range(len(words) - 2))


def _jaccard(grams: frozenset[str], others: frozenset[str]) -> float:
    """The share of common elements; 0 where there are none at all."""
    return len(grams & others) / max(1, len(grams | others))


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
