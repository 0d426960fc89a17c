"""What a request and its calls do not share, in both directions.

A value is said where one of its heard forms stands in the request. What the request says beyond that counts too:
numbers, halves and quarters, quoted texts, days, and the known values of the called tools. Several calls, and the
objects of one list, must each have their words in a place of their own. Nothing here judges; `verifier` does.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fcdistill.generation.verification.english.english_pack import ENGLISH
from fcdistill.generation.verification.english.times import WEEKDAY_CODES
from fcdistill.generation.verification.languages.instants import clock_of, moment
from fcdistill.generation.verification.languages.language_pack import LanguagePack
from fcdistill.generation.verification.languages.word_places import Word, find
from fcdistill.generation.verification.leftovers import (
    leftover_days,
    leftover_numbers,
    leftover_quotes,
    numbers_without_a_place,
)
from fcdistill.generation.verification.spoken_forms import fixed_start, heard_forms, spoken_forms
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.generation.verification.word_claims import WordClaims, are_listed, are_mixed
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import resolve_schema
from fcdistill.tools.patterns import pattern_for

__all__ = ["Grounder", "Grounding", "doubts_of"]

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
        leftovers: quoted texts and days of the request that no argument holds, numbers that a text has swallowed, and
            what speaks against a value that is only implied.
        mixed: calls, and lists of objects, whose words stand among one another in the request.
    """

    unsaid: list[tuple[int, str, Any]]
    numbers: list[str]
    choices: list[tuple[str, Any, str]]
    shared: list[str]
    leftovers: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)


def doubts_of(sources: Grounding, uses: Grounding) -> list[str]:
    """What does not go together, in words, beside the values that nobody said.

    Args:
        sources: of all texts in which values may stand.
        uses: of the request, whose facts reach a call.
    """
    found = [f"said once for several arguments: {shared}" for shared in sources.shared]
    found += [f"in no argument: {number}" for number in uses.numbers]
    found += [f"in no argument: {form!r} ({path})" for path, _, form in uses.choices]
    return [*found, *(f"in no argument: {text}" for text in uses.leftovers)]


