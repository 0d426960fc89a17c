"""Requests that lack a value, made from requests that have it.

A small teacher can't be told to leave something out; it can write a whole request, and the words of one value are cut
from that: "dim the office light to 30 percent" becomes "dim the office light". English only.
"""

from datetime import datetime

from fcdistill.generation.grounding import Grounder
from fcdistill.records import ToolCall

__all__ = ["without_value"]

_ARTICLES = frozenset("a an the my our this that".split())
_PREPOSITIONS = frozenset("in at to of for on about around by from into till until round through".split())
_UNITS = frozenset("degrees degree percent celsius am pm a.m p.m o'clock".split())
_ENDS = ",.!?;:"
_LONGEST_PHRASE = 8
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
    kept = tokens[:start] + tokens[end:]
    if ending and start:
        kept[start - 1] = kept[start - 1].rstrip(_ENDS) + ending
    return " ".join(kept) if len(kept) >= _FEWEST_WORDS else None


def _ending(token: str) -> str:
    """The punctuation that a token ends with, if any."""
    return token[-1] if token[-1] in _ENDS else ""
