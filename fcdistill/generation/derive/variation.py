"""More requests of the same wording: verified requests with other values.

A verified request says each value of its calls, and where. Other values, said in the same places, make another request
whose right calls are known; no teacher is needed, and the result passes the same checks as any other. A student that
sees one wording with many values learns to copy them instead of learning them by heart. What there is little of, such
as calls with several optional arguments, which teachers tend to leave out, is varied most.
"""

import copy
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from fcdistill.generation.dataset.dedupe import request_key, request_text
from fcdistill.generation.dataset.turns import has_one_request
from fcdistill.generation.journal.spool import Traces
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.plan import time_of_context
from fcdistill.generation.teacher.prompter import add_typos
from fcdistill.generation.verification.english.words import spell_number
from fcdistill.generation.verification.ladder import derived_trace, mistyped_request
from fcdistill.generation.verification.languages.instants import moment
from fcdistill.generation.verification.spoken_forms import plain_forms, spoken_forms
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Check, Message, ModelRef, ToolCall, Trace, TraceMeta
from fcdistill.tools.parameters import resolve_schema

__all__ = ["vary_traces"]

_CHANGED, _SPELLED, _MISTYPED = 0.8, 0.2, 0.15
"""Shares: of the values that change, of the new whole numbers in words, of the requests with slips of the finger."""
_FRUITLESS_ROUNDS = 8
"""As many tries as this times the traces without a new request, and none is to be expected."""
_DRAWN_AT_ONCE = 64
_WHOLE_NUMBER = re.compile(r"(?<![\d.,:$£¥€₹])\d{1,3}(?![\d.,:]|th|st|nd|rd)")

_Place = tuple[int, tuple[str | int, ...]]
"""Number of a call, and the steps to an object or array in its arguments."""


@dataclass(frozen=True)
class _Slot:
    """Where a request says a value: `text[start:end]` says what stands at `steps` of call number `call`."""

    call: int
    steps: tuple[str | int, ...]
    path: str
    schema: Mapping[str, Any]
    value: Any
    start: int
    end: int

    @property
    def place(self) -> _Place:
        """The object or array that holds the value."""
        return self.call, self.steps[:-1]


def vary_traces(
    traces: Traces,
    verifier: Verifier,
    sampler: ArgumentSampler,
    *,
    count: int,
    seed: int,
    cut: Mapping[str, ToolCall] = MappingProxyType({}),
) -> Iterator[Trace]:
    """Up to `count` traces that repeat the wording of verified ones with other values.

    Args:
        traces: verified traces; of those that answer one request with calls, or are in `cut`, the ones are used most
            whose tool and given arguments are rare.
        verifier: checks what is made; what fails is left out.
        sampler: draws the new values.
        count: most traces to make.
        seed: the same traces, sampler and seed give the same result.
        cut: by trace id the call that a clarify request asks for, without the argument that it lacks.
    """
    if count == 0:
        return
    generator = random.Random(seed)
    usable: list[int] = []
    known, balance = set(), _Balance()
    for place, trace in enumerate(traces):
        known.add(request_key(request_text(trace)))
        if (trace.answer.calls or trace.id in cut) and has_one_request(trace):
            usable.append(place)
            balance.add(trace.answer.calls or (cut[trace.id],))
    made, fruitless = 0, 0
    while made < count and fruitless < _FRUITLESS_ROUNDS * len(usable):
        for index in balance.draw(generator):
            trace = traces[usable[index]]
            calls = trace.answer.calls or (cut[trace.id],)
            varied = _varied(trace, calls, verifier, sampler, generator, f"varied-{made + 1:05d}")
            fruitless += 1
            if varied is not None and (key := request_key(request_text(varied))) not in known:
                known.add(key)
                balance.count(index)
                made, fruitless = made + 1, 0
                yield varied
            if made == count:
                return


