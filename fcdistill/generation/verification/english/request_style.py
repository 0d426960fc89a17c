"""Whether a text can be what a user says to an assistant, by its wording alone.

English only. It knows neither tools nor values, and reads no meaning: a request is refused only where its words can
hardly be one, such as plain statements ("The kitchen is at 21 degrees.") or the assistant's own voice.
"""

import re

from fcdistill.generation.verification.english.words import words_of

__all__ = ["refers_back", "request_problem"]

_MAX_WORDS = 60
_ASSISTANT_START = re.compile(
    r"(i'm (sorry|starting|setting|going|not sure|turning|locking|playing|sending|adding)|i am (sorry|an ai)"
    r"|i('ll| will|'ve) |sure[,.! ]|of course|okay[,.! ]|here('s| is| are) |starting |certainly|as an ai|ringing "
    r"|yes[,.! ]|you've (already )?\w+ed |you('ve| have) already |i can't (assist|do|help) "
    r"|i can (?!almost |already |also |barely |feel |finally |hardly |hear |never |not |only |see |smell |still |tell )"
    r"|do you (need|want) )"
)
_ASSISTANT_ANYWHERE = re.compile(
    r"\b(would you (like|prefer|need)|do you want me|let me know (if|why)|how (can|may) i (help|assist)"
    r"|i can't do (that|this|it)|anything else i can|i can \w+[^.!?]* for you)\b"
)
_DECLINES = re.compile(r"(no need|do not|don't (?!let|forget)|i (don't|do not) need)\b")
_TWICE = re.compile(r"\S ([a-z]{3,})(?: the| a)? \1\b")
_CLAUSE_END = re.compile(r"[,;:!?]\s|[.!?]+(?:\s|$)|\s[-–—]\s|\b(?:because|since|while)\b")
_COMMAND = re.compile(
    r"\b(?:and|but|so|then|also|plus) (?:then |also |just )?(?:add|ask|book|bring|buy|call|cancel"
    r"|change|check|clean|close|create|do|find|get|give|go|help|keep|leave|let|lock|look|make|open|order|pause|play|put|read|ring|run|say|send|set|show"
    r"|start|stop|switch|take|tell|turn|unlock|update|use|wake|write)\b"
)
_ASKS = re.compile(
    r"\?|\b(please|pls|plz|want|need|needs|wish|would|could|can you|will you|like to|love|let's|lets|remind|must"
    r"|should|out of|looking for|hope|fancy|time (to|for)|how|what|when|where|which|who|whether|if)\b"
    r"|\b(have|has|got) to\b|\bdon't (let|forget)\b|\w'd (like|better)\b"
)
_STATES = re.compile(
    r"((it|that|there|he|she|i|we|you|they)('(s|re|m|ll|ve)| have| had)\b"
    r"|(?!.*\b(that|whatever|once|something|than)\b)\S.*?\s(is|are|was|were|isn't|aren't|wasn't|will|won't|can't)\b)"
)
_ATTACHED = frozenset(
    "a also an and as at but by for from in just maybe of on only or perhaps plus quite so some to too very when "
    "where which who with".split()
)
"""A clause that starts so belongs to the one before it, unless it is a command."""
_REFERENCE = re.compile(r"\b(?:it|result|same|that|them|these|this|those|whatever|you (?:find|found))\b", re.IGNORECASE)
_QUESTION_START = re.compile(r"(is|are|was|were|will|can|has|have|had|do|does|did|isn't|aren't|what|how|who|where)\b")


def request_problem(text: str, *, asks: bool) -> str:
    """Why a text can't be what a user says; empty where nothing speaks against it.

    Args:
        text: one text of a user.
        asks: whether it is to ask for something; small talk need not.
    """
    words = words_of(text)
    plain = text.strip().replace("’", "'").casefold()
    twice = _TWICE.search(plain)
    if not words:
        return "the request is empty"
    if "\n" in text.strip():
        return "the request has more than one line"
    if len(words) > _MAX_WORDS:
        return f"the request has {len(words)} words; at most {_MAX_WORDS} are allowed"
    if _ASSISTANT_START.match(plain) or _ASSISTANT_ANYWHERE.search(plain):
        return "the request speaks as the assistant"
    if asks and _DECLINES.match(plain):
        return "the request asks for something not to be done"
    if twice is not None:
        return f"the request says {twice[1]!r} twice in a row"
    if asks and _only_states(plain):
        return "the request states something and asks for nothing"
    return ""


def refers_back(text: str) -> bool:
    """Whether a text refers to something that it does not say."""
    return _REFERENCE.search(text) is not None


def _only_states(plain: str) -> bool:
    """Whether every clause tells a fact: none is a command, a question, a wish or a fragment."""
    if _ASKS.search(plain) or _COMMAND.search(plain):
        return False
    clauses = [clause.strip() for clause in _CLAUSE_END.split(f"{plain} ") if clause.strip(" .!?")]
    own = [clause for clause in clauses if clause.split()[0] not in _ATTACHED]
    return bool(own) and all(_STATES.match(clause) and not _QUESTION_START.match(clause) for clause in own)
