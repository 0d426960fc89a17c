"""What a request and its calls do not share, in both directions.

A value is said where one of its heard forms stands in the request. What the request says beyond that counts too:
numbers, halves and quarters, and the known choices of the called tools. Which words say which value is not decided
beyond doubt: two rooms and two brightnesses may be swapped without notice. Nothing here judges; `verify` does.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fcdistill.catalog import Catalog
from fcdistill.generation.money import in_other_currencies, money_forms
from fcdistill.generation.parameters import resolve_schema
from fcdistill.generation.phrasing import heard_forms
from fcdistill.generation.times import clock_forms, clock_of, date_forms, day_forms, moment, offset_forms
from fcdistill.generation.values import ValueBook
from fcdistill.generation.words import Word, find, format_number, words_of
from fcdistill.records import ToolCall, ToolSpec

__all__ = ["Grounder", "Grounding"]

_LATE = {"pm", "evening", "afternoon", "tonight", "night"}
_EARLY = {"am", "morning"}
_FUNCTION_WORDS = frozenset(
    "a an and at by down for from in into no of off on or out over the to under up with".split()
)
"""Too common to mean a choice, even where one is said so: "on", "off"."""
_FRACTIONS = {"half", "quarter"}
_CLOSED = {"enum", "format", "pattern"}
"""Keywords of texts that are no free texts."""


@dataclass(frozen=True)
class Grounding:
    """What request and calls do not share.

    Attributes:
        unsaid: (index of the call, path, value) that the request does not say.
        numbers: numbers of the request that no argument holds.
        choices: (path, value, phrase) of known values that the request says and no argument holds.
        shared: numbers that the request says less often than different arguments hold them, with these arguments.
    """

    unsaid: list[tuple[int, str, Any]]
    numbers: list[str]
    choices: list[tuple[str, Any, str]]
    shared: list[str]


@dataclass(frozen=True)
class Grounder:
    """Compares requests with calls, for one catalogue and what the team says about its values."""

    catalog: Catalog
    book: ValueBook

    def compare(self, request: str, calls: Sequence[ToolCall], now: datetime | None) -> Grounding:
        """What a request says and its calls do not hold, and the other way round.

        Args:
            request: the user's text.
            calls: calls of the catalogue's tools.
            now: the current time that the request's context gives, if it does.
        """
        words = words_of(request)
        claims = _Claims()
        unsaid: list[tuple[int, str, Any]] = []
        for index, call in enumerate(calls):
            parameters = self.catalog.by_name[call.name].parameters
            properties = resolve_schema(parameters, parameters).get("properties", {})
            for name, value in call.arguments.items():
                path = f"{call.name}.{name}"
                entry = self.book.entry(path, value)
                missing = self._claim(words, value, path, properties.get(name, {}), parameters, now, claims)
                if entry is None or not any(other in call.arguments for other in entry.implied_by):
                    unsaid += [(index, part, inner) for part, inner in missing]
        unsaid += self._echoes(words, calls, claims)
        numbers = [
            word.text
            for place, word in enumerate(words)
            if place not in claims.words and (_states_number(word) or _states_fraction(words, place))
        ]
        choices = [
            (path, value, form)
            for name in dict.fromkeys(call.name for call in calls)
            for path, value in self._choices(name, calls)
            for form in heard_forms(value, path, {}, self.book, None)
            if self._is_left_over(words_of(form), words, claims.words)
        ]
        return Grounding(unsaid, numbers, choices, list(claims.shared()))

    def _echoes(
        self, words: Sequence[Word], calls: Sequence[ToolCall], claims: "_Claims"
    ) -> Iterator[tuple[int, str, Any]]:
        """Optional free texts that only repeat what other arguments say: a timer of 240 seconds named "240 seconds"."""
        for index, call in enumerate(calls):
            root = resolve_schema(
                self.catalog.by_name[call.name].parameters, self.catalog.by_name[call.name].parameters
            )
            for name, value in call.arguments.items():
                schema = resolve_schema(root.get("properties", {}).get(name, {}), root)
                path = f"{call.name}.{name}"
                if not isinstance(value, str) or name in root.get("required", ()) or _CLOSED & schema.keys():
                    continue
                own = {index for place in find(words_of(value), words, self._distinct) for index in place}
                others = {index for other, places in claims.by_path.items() if other != path for index in places}
                if own and own <= others:
                    yield index, path, value

    @functools.cached_property
    def _distinct(self) -> frozenset[str]:
        """Words of the catalogue's choices and of the team's values: none of them is a slip of another."""
        listed = [(path, entry.value) for path, entries in self.book.entries.items() for entry in entries]
        listed += [choice for spec in self.catalog.specs for choice in _enumerated(spec)]
        forms = (form for path, value in listed for form in heard_forms(value, path, {}, self.book, None))
        return frozenset(word.text for form in forms for word in words_of(form))

    def _choices(self, tool: str, calls: Sequence[ToolCall]) -> Iterator[tuple[str, Any]]:
        """Path and value of what a call of this tool might hold.

        That is every enum member, and for a required parameter that the calls lack (a clarify request) whatever the
        book lists.
        """
        spec = self.catalog.by_name[tool]
        yield from _enumerated(spec)
        given = {name for call in calls if call.name == tool for name in call.arguments}
        for name in resolve_schema(spec.parameters, spec.parameters).get("required", ()):
            prefix = f"{tool}.{name}"
            for path, entries in self.book.entries.items():
                if name not in given and (path == prefix or path.startswith(f"{prefix}.")):
                    yield from ((path, entry.value) for entry in entries)

    def _is_left_over(self, phrase: Sequence[Word], words: Sequence[Word], claimed: set[int]) -> bool:
        if len(phrase) == 1 and phrase[0].text in _FUNCTION_WORDS:
            return False
        return any(not claimed.intersection(place) for place in find(phrase, words, self._distinct))

    def _claim(
        self,
        words: Sequence[Word],
        value: Any,
        path: str,
        schema: Any,
        root: Mapping[str, Any],
        now: datetime | None,
        claims: "_Claims",
    ) -> list[tuple[str, Any]]:
        """Mark the words that say a value; return what of it is not said, as (path, value)."""
        schema = resolve_schema(schema, root)
        forms = heard_forms(value, path, schema, self.book, now)
        places = self._places(value, schema, forms, words, now)
        claims.add(path, value, places)
        if isinstance(value, list) and value:
            items = schema.get("items", {})
            rest = [unsaid for item in value for unsaid in self._claim(words, item, path, items, root, now, claims)]
            return [] if places else rest
        if places:
            return []
        if isinstance(value, dict) and value and (not forms or self._is_money_apart(value, words)):
            properties = schema.get("properties", {})
            return [
                rest
                for key, inner in value.items()
                for rest in self._claim(words, inner, f"{path}.{key}", properties.get(key, {}), root, now, claims)
            ]
        return [(path, value)]

    def _is_money_apart(self, value: Mapping[str, Any], words: Sequence[Word]) -> bool:
        """Whether a sum of money may be said by number and currency apart, as tool results and "5, in euros" do.

        It may not where that number stands beside another currency.
        """
        others = in_other_currencies(value)
        return bool(others) and not any(find(words_of(form), words) for other in others for form in money_forms(other))

    def _places(
        self, value: Any, schema: Mapping[str, Any], forms: Sequence[str], words: Sequence[Word], now: datetime | None
    ) -> list[range]:
        """Where the request says a value as a whole."""
        when = moment(value, schema)
        if when is not None and schema["format"] == "date":
            return _day_places(date_forms(when.date(), now), words)
        if when is not None:  # day and time may stand apart
            days = _day_places(day_forms(when, now), words)
            times = _clock_places((when.hour, when.minute), words)
            if days and times:
                return [*days, *times]
            forms = list(offset_forms(when - now)) if now is not None else []
        clock = clock_of(value)
        if clock is not None:
            return _clock_places(clock, words)
        return [place for form in forms for place in find(words_of(form), words, self._distinct)]


@dataclass
class _Claims:
    """Which words of a request say a value.

    Attributes:
        by_path: indices of the words that say the values of each parameter.
        words: indices of all words that do.
        phrases: of those in texts, times and durations.
        numbers: per number the arguments that hold it, each with the places that say it.
    """

    by_path: dict[str, set[int]] = field(default_factory=dict)
    words: set[int] = field(default_factory=set)
    phrases: set[int] = field(default_factory=set)
    numbers: dict[float, dict[str, set[int]]] = field(default_factory=dict)

    def add(self, path: str, value: Any, places: Sequence[range]) -> None:
        indices = {index for place in places for index in place}
        self.words |= indices
        self.by_path.setdefault(path, set()).update(indices)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.phrases |= indices
        elif places:
            self.numbers.setdefault(value, {}).setdefault(path, set()).update(place.start for place in places)

    def shared(self) -> Iterator[str]:
        """A 20 that is said once can't be a brightness and a volume, nor the 20 of 20 minutes and a brightness."""
        for value, places in self.numbers.items():
            if len(set().union(*places.values()) - self.phrases) < len(places):
                phrase = " and part of a phrase" if len(places) == 1 else ""
                yield f"{format_number(value)} ({', '.join(places)}{phrase})"