class _Balance:
    """Draws traces to vary, so that all pairs of a tool and the arguments given to it come to be equally many."""

    def __init__(self) -> None:
        self._cells: list[frozenset[tuple[str, ...]]] = []
        self._known: dict[frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]] = {}
        self._in_cell = Counter[tuple[str, ...]]()
        self._tries = Counter[int]()

    def add(self, calls: Sequence[ToolCall]) -> None:
        """A trace with these calls may be drawn, by the next index."""
        cells = frozenset((call.name, *sorted(call.arguments)) for call in calls)
        self._cells.append(self._known.setdefault(cells, cells))
        self._in_cell.update(cells)

    def draw(self, generator: random.Random) -> list[int]:
        """Some indices, rare cells and traces that were seldom drawn before others."""
        rarity = [sum(1 / self._in_cell[cell] for cell in cells) / len(cells) for cells in self._cells]
        weights = [rare / (1 + self._tries[index]) for index, rare in enumerate(rarity)]
        drawn = generator.choices(range(len(weights)), weights, k=min(_DRAWN_AT_ONCE, len(weights)))
        self._tries.update(drawn)
        return drawn

    def count(self, index: int) -> None:
        """A trace was varied."""
        self._in_cell.update(self._cells[index])


def _varied(
    trace: Trace,
    calls: Sequence[ToolCall],
    verifier: Verifier,
    sampler: ArgumentSampler,
    generator: random.Random,
    identity: str,
) -> Trace | None:
    text, question, context = request_text(trace), trace.answer.content, trace.messages[:-2]
    now = time_of_context(context[0].content) if context else None
    calls = [copy.deepcopy(call) for call in calls]
    changed = []
    slots = sorted(_slots(text, calls, verifier, now), key=lambda slot: slot.start, reverse=True)
    wholes = _drawn_wholes(slots, calls, verifier.book, generator)
    for slot in slots:  # from the end, so that earlier places stay where they are
        if slot.place in wholes:
            value = wholes[slot.place][slot.steps[-1]]
        elif generator.random() < _CHANGED:
            root = verifier.catalog.by_name[calls[slot.call].name].parameters
            value = sampler.value(slot.schema, slot.path, root)
        else:
            continue
        phrase = _phrase(value, slot, text[slot.start : slot.end], verifier.book, now, generator)
        if phrase is None or value == slot.value:
            continue
        question = _renamed(question, text[slot.start : slot.end], phrase)
        text = text[: slot.start] + phrase + text[slot.end :]
        _put(calls[slot.call].arguments, slot.steps, value)
        changed.append(slot.path)
    if not changed:
        return None
    checks = derived_trace(verifier, text, calls, now, is_whole=bool(trace.answer.calls))
    if not checks[-1].ok:
        return None
    if generator.random() < _MISTYPED:
        mistyped = add_typos(text, identity, verifier.free_words(calls))
        text = mistyped if mistyped_request(verifier, mistyped, calls, now)[-1].ok else text
    answer = Message.calling(calls) if trace.answer.calls else Message(role="assistant", content=question)
    return Trace(
        id=identity,
        messages=(*context, Message(role="user", content=text), answer),
        tools=trace.tools,
        split_group=trace.split_group,
        meta=TraceMeta(
            source="varied",
            category=trace.meta.category,
            plan_cell=f"varied/{trace.meta.plan_cell}",
            teacher=ModelRef(model="varied", params={"from": [trace.id]}),
            checks=(*checks, Check(name="varied", ok=True, detail=f"{', '.join(reversed(changed))} of {trace.id}")),
        ),
    )


def _drawn_wholes(
    slots: Sequence[_Slot], calls: Sequence[ToolCall], book: ValueBook, generator: random.Random
) -> dict[_Place, Mapping[str | int, Any]]:
    """The objects that are to stand at places for which the book lists whole ones: a street belongs to its city.

    It is the old one where its parts are not all said in so many words, or no listed one has just these parts.
    """
    drawn: dict[_Place, Mapping[str | int, Any]] = {}
    for place in dict.fromkeys(slot.place for slot in slots):
        call, steps = place
        parts = [slot for slot in slots if slot.place == place]
        listed = [value for value in book.values(parts[0].path.rpartition(".")[0]) if isinstance(value, dict)]
        if not listed:
            continue
        old: Any = calls[call].arguments
        for step in steps:
            old = old[step]
        alike = [value for value in listed if value.keys() == old.keys()] if len(parts) == len(old) else []
        drawn[place] = generator.choice(alike or [old])
    return drawn


