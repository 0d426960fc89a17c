"""Conversations in which no result is heard, made from verified single requests without a teacher.

A request and its call are the first turn. What follows is put together from phrases of the language and a value: a
correction, the same again with another value, a value that was cut from the request before, another request. The last
call is right by construction, and every turn passes the checks that those of a teacher pass.
"""

import copy
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fcdistill.generation.dataset.dedupe import request_text
from fcdistill.generation.dataset.turns import conversation, conversation_key, has_one_request
from fcdistill.generation.derive.joining import within_sentence
from fcdistill.generation.derive.slots import Slot, find_slots, new_phrase, put_at
from fcdistill.generation.journal.spool import Traces
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.dialogues import kinds_in_turn
from fcdistill.generation.plan.plan import time_of_context
from fcdistill.generation.verification.clarifying import Lacking
from fcdistill.generation.verification.english.english_pack import ENGLISH
from fcdistill.generation.verification.english.follow_up_phrases import (
    FOLLOW_UPS,
    OTHER_OF_TWO,
    QUESTIONS,
    closes_talk,
    opens_talk,
)
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.ladder import (
    clarify_question,
    cut_request,
    derived_trace,
    follow_up_step,
    lacking_request,
    other_of_two_step,
    resumed_step,
)
from fcdistill.generation.verification.tool_topics import topic_of
from fcdistill.generation.verification.verifier import Verifier, without_arguments
from fcdistill.records import Check, ConversationKind, Message, ModelRef, ToolCall, Trace, TraceMeta
from fcdistill.tools.parameters import has_parameters

__all__ = ["continue_traces"]

_TRIES, _MOST_PASSED_OVER = 40, 2
"""After as many tries a kind is passed over; after as many times for every kind, no more are to be expected."""
_OTHER_OF_TWO = 0.5
"""Share of the requests for the same again that speak of "the other one", where there are just two."""
_ARTICLES = frozenset("a an the my our this that".split())
_PREPOSITIONS = frozenset("at by for from in into on onto to until with".split())
_UNITS = frozenset("degrees degree percent % celsius dollars euros pounds bucks minutes hours seconds".split())
_ENDS = ",.!?;:"


@dataclass(frozen=True)
class _Continued:
    """A conversation that may be made: its turns up to the answer, the answer, and the checks on all of them."""

    turns: tuple[Message, ...]
    answer: ToolCall
    checks: Sequence[Check]
    parts: tuple[Trace, ...]
    register: str


@dataclass(frozen=True)
class _NewValue:
    """Another value for one argument of a call, and how it is said.

    Attributes:
        name: of the argument.
        call: with the other value.
        said: the value with its article and unit.
        placed: the same behind its preposition.
        is_thing: whether it is said like a thing: with an article.
        is_repeatable: whether "the same for" it can be said: of a name, a number or what has a preposition, but not of
            what is done ("unlock", "wash the curtains").
    """

    name: str
    call: ToolCall
    said: str
    placed: str
    is_thing: bool
    is_repeatable: bool


def continue_traces(
    traces: Traces,
    verifier: Verifier,
    sampler: ArgumentSampler,
    *,
    count: int,
    shares: Mapping[ConversationKind, float],
    seed: int,
) -> Iterator[Trace]:
    """Up to `count` conversations that begin with verified requests for one call.

    Args:
        traces: verified traces; those that answer one request with one call are used, each tool's equally often.
        verifier: checks what is made; what fails is left out.
        sampler: draws the new values.
        count: most conversations to make.
        shares: of the kinds.
        seed: the same traces, sampler and seed give the same result.
    """
    if count == 0:
        return
    maker = _Maker(traces, verifier, sampler, random.Random(seed))
    kinds = kinds_in_turn(shares)
    known: set[str] = set()
    made, passed_over = 0, 0
    while made < count and passed_over < _MOST_PASSED_OVER * len(shares):
        kind = next(kinds)
        passed_over += 1
        for talk in filter(None, (maker.make(kind) for _ in range(_TRIES))):
            trace = _trace(talk, kind, f"continued-{made + 1:05d}", verifier)
            if (key := conversation_key(trace)) not in known:
                known.add(key)
                made, passed_over = made + 1, 0
                yield trace
                break


def _trace(talk: _Continued, kind: ConversationKind, identity: str, verifier: Verifier) -> Trace:
    first = talk.parts[0]
    tools = "+".join(dict.fromkeys(call.name for turn in talk.turns for call in turn.calls)) or talk.answer.name
    sources = [part.id for part in talk.parts]
    detail = f"{kind}: {' + '.join(sources)}"
    return Trace(
        id=identity,
        messages=conversation(_context(first), talk.turns, Message.calling([verifier.tidied(talk.answer)])),
        tools=first.tools,
        split_group=first.split_group,
        meta=TraceMeta(
            source="continued",
            category="simple",
            plan_cell=f"continued/{kind}/{tools}/{talk.register}",
            teacher=ModelRef(model="continued", params={"from": sources}),
            checks=(*talk.checks, Check(name="continued", ok=True, detail=detail)),
        ),
    )


