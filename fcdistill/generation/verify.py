"""Which traces may be kept: checks on requests and calls, each with a reason that a person can act on.

Grounding goes both ways. Every value of a call must be said in the request, which also catches the optional argument
that nobody asked for; and every number and every known choice in the request must reach some call, which catches the
argument that was forgotten. Nothing here asks a model.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fcdistill.catalog import Catalog
from fcdistill.generation.phrasing import (
    ValueBook,
    clock_forms,
    clock_of,
    day_forms,
    heard_forms,
    instant,
    offset_forms,
    property_schema,
    resolve_schema,
)
from fcdistill.generation.words import Word, find, words_of
from fcdistill.records import Category, Check, ToolCall, ToolSpec
from fcdistill.toolcalls import ParsedOutput
from fcdistill.validation import CallValidator

__all__ = ["NUM_CALLS", "Verifier"]

NUM_CALLS: dict[Category, range] = {
    "simple": range(1, 2),
    "multiple": range(1, 2),
    "parallel": range(2, 9),
    "parallel_multiple": range(2, 9),
    "irrelevance": range(0, 1),
    "clarify": range(0, 1),
}
"""How many calls a request of a category has."""

_ASSISTANT_VOICE = re.compile(
    r"(i'm (sorry|starting|setting|going|not sure|turning|locking|playing|sending|adding)|i am (sorry|an ai)"
    r"|i('ll| will|'ve) |sure[,.! ]|of course|okay[,.! ]|here('s| is| are) |starting |certainly|as an ai|ringing )",
    re.IGNORECASE,
)
_MAX_REQUEST_WORDS = 60
_LATE = {"pm", "evening", "afternoon", "tonight", "night"}
_EARLY = {"am", "morning"}


@dataclass(frozen=True)
class Verifier:
    """The checks for one catalogue."""

    catalog: Catalog
    validator: CallValidator
    book: ValueBook

    def check_request(self, text: str) -> Check:
        """Whether a written text can be a user's request at all."""
        words = words_of(text)
        problem = ""
        if not words:
            problem = "the request is empty"
        elif "\n" in text.strip():
            problem = "the request has more than one line"
        elif len(words) > _MAX_REQUEST_WORDS:
            problem = f"the request has {len(words)} words; at most {_MAX_REQUEST_WORDS} are allowed"
        elif _ASSISTANT_VOICE.match(text.strip()):
            problem = "the request speaks as the assistant"
        elif any("_" in name and name in text for name in self.catalog.by_name) or "{" in text:
            problem = "the request names a function or holds JSON"
        return Check(name="request", ok=not problem, detail=problem)

    def check_output(self, output: ParsedOutput, category: Category | None) -> Iterator[Check]:
        """Parse, tool, schema and call-count verdicts on a teacher's answer, up to the first that fails."""
        problems = [f"{error.kind}: {error.detail}" for error in output.errors]
        if not problems and not output.calls and not output.text.strip():
            problems = ["the answer is empty"]
        yield Check(name="parse", ok=not problems, detail="; ".join(problems))
        if problems:
            return
        unknown = [call.name for call in output.calls if call.name not in self.catalog.by_name]
        yield Check(name="tool", ok=not unknown, detail=f"no such tool: {', '.join(unknown)}" if unknown else "")
        if unknown:
            return
        check = self.check_schema(output.calls)
        yield check
        if check.ok and category is not None:
            allowed, number = NUM_CALLS[category], len(output.calls)
            found = f"{number} calls for a request of category {category}"
            yield Check(name="count", ok=number in allowed, detail="" if number in allowed else found)

    def check_schema(self, calls: Sequence[ToolCall]) -> Check:
        """Whether all calls satisfy their schemas and none is made twice."""
        problems = [
            f"{call.name}{violation.pointer}: {violation.detail}"
            for call in calls
            for violation in self.validator.check_call(call)
        ]
        if any(call in calls[:index] for index, call in enumerate(calls)):
            problems.append("the same call is made twice")
        return Check(name="schema", ok=not problems, detail="; ".join(problems))

    def check_grounding(self, request: str, calls: Sequence[ToolCall], now: datetime | None) -> Check:
        """Whether the request says all values of the calls, and nothing that the calls leave out.

        Args:
            request: the user's text.
            calls: the calls that answer it; for a clarify request the call with its missing argument left out.
            now: the current time that the context gives, if it does.
        """
        found = self._ground(request, calls, now)
        problems = [f"not in the request: {path} = {value!r}" for _, path, value in found.unsaid]
        problems += [f"in no argument: {number}" for number in found.numbers]
        problems += [f"in no argument: {form!r} ({path})" for path, _, form in found.choices]
        return Check(name="grounding", ok=not problems, detail="; ".join(dict.fromkeys(problems)))

    def repaired(self, request: str, calls: Sequence[ToolCall], now: datetime | None) -> tuple[ToolCall, ...] | None:
        """The calls that the request really asks for, where a model left facts out or put others in.

        Arguments that the request does not say are dropped, and choices that it does say are taken over. The result has
        to pass the schema and the grounding check like any other call. None where that is not possible.
        """
        found = self._ground(request, calls, now)
        repaired = [copy.deepcopy(call) for call in calls]
        for index, path, _ in found.unsaid:
            _drop(repaired[index].arguments, path.split(".")[1:])
        for path, value, _ in found.choices:
            tool, name = path.split(".", 1)
            schema = property_schema(self.catalog.by_name[tool].parameters, [name]) or {}
            same = [call for call in repaired if call.name == tool]
            if len(same) != 1 or name in same[0].arguments or "items" in schema:
                return None
            same[0].arguments[name] = value
        if self.check_schema(repaired).ok and self.check_grounding(request, repaired, now).ok:
            return tuple(repaired)
        return None

    def in_schema_order(self, call: ToolCall) -> ToolCall:
        """The call with its arguments in the order of the schema's properties, so that students see one order."""
        root = self.catalog.by_name[call.name].parameters
        known = [name for name in resolve_schema(root, root).get("properties", {}) if name in call.arguments]
        names = [*known, *(name for name in call.arguments if name not in known)]
        return ToolCall(name=call.name, arguments={name: call.arguments[name] for name in names})

    def _ground(self, request: str, calls: Sequence[ToolCall], now: datetime | None) -> "_Grounding":
        words = words_of(request)
        claimed: set[int] = set()
        unsaid: list[tuple[int, str, Any]] = []
        for index, call in enumerate(calls):
            parameters = self.catalog.by_name[call.name].parameters
            properties = resolve_schema(parameters, parameters).get("properties", {})
            for name, value in call.arguments.items():
                path = f"{call.name}.{name}"
                entry = self.book.entry(path, value)
                missing = self._claim(words, value, path, properties.get(name, {}), parameters, now, claimed)
                if entry is None or not any(other in call.arguments for other in entry.implied_by):
                    unsaid += [(index, part, inner) for part, inner in missing]
        numbers = [
            word.text
            for place, word in enumerate(words)
            if word.is_number and place not in claimed and not (word.spelled_out and word.text == "1")
        ]
        choices = [
            (path, value, form)
            for name in dict.fromkeys(call.name for call in calls)
            for path, value in _choices(self.catalog.by_name[name])
            for form in heard_forms(value, path, {}, self.book, None)
            if self._is_left_over(words_of(form), words, claimed)
        ]
        return _Grounding(unsaid, numbers, choices)

    def _is_left_over(self, phrase: Sequence[Word], words: Sequence[Word], claimed: set[int]) -> bool:
        if len(phrase) == 1 and len(phrase[0].text) <= 3:  # "on", "off": too common to mean a choice
            return False
        return any(not claimed.intersection(place) for place in find(phrase, words))

    def _claim(
        self,
        words: Sequence[Word],
        value: Any,
        path: str,
        schema: Any,
        root: Mapping[str, Any],
        now: datetime | None,
        claimed: set[int],
    ) -> list[tuple[str, Any]]:
        """Mark the words that say a value; return what of it is not said, as (path, value)."""
        schema = resolve_schema(schema, root)
        forms = heard_forms(value, path, schema, self.book, now)
        places = self._places(value, schema, forms, words, now)
        claimed.update(index for place in places for index in place)
        if isinstance(value, list) and value:
            items = schema.get("items", {})
            rest = [unsaid for item in value for unsaid in self._claim(words, item, path, items, root, now, claimed)]
            return [] if places else rest
        if places:
            return []
        if isinstance(value, dict) and value and not forms:
            properties = schema.get("properties", {})
            return [
                rest
                for key, inner in value.items()
                for rest in self._claim(words, inner, f"{path}.{key}", properties.get(key, {}), root, now, claimed)
            ]
        return [(path, value)]

    def _places(
        self, value: Any, schema: Mapping[str, Any], forms: Sequence[str], words: Sequence[Word], now: datetime | None
    ) -> list[range]:
        """Where the request says a value as a whole."""
        when = instant(value) if schema.get("format") == "date-time" and isinstance(value, str) else None
        if when is not None:  # day and time may stand apart
            days = [place for form in day_forms(when, now) for place in find(words_of(form), words)]
            times = _clock_places((when.hour, when.minute), words)
            if days and times:
                return [*days, *times]
            forms = list(offset_forms(when - now)) if now is not None else []
        clock = clock_of(value)
        if clock is not None:
            return _clock_places(clock, words)
        return [place for form in forms for place in find(words_of(form), words)]