def _slots(text: str, calls: Sequence[ToolCall], verifier: Verifier, now: datetime | None) -> list[_Slot]:
    """The places that say a value, each value once and no place twice."""
    found: list[_Slot] = []
    for index, call in enumerate(calls):
        root = verifier.catalog.by_name[call.name].parameters
        properties = resolve_schema(root, root).get("properties", {})
        for name, value in call.arguments.items():
            path = f"{call.name}.{name}"
            entry = verifier.book.entry(path, value)
            if entry is None or not any(other in call.arguments for other in entry.implied_by):
                schema = properties.get(name, {})
                found += _slots_of(text, value, (name,), path, schema, root, verifier.book, now, index)
    free: list[_Slot] = []
    for slot in sorted(found, key=lambda slot: slot.start - slot.end):
        if all(slot.end <= other.start or other.end <= slot.start for other in free):
            free.append(slot)
    return free


def _slots_of(
    text: str,
    value: Any,
    steps: tuple[str | int, ...],
    path: str,
    schema: Any,
    root: Mapping[str, Any],
    book: ValueBook,
    now: datetime | None,
    call: int,
) -> Iterator[_Slot]:
    schema = resolve_schema(schema, root)
    if isinstance(value, bool):
        return
    place = _only_place(text, spoken_forms(value, path, schema, book, now))
    if place is not None:
        yield _Slot(call, steps, path, schema, value, *place)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            items = schema.get("items", {})
            yield from _slots_of(text, item, (*steps, index), path, items, root, book, now, call)
    elif isinstance(value, dict):
        for key, inner in value.items():
            part = schema.get("properties", {}).get(key, {})
            yield from _slots_of(text, inner, (*steps, key), f"{path}.{key}", part, root, book, now, call)


def _only_place(text: str, forms: Sequence[str]) -> tuple[int, int] | None:
    """Where the longest of these forms that occurs stands, if it stands in one place only."""
    lowered = text.lower()
    # Of the thousands of forms of a date-time hardly any occurs; a pattern for each would take seconds.
    occurring = {form for form in forms if form.lower() in lowered}
    for form in sorted(occurring, key=len, reverse=True):
        pattern = rf"(?<![\w'-])(?<!\d[.,:]){re.escape(form)}(?![\w'-]|[.,:]\d)"
        places = [found.span() for found in re.finditer(pattern, text, re.IGNORECASE)]
        if places:
            return places[0] if len(places) == 1 else None
    return None


def _phrase(
    value: Any, slot: _Slot, before: str, book: ValueBook, now: datetime | None, generator: random.Random
) -> str | None:
    """How the new value is said where `before` said the old one; None where it does not fit in."""
    when = moment(value, slot.schema)
    if when is not None and now is not None and when <= now:
        return None
    forms = plain_forms(value, slot.path, slot.schema, book, now)
    old = book.entry(slot.path, slot.value)
    if old is not None and old.say and isinstance(value, str):
        # Phrases may be verbs, nouns or adverbs: those of equal length most likely replace one another.
        forms = [form for form in forms if len(form.split()) == len(before.split())]
    if not forms:
        return None
    phrase = generator.choice(forms)
    if generator.random() < _SPELLED and not isinstance(value, str):  # "14 Mill Lane" is a name as it stands
        phrase = _WHOLE_NUMBER.sub(lambda digits: spell_number(int(digits[0])), phrase)
    return phrase[0].upper() + phrase[1:] if slot.start == 0 and before[0].isupper() else phrase


def _renamed(text: str, before: str, after: str) -> str:
    return re.sub(rf"\b{re.escape(before)}\b", lambda _: after, text, flags=re.IGNORECASE)


def _put(arguments: Any, steps: Sequence[str | int], value: Any) -> None:
    for step in steps[:-1]:
        arguments = arguments[step]
    arguments[steps[-1]] = value