class _Maker:
    """Makes single conversations from the traces of a generation.

    Args:
        traces: verified traces.
        verifier: checks what is made.
        sampler: draws new values.
        generator: of all other choices.
    """

    def __init__(self, traces: Traces, verifier: Verifier, sampler: ArgumentSampler, generator: random.Random) -> None:
        self._traces = traces
        self._verifier = verifier
        self._sampler = sampler
        self._random = generator
        self._by_tool: dict[str, list[int]] = {}
        self._social: dict[str, list[int]] = {}
        for place, trace in enumerate(traces):
            if has_one_request(trace) and len(trace.answer.calls) == 1:
                name = trace.answer.calls[0].name
                takes = has_parameters(verifier.catalog.by_name[name])
                (self._by_tool if takes else self._social).setdefault(name, []).append(place)

    def make(self, kind: ConversationKind) -> _Continued | None:
        """A conversation of a kind, each turn of which passed its checks; None where this try made none."""
        first = self._drawn(self._by_tool)
        if first is None:
            return None
        match kind:
            case "completed":
                return self._completed(first)
            case "corrected" | "carried_over":
                return self._changed(kind, first)
            case "switched":
                return self._switched(first)
            case "resumed":
                return self._resumed(first)
            case _:
                return self._with_small_talk(first)

    def _drawn(self, by_tool: Mapping[str, Sequence[int]], but: str = "") -> Trace | None:
        """A trace of any tool but one; each tool is as likely."""
        tools = [name for name in by_tool if name != but]
        return self._traces[self._random.choice(by_tool[self._random.choice(tools)])] if tools else None

    def _phrase(self, kind: ConversationKind) -> tuple[str, str]:
        """A register and a phrase of it."""
        phrases = FOLLOW_UPS[kind]
        register = self._random.choice(list(phrases))
        return register, self._random.choice(phrases[register])

    def _changed(self, kind: ConversationKind, first: Trace) -> _Continued | None:
        """A correction, or the same again: the first call with one other value."""
        (call,), text, now = first.answer.calls, request_text(first), _now(first)
        new = self._new_value(first)
        if new is None or kind == "carried_over" and not new.is_repeatable:
            return None
        register, phrase = self._phrase(kind)
        reply = phrase.format(said=new.said, placed=new.placed)
        checks = follow_up_step(self._verifier, text, reply, new.call, new.name, now)
        if kind == "carried_over" and new.is_thing and self._random.random() < _OTHER_OF_TWO:
            other = self._random.choice(OTHER_OF_TWO)
            by_other = other_of_two_step(self._verifier, text, other, call, new.call, new.name, now)
            if by_other[-1].ok and self._things(first) == 1:
                reply, checks, register = other, by_other, "casual"
        if not checks[-1].ok:
            return None
        turns = (_user(text), Message.calling([call]), _user(reply))
        return _Continued(turns, new.call, checks, (first,), register)

    def _completed(self, first: Trace) -> _Continued | None:
        """A request that lacks a value, the partial call or a question, and the value alone."""
        text, now = request_text(first), _now(first)
        new = self._new_value(first)
        if new is None:
            return None
        (call,) = first.answer.calls
        cut, checks = cut_request(self._verifier, text, call, new.name, now)
        if not checks[-1].ok:
            return None
        partial = without_arguments(call, {new.name})
        is_called = not self._verifier.validator.check_call(partial)
        checks += lacking_request(self._verifier, cut, call, new.name, now, is_called=is_called)
        if not checks[-1].ok:
            return None
        between = Message.calling([self._verifier.tidied(partial)])
        if not is_called:
            lacking = Lacking(call.name, new.name)
            question = self._random.choice(QUESTIONS).format(name=lacking.said)
            checks += clarify_question(self._verifier, cut, question, [lacking])
            between = Message(role="assistant", content=question)
        register, phrase = self._phrase("completed")
        reply = phrase.format(said=new.said)
        checks += follow_up_step(self._verifier, cut, reply, new.call, new.name, now, is_reply=not is_called)
        if not all(check.ok for check in checks):
            return None
        return _Continued((_user(cut), between, _user(reply)), new.call, checks, (first,), register)

    def _switched(self, first: Trace) -> _Continued | None:
        """An unrelated request after a call."""
        second = self._drawn(self._by_tool, first.answer.calls[0].name)
        if second is None or not _go_together(first, second):
            return None
        register, opener = self._phrase("switched")
        said = request_text(second)
        text = opener + (said if opener.endswith("? ") else within_sentence(said))
        checks = derived_trace(self._verifier, text, second.answer.calls, _now(first))
        if not checks[-1].ok:
            return None
        turns = (_user(request_text(first)), Message.calling(first.answer.calls), _user(text))
        return _Continued(turns, second.answer.calls[0], checks, (first, second), register)

    def _resumed(self, first: Trace) -> _Continued | None:
        """An unrelated request after a call, and then the first call again with another value."""
        talk, new = self._switched(first), self._new_value(first)
        topic = topic_of(first.answer.calls[0].name)
        if talk is None or new is None or not topic:
            return None
        register, phrase = self._phrase("resumed")
        reply = phrase.format(said=new.said, topic=topic)
        checks = resumed_step(self._verifier, request_text(first), reply, new.call, new.name, talk.answer, _now(first))
        if not checks[-1].ok:
            return None
        turns = (*talk.turns, Message.calling([talk.answer]), _user(reply))
        return _Continued(turns, new.call, [*talk.checks, *checks], talk.parts, register)

    def _with_small_talk(self, request: Trace) -> _Continued | None:
        """A greeting before a request, or thanks and the like after it, each of which is a call."""
        social = self._drawn(self._social)
        if social is None or not _go_together(request, social):
            return None
        name = social.answer.calls[0].name
        is_first = opens_talk(name) or not closes_talk(name) and self._random.random() < 0.5
        first, second = (social, request) if is_first else (request, social)
        checks = derived_trace(self._verifier, request_text(second), second.answer.calls, _now(request))
        if not checks[-1].ok:
            return None
        turns = (_user(request_text(first)), Message.calling(first.answer.calls), _user(request_text(second)))
        return _Continued(turns, second.answer.calls[0], checks, (request, social), "as written")

    def _new_value(self, trace: Trace) -> _NewValue | None:
        """Another value for one argument that the request says, or for the one item of a list."""
        (call,), text, now = trace.answer.calls, request_text(trace), _now(trace)
        slots = [slot for slot in find_slots(text, [call], self._verifier, now) if _is_whole(slot, call)]
        if not slots:
            return None
        slot = self._random.choice(slots)
        root = self._verifier.catalog.by_name[call.name].parameters
        value = self._sampler.value(slot.schema, slot.path, root)
        # In lower case, since it will not begin the sentence.
        before = text[slot.start : slot.end].lower()
        phrase = new_phrase(value, slot, before, self._verifier.book, now, self._random)
        if phrase is None or value == slot.value:
            return None
        changed = copy.deepcopy(call)
        put_at(changed.arguments, slot.steps, value)
        article, preposition = _before(text[: slot.start])
        nouns = {word.text for word in words_of(f"{slot.steps[0]} {topic_of(call.name)}")} if article else set()
        said = " ".join(filter(None, (article, phrase, _noun(text[slot.end :], nouns))))
        if phrase.split()[0].casefold() in _ARTICLES:
            said = said.removeprefix(article).strip()
        placed = f"{preposition or ('for' if isinstance(value, str) else 'with')} {said}"
        is_name = isinstance(value, str) and "enum" not in slot.schema and (" " not in phrase or phrase[0].isupper())
        is_repeatable = bool(article or preposition) or is_name or not isinstance(value, str)
        is_repeatable &= phrase.casefold() not in ENGLISH.function_words
        return _NewValue(str(slot.steps[0]), changed, said, placed, bool(article), is_repeatable)

    def _things(self, trace: Trace) -> int:
        """How many values of a request are said like things: "the other one" may be another of each."""
        text = request_text(trace)
        slots = find_slots(text, trace.answer.calls, self._verifier, _now(trace))
        return sum(bool(_before(text[: slot.start])[0]) for slot in slots)