def _enumerated(spec: ToolSpec) -> Iterator[tuple[str, Any]]:
    """Parameter path and value of every enum member at the top level and in arrays."""
    root = spec.parameters
    for name, schema in resolve_schema(root, root).get("properties", {}).items():
        schema = resolve_schema(schema, root)
        schema = resolve_schema(schema.get("items", schema), root)
        for value in schema.get("enum", []):
            yield f"{spec.name}.{name}", value


def _states_number(word: Word) -> bool:
    # "one" hardly ever is a number: "this one", "one of them".
    return word.is_number and not (word.spelled_out and word.text == "1")


def _states_fraction(words: Sequence[Word], place: int) -> bool:
    """Whether a half or a quarter changes a value: "an hour and a half", "half past 7", "quarter of an hour"."""
    if words[place].text not in _FRACTIONS:
        return False
    before = [word.text for word in words[max(0, place - 2) : place]]
    after = words[place + 1] if place + 1 < len(words) else None
    follows = after is not None and (after.is_number or after.text in ("past", "to", "a", "an", "of"))
    return follows or before[-1:] == ["and"] or before == ["and", "a"]


def _day_places(forms: Iterable[str], words: Sequence[Word]) -> list[range]:
    """Where a day is said; the "tomorrow" of "the day after tomorrow" is not."""
    places = [place for form in forms for place in find(words_of(form), words)]
    before = [[word.text for word in words[max(0, place.start - 2) : place.start]] for place in places]
    return [place for place, said in zip(places, before, strict=True) if said != ["day", "after"]]


def _clock_places(clock: tuple[int, int], words: Sequence[Word]) -> list[range]:
    """Where a time of day is said; a time without its half of the day counts where the sentence tells the half."""
    forms = clock_forms(*clock)
    whole = [place for form in forms.whole for place in find(words_of(form), words)]
    if whole:
        return whole
    said = {word.text for word in words}
    early, late = bool(said & _EARLY), bool(said & _LATE)
    hour = clock[0]
    if hour == 0 and not early:  # "at 12" is noon, where nothing else is said
        return []
    if hour == 12 and early and not late or hour < 12 and late and not early or hour > 12 and not late:
        return []
    return [place for form in forms.bare for place in find(words_of(form), words)]