@dataclass(frozen=True)
class _Grounding:
    """What request and calls do not share.

    Attributes:
        unsaid: (index of the call, path, value) that the request does not say.
        numbers: numbers of the request that no argument holds.
        choices: (path, value, phrase) of enum members that the request says and no argument holds.
    """

    unsaid: list[tuple[int, str, Any]]
    numbers: list[str]
    choices: list[tuple[str, Any, str]]


def _drop(arguments: dict[str, Any], steps: list[str]) -> None:
    """Remove an argument, or a part of it in every item of an array. What is required shows in the schema check."""
    first, rest = steps[0], steps[1:]
    if not rest:
        arguments.pop(first, None)
        return
    inner = arguments.get(first)
    for part in inner if isinstance(inner, list) else [inner]:
        if isinstance(part, dict):
            _drop(part, rest)


def _choices(spec: ToolSpec) -> Iterator[tuple[str, Any]]:
    """Parameter path and value of every enum member at the top level and in arrays."""
    root = spec.parameters
    for name, schema in resolve_schema(root, root).get("properties", {}).items():
        schema = resolve_schema(schema, root)
        schema = resolve_schema(schema.get("items", schema), root)
        for value in schema.get("enum", []):
            yield f"{spec.name}.{name}", value


def _clock_places(clock: tuple[int, int], words: Sequence[Word]) -> list[range]:
    """Where a time of day is said; a time without its half of the day counts where the sentence tells the half."""
    forms = clock_forms(*clock)
    whole = [place for form in forms.whole for place in find(words_of(form), words)]
    if whole:
        return whole
    said = {word.text for word in words}
    early, late = bool(said & _EARLY), bool(said & _LATE)
    if clock[0] < 12 and late and not early or clock[0] >= 12 and not late:
        return []
    return [place for form in forms.bare for place in find(words_of(form), words)]