def _is_whole(slot: Slot, call: ToolCall) -> bool:
    """Whether a slot says a whole argument, or the only item of a list."""
    value = call.arguments[str(slot.steps[0])]
    return len(slot.steps) == 1 or len(slot.steps) == 2 and isinstance(value, list) and len(value) == 1


def _before(text: str) -> tuple[str, str]:
    """Article and preposition at the end of a text, each empty where there is none."""
    words = text.casefold().split()
    article = words[-1] if words and words[-1] in _ARTICLES else ""
    rest = words[:-1] if article else words
    is_placed = bool(rest) and rest[-1] in _PREPOSITIONS and rest[-2:-1] not in (["ending"], ["ends"])
    return article, rest[-1] if is_placed else ""


def _noun(text: str, nouns: Collection[str]) -> str:
    """The unit, or one of these nouns, that a text begins with, if it does: the "light" of "the kitchen light"."""
    first = next(iter(text.split()), "").rstrip(_ENDS)
    is_noun = any(word.text in nouns for word in words_of(first))
    return first if text.startswith(" ") and (is_noun or first.casefold() in _UNITS) else ""


def _go_together(first: Trace, second: Trace) -> bool:
    """Whether one conversation can hold both: in one context, with tools that both show."""
    shown = {spec.name for spec in first.specs}
    return _context(second) in ("", _context(first)) and all(call.name in shown for call in second.answer.calls)


def _context(trace: Trace) -> str:
    return trace.messages[0].content if trace.messages[0].role == "system" else ""


def _now(trace: Trace) -> datetime | None:
    return time_of_context(_context(trace))


def _user(text: str) -> Message:
    return Message(role="user", content=text)