@dataclass(frozen=True)
class Grounder:
    """Compares requests with calls, for one catalogue and what the team says about its values.

    Attributes:
        catalog: the tools.
        book: the team's values.
        pack: the language of the requests.
    """

    catalog: Catalog
    book: ValueBook
    pack: LanguagePack = ENGLISH

    def compare(self, request: str, calls: Sequence[ToolCall], now: datetime | None) -> Grounding:
        """What a request says and its calls do not hold, and the other way round.

        Args:
            request: the user's text.
            calls: calls of the catalogue's tools.
            now: the current time that the request's context gives, if it does.
        """
        words = self.pack.words(request)
        starts = self.pack.clause_starts(request)
        claims = WordClaims(starts)
        each: list[WordClaims] = []
        unsaid: list[tuple[int, str, Any]] = []
        implied: list[tuple[str, Any]] = []
        for index, call in enumerate(calls):
            own = WordClaims(starts)
            parameters = self.catalog.by_name[call.name].parameters
            properties = resolve_schema(parameters, parameters).get("properties", {})
            for name, value in call.arguments.items():
                path = f"{call.name}.{name}"
                entry = self.book.entry(path, value)
                missing = self._claim(words, value, path, properties.get(name, {}), parameters, now, own)
                if entry is None or not any(other in call.arguments for other in entry.implied_by):
                    unsaid += [(index, part, inner) for part, inner in missing]
                elif missing:
                    implied.append((path, value))
            claims.take(own)
            each.append(own)
        unsaid += self._echoes(words, calls, claims)
        choices = [
            (path, value, form)
            for name in dict.fromkeys(call.name for call in calls)
            for path, value in self._choices(name, calls)
            for form in heard_forms(value, path, {}, self.book, None, self.pack)
            if self._is_left_over(self.pack.words(form), words, claims.words)
        ]
        leftovers = [
            *leftover_quotes(request, words, claims.words, self.pack),
            *leftover_days(words, calls, self.catalog, claims.words, self.pack),
            *numbers_without_a_place(calls, self.catalog, self.pack),
            *(text for path, value in implied for text in self._contradicting(words, path, value, claims.words)),
        ]
        is_mixed = are_mixed(each, words, self.pack) or self._are_one_list(calls, each, words)
        mixed = [" and ".join(dict.fromkeys(call.name for call in calls))] if is_mixed else []
        if len(calls) > 1 and _leaves_a_choice(words, claims.words, self.pack):
            leftovers.append("a choice ('or')")
        numbers = list(leftover_numbers(words, claims.words, self.pack))
        return Grounding(unsaid, numbers, choices, list(claims.shared()), leftovers, [*mixed, *claims.mixed])

    def _are_one_list(self, calls: Sequence[ToolCall], each: Sequence[WordClaims], words: Sequence[Word]) -> bool:
        """Whether calls of one tool are said as one list that need not be cut where they cut it.

        "Clean the office and the hallway quietly" says of both how, and one call could hold both.
        """
        return any(
            calls[one].name == calls[other].name
            and (calls[one].arguments.keys() != calls[other].arguments.keys() or _holds_a_list(calls[one]))
            and are_listed(each[one], each[other], words, self.pack)
            for one in range(len(calls))
            for other in range(len(calls))
        )

    def _contradicting(self, words: Sequence[Word], path: str, implied: Any, claimed: set[int]) -> Iterator[str]:
        """What speaks for another value than the one that other arguments imply: "off" beside a brightness."""
        for entry in self.book.entries.get(path, ()):
            if entry.value == implied:
                continue
            for form in spoken_forms(entry.value, path, {}, self.book, None, self.pack):
                if any(not claimed.intersection(place) for place in find(self.pack.words(form), words, self._distinct)):
                    yield f"{form!r} ({path})"

    def said_parameters(self, request: str, tool: str, now: datetime | None) -> set[str]:
        """Names of a tool's parameters for which a request may say a value, by kind where nothing lists the values."""
        found = self.compare(request, [ToolCall(name=tool, arguments={})], now)
        said = {path.split(".")[1] for path, _, _ in found.choices}
        root = self.catalog.by_name[tool].parameters
        properties = resolve_schema(root, root).get("properties", {})
        tokens = [token.strip(".,;:!?()") for token in request.split()]
        patterns = {
            name: schema for name, part in properties.items() if "pattern" in (schema := resolve_schema(part, root))
        }
        ids = {name: [token for token in tokens if _matches(token, schema)] for name, schema in patterns.items()}
        in_ids = {word.text for found_ids in ids.values() for token in found_ids for word in self.pack.words(token)}
        numbers = set(found.numbers) - in_ids
        for name, part in properties.items():
            entries = self.book.entries.get(f"{tool}.{name}", ())
            implied = any(other in said for entry in entries for other in entry.implied_by)
            if (
                implied
                or ids.get(name)
                or numbers
                and name not in ids
                and _holds_number(resolve_schema(part, root), root)
            ):
                said.add(name)
        return said

    def _echoes(
        self, words: Sequence[Word], calls: Sequence[ToolCall], claims: WordClaims
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
                own = {index for place in find(self.pack.words(value), words, self._distinct) for index in place}
                others = {index for other, places in claims.by_path.items() if other != path for index in places}
                if own and own <= others:
                    yield index, path, value

    @functools.cached_property
    def _distinct(self) -> frozenset[str]:
        """Words of the catalogue's choices and of the team's values: none of them is a typo of another."""
        listed = [(path, entry.value) for path, entries in self.book.entries.items() for entry in entries]
        listed += [choice for spec in self.catalog.specs for choice in _enumerated(spec)]
        forms = (form for path, value in listed for form in heard_forms(value, path, {}, self.book, None, self.pack))
        return frozenset(word.text for form in forms for word in self.pack.words(form))

    def _choices(self, tool: str, calls: Sequence[ToolCall]) -> Iterator[tuple[str, Any]]:
        """Path and value of what a call of this tool might hold.

        That is every enum member, the sets of weekdays that have a name, and for a parameter that the calls lack
        whatever the book lists.
        """
        spec = self.catalog.by_name[tool]
        yield from _enumerated(spec)
        given = {name for call in calls if call.name == tool for name in call.arguments}
        for name, schema in resolve_schema(spec.parameters, spec.parameters).get("properties", {}).items():
            if name not in given and _is_weekdays(schema, spec.parameters):
                yield from ((f"{tool}.{name}", list(days)) for days in self.pack.weekday_sets)
            prefix = f"{tool}.{name}"
            for path, entries in self.book.entries.items():
                if name not in given and (path == prefix or path.startswith(f"{prefix}.")):
                    yield from ((path, entry.value) for entry in entries)

    def _is_left_over(self, phrase: Sequence[Word], words: Sequence[Word], claimed: set[int]) -> bool:
        if len(phrase) == 1 and phrase[0].text in self.pack.function_words:
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
        claims: WordClaims,
    ) -> list[tuple[str, Any]]:
        """Mark the words that say a value; return what of it is not said, as (path, value)."""
        schema = resolve_schema(schema, root)
        forms = heard_forms(value, path, schema, self.book, now, self.pack)
        places = self._places(value, schema, forms, words, now)
        claims.add(path, value, places, several=moment(value, schema) is not None)
        if isinstance(value, list) and value:
            items = [WordClaims(claims.starts) for _ in value]
            rest = [
                unsaid
                for item, own in zip(value, items, strict=True)
                for unsaid in self._claim(words, item, path, schema.get("items", {}), root, now, own)
            ]
            if isinstance(value[0], dict) and are_mixed(items, words, self.pack):
                claims.mixed.append(path)
            for own in items:
                claims.take(own)
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
        others = self.pack.in_other_currencies(value)
        forms = (form for other in others for form in self.pack.money_forms(other))
        return bool(others) and not any(find(self.pack.words(form), words) for form in forms)

    def _places(
        self, value: Any, schema: Mapping[str, Any], forms: Sequence[str], words: Sequence[Word], now: datetime | None
    ) -> list[range]:
        """Where the request says a value as a whole."""
        when = moment(value, schema)
        if when is not None and schema["format"] == "date":
            return self._day_places(self.pack.date_forms(when.date(), now), words)
        if when is not None:  # day and time may stand apart
            days = self._day_places(self.pack.day_forms(when, now), words)
            times = self._clock_places((when.hour, when.minute), words)
            if days and times:
                return [*days, *times]
            forms = list(self.pack.offset_forms(when - now)) if now is not None else []
        clock = clock_of(value)
        if clock is not None:
            return self._clock_places(clock, words)
        return [place for form in forms for place in find(self.pack.words(form), words, self._distinct)]

    def _day_places(self, forms: Iterable[str], words: Sequence[Word]) -> list[range]:
        """Where a day is said; the "tomorrow" of "the day after tomorrow" is not."""
        places = [place for form in forms for place in find(self.pack.words(form), words)]
        before = [[word.text for word in words[max(0, place.start - 2) : place.start]] for place in places]
        return [place for place, said in zip(places, before, strict=True) if said != ["day", "after"]]

    def _clock_places(self, clock: tuple[int, int], words: Sequence[Word]) -> list[range]:
        """Where a time of day is said; a time without its half of the day counts where the sentence tells the half."""
        forms = self.pack.clock_forms(*clock)
        whole = [place for form in forms.whole for place in find(self.pack.words(form), words)]
        if whole:
            return whole
        said = {word.text for word in words}
        early, late = bool(said & self.pack.early), bool(said & self.pack.late)
        hour = clock[0]
        if hour == 0 and not early:  # "at 12" is noon, where nothing else is said
            return []
        if hour == 12 and early and not late or hour < 12 and late and not early or hour > 12 and not late:
            return []
        return [place for form in forms.bare for place in find(self.pack.words(form), words)]


