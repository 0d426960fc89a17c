"""Where a request says the values of its calls, and how another value is said in such a place.

Which values are to change, and what becomes of the request, is not known here.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fcdistill.generation.verification.english.words import spell_number
from fcdistill.generation.verification.languages.instants import moment
from fcdistill.generation.verification.spoken_forms import plain_forms, spoken_forms
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import ToolCall
from fcdistill.tools.parameters import resolve_schema

__all__ = ["Place", "Slot", "find_slots", "new_phrase", "put_at"]

_SPELLED = 0.2
"""Share of the new whole numbers that are said in words."""
_WHOLE_NUMBER = re.compile(r"(?<![\d.,:$£¥€₹])\d{1,3}(?![\d.,:]|th|st|nd|rd)")

Place = tuple[int, tuple[str | int, ...]]
"""Number of a call, and the steps to an object or array in its arguments."""


@dataclass(frozen=True)
class Slot:
    """Where a request says a value: `text[start:end]` says what stands at `steps` of call number `call`."""

    call: int
    steps: tuple[str | int, ...]
    path: str
    schema: Mapping[str, Any]
    value: Any
    start: int
    end: int

    @property
    def place(self) -> Place:
        """The object or array that holds the value."""
        return self.call, self.steps[:-1]


def find_slots(text: str, calls: Sequence[ToolCall], verifier: Verifier, now: datetime | None) -> list[Slot]:
    """The places that say a value, each value once and no place twice."""
    found: list[Slot] = []
    for index, call in enumerate(calls):
        root = verifier.catalog.by_name[call.name].parameters
        properties = resolve_schema(root, root).get("properties", {})
        for name, value in call.arguments.items():
            path = f"{call.name}.{name}"
            entry = verifier.book.entry(path, value)
            if entry is None or not any(other in call.arguments for other in entry.implied_by):
                schema = properties.get(name, {})
                found += _slots_of(text, value, (name,), path, schema, root, verifier.book, now, index)
    free: list[Slot] = []
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
) -> Iterator[Slot]:
    schema = resolve_schema(schema, root)
    if isinstance(value, bool):
        return
    place = _only_place(text, spoken_forms(value, path, schema, book, now))
    if place is not None:
        yield Slot(call, steps, path, schema, value, *place)
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


def new_phrase(
    value: Any, slot: Slot, before: str, book: ValueBook, now: datetime | None, generator: random.Random
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


def put_at(arguments: Any, steps: Sequence[str | int], value: Any) -> None:
    """Make a value stand where these steps lead in the arguments of a call."""
    for step in steps[:-1]:
        arguments = arguments[step]
    arguments[steps[-1]] = value
