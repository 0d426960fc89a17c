"""Requests that lack a value, made from requests that have it.

A small teacher can't be told to leave something out; it can write a whole request, and the words of one value are cut
from that: "dim the office light to 30 percent" becomes "dim the office light". English only.
"""

from collections.abc import Sequence
from datetime import datetime

from fcdistill.generation.verification.english.english_pack import ENGLISH
from fcdistill.generation.verification.grounding import Grounder
from fcdistill.records import ToolCall

__all__ = ["without_value"]

_ARTICLES = frozenset("a an the my our this that".split())
_PREPOSITIONS = frozenset("in at to of for on about around by from inside into till until round through".split())
_UNITS = frozenset("degrees degree percent celsius am pm a.m p.m o'clock".split())
_ENDS = ",.!?;:"
_WANTS_MORE = frozenset(
    "add all am and any are aren't as be been both bring but buy called can could did do does each every find "
    "get give got had has have he hear her him how i i'll i'm is isn't it it's know like love many may me might "
    "more much must named need needs or put see shall she should so some take than that's them there's they too "
    "us very want wants was we we'll we're were what which will with would".split()
)
"""Words after which nothing may be cut: "I need ... from the shop", "can you ... the music"."""
_NAMES = frozenset("called ending ends labeled labelled named titled".split())
"""Words that are nothing without the name or number behind them, with a preposition between or without."""
_CANNOT_START = frozenset("are is was were will and or but than back".split())
"""With prepositions and articles: words that no request starts with, once its first words are cut."""
_TOO_COMMON = _ARTICLES | _PREPOSITIONS | _WANTS_MORE
_PARTICLES = frozenset("on off up down out in over".split())
"""Words of verbs: nothing is a sentence without them, unless they stand at its end."""
_LONGEST_PHRASE = 8
_LONGEST_NOUN = 5
"""Longer words that end as "bed" does are mostly what is done to something."""
_FEWEST_WORDS = 2


def without_value(grounder: Grounder, request: str, call: ToolCall, name: str, now: datetime | None) -> str | None:
    """The request without the words that say one argument, or None where no whole phrase can be cut.

    Args:
        grounder: knows how values are said.
        request: a request that says all arguments of the call.
        call: its call.
        name: the argument to cut.
        now: the current time of the request's context, if it has one.
    """
    tokens = request.split()
    sought = [ToolCall(name=call.name, arguments={name: call.arguments[name]})]
    found = next(
        (
            (start, start + size)
            for size in range(1, min(_LONGEST_PHRASE, len(tokens)) + 1)
            for start in range(len(tokens) - size + 1)
            if not grounder.compare(" ".join(tokens[start : start + size]), sought, now).unsaid
        ),
        None,
    )
    if found is None:
        return None
    start, end = found
    while end < len(tokens) and not _ending(tokens[end - 1]) and tokens[end].rstrip(_ENDS + "%").casefold() in _UNITS:
        end += 1
    ending = _ending(tokens[end - 1])
    before = [token.casefold() for token in tokens[:start]]
    article = bool(before) and before[-1] in _ARTICLES
    preposition = len(before) > article and before[-1 - article] in _PREPOSITIONS
    whole = bool(ending) or end == len(tokens) or tokens[end].casefold() in (_PREPOSITIONS | {"and", "please"})
    if preposition and whole:
        start -= 1 + article
    elif article and whole:  # "vacuum the kitchen"; but of "the kitchen light" the article stays
        start -= 1
    if not _leaves_a_sentence(tokens, start, end):
        return None
    kept = tokens[:start] + tokens[end:]
    if ending and start:
        kept[start - 1] = kept[start - 1].rstrip(_ENDS) + ending
    left = " ".join(kept).rstrip(",;:")
    told = {word.text for word in ENGLISH.words(str(call.arguments[name])) if not word.is_number}
    kept_words, named = ({word.text for word in ENGLISH.words(text)} for text in (left, name))
    spoilt = told & kept_words - named - _TOO_COMMON
    return left if len(kept) >= _FEWEST_WORDS and not spoilt else None


def _leaves_a_sentence(tokens: Sequence[str], start: int, end: int) -> bool:
    """Whether the words around a cut still go together."""
    cut = [token.strip(_ENDS).casefold() for token in tokens[start:end]]
    before = tokens[start - 1].casefold() if start else ""
    after = tokens[end].strip(_ENDS).casefold() if end < len(tokens) else ""
    closed = bool(_ending(tokens[end - 1])) or end == len(tokens)
    if not start:
        return after not in (_CANNOT_START | _PREPOSITIONS | _ARTICLES | _WANTS_MORE | {"on"})
    if _ending(before):
        return after not in _PREPOSITIONS
    if before in _NAMES:
        return False
    if cut[0] in _PREPOSITIONS and after != "of":
        return True
    if before.replace("’", "'") in _WANTS_MORE or before.endswith(("'m", "'s", "'ll", "'re")) or after == "of":
        return False
    if before in _ARTICLES:  # "the office lamp" is a lamp still, "the quickly" is nothing
        return (
            not closed
            and not after.endswith(("ly", "self"))
            and not (after.endswith("ed") and len(after) > _LONGEST_NOUN)  # "have the kitchen vacuumed"
            and after not in _PREPOSITIONS | _PARTICLES | _WANTS_MORE | {"please"}
        )
    if before in _PREPOSITIONS | {"you", "your", "please"}:
        return False
    return closed or not set(cut) <= _PARTICLES


def _ending(token: str) -> str:
    """The punctuation that a token ends with, if any."""
    return token[-1] if token[-1] in _ENDS else ""