def _enumerated(spec: ToolSpec) -> Iterator[tuple[str, Any]]:
    """Parameter path and value of every enum member at the top level and in arrays."""
    root = spec.parameters
    for name, schema in resolve_schema(root, root).get("properties", {}).items():
        schema = resolve_schema(schema, root)
        schema = resolve_schema(schema.get("items", schema), root)
        for value in schema.get("enum", []):
            yield f"{spec.name}.{name}", value


def _is_weekdays(schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether the values are lists of weekdays in three-letter codes."""
    items = resolve_schema(resolve_schema(schema, root).get("items", {}), root)
    return set(WEEKDAY_CODES) <= {code for code in items.get("enum", ()) if isinstance(code, str)}


def _holds_number(schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether values are numbers, or dates and the like."""
    parts = [schema, *(resolve_schema(part, root) for part in schema.get("properties", {}).values())]
    return any(part.get("type") in ("integer", "number") or "format" in part for part in parts)


def _matches(token: str, schema: Mapping[str, Any]) -> bool:
    """Whether a token of a request is a value with such a pattern, or what tells it from others."""
    start, pattern = fixed_start(schema), pattern_for(schema["pattern"])
    return pattern is not None and any(map(pattern.found_in, (token, token.upper(), f"{start}{token}")))


def _leaves_a_choice(words: Sequence[Word], claimed: Set[int], pack: LanguagePack) -> bool:
    """Whether a request for several calls names one or the other, and not what it wants to compare."""
    texts = [word.text for word in words]
    is_left = any(text in pack.either_words and index not in claimed for index, text in enumerate(texts))
    return is_left and not pack.choice_questions & set(texts)


def _holds_a_list(call: ToolCall) -> bool:
    return any(isinstance(value, list) for value in call.arguments.values())
