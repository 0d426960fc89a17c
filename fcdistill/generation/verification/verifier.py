"""Checks on requests and calls, one by one, each with a reason that a person can act on.

Grounding goes both ways. Every value of a call must be said in the request, which also catches the optional argument
that nobody asked for; and every number and every known choice in the request must reach some call, which catches the
argument that was forgotten. Which checks a trace must pass, and in which order, is known elsewhere (`ladder`); nothing
here asks a model.
"""

import copy
import functools
import itertools
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from fcdistill.config import PolicyName
from fcdistill.generation.verification.clarifying import Lacking, lacking_values, question_problem
from fcdistill.generation.verification.english.english_pack import ENGLISH
from fcdistill.generation.verification.english.follow_up_phrases import names_other_of_two
from fcdistill.generation.verification.english.request_style import refers_back, request_problem
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.grounding import Grounder, Grounding, doubts_of
from fcdistill.generation.verification.languages.detection import is_english
from fcdistill.generation.verification.languages.neutral import NEUTRAL
from fcdistill.generation.verification.policy import decide
from fcdistill.generation.verification.tool_topics import names_topic
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.generation.verification.value_removal import without_value
from fcdistill.generation.verification.witnesses import WordEvidence, word_evidence
from fcdistill.records import Category, Check, ToolCall
from fcdistill.records.equality import same_call
from fcdistill.toolcalls.parsing import ParsedOutput, parse_output
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import has_parameters, property_schema, required_parameters, resolve_schema
from fcdistill.tools.validation import CallValidator

__all__ = ["NUM_CALLS", "Verifier", "with_arguments", "without_arguments"]

NUM_CALLS: dict[Category, range] = {
    "simple": range(1, 2),
    "multiple": range(1, 2),
    "parallel": range(2, 9),
    "parallel_multiple": range(2, 9),
    "irrelevance": range(0, 1),
    "clarify": range(0, 1),
}
"""How many calls a request of a category has."""

_TOOL_NAME = re.compile(r"[_-]|[a-z][A-Z]")


@dataclass(frozen=True)
class Verifier:
    """The checks for one catalogue.

    Attributes:
        catalog: the tools.
        validator: of their schemas.
        book: the team's values.
        policy: what is asked for where witnesses are combined.
    """

    catalog: Catalog
    validator: CallValidator
    book: ValueBook
    policy: PolicyName = "balanced"

    @functools.cached_property
    def _grounder(self) -> Grounder:
        return Grounder(self.catalog, self.book)

    @functools.cached_property
    def _neutral(self) -> Grounder:
        """For requests in a language that no pack knows."""
        return Grounder(self.catalog, self.book, NEUTRAL)

    def check_request(self, text: str, *, asks: bool = True) -> Check:
        """Whether a written text can be what a user says.

        Args:
            text: one text of a user.
            asks: whether it is to ask for something; small talk need not.
        """
        problem = request_problem(text, asks=asks)
        if not problem and (
            any(_TOOL_NAME.search(name) and name in text for name in self.catalog.by_name) or "{" in text
        ):
            problem = "the request names a function or holds JSON"
        return Check(name="request", ok=not problem, detail=problem)

    def check_reference(self, text: str) -> Check:
        """Whether a request refers to the value of an earlier call's result, which it does not say."""
        refers = refers_back(text)
        detail = "" if refers else "the request does not refer to the result of the first call"
        return Check(name="reference", ok=refers, detail=detail)

    def check_carried(self, text: str, call: ToolCall, changed: str, now: datetime | None) -> Check:
        """Whether a later request says one value, of which nobody doubts what it is, and leaves others unsaid.

        Args:
            text: the request.
            call: what it asks for.
            changed: the argument that it says itself. A call without any other leaves its tool to what was said before.
            now: the current time that the context gives, if it does.
        """
        others = without_arguments(call, {changed})
        problem = ""
        if others.arguments and not self._grounder.compare(text, [others], now).unsaid:
            problem = "the request says all values anew, and takes none from an earlier one"
        # "Change that to checking" does not speak of the account to which money goes.
        elif not {word.text for word in words_of(changed)} - {"to"} & {word.text for word in words_of(text)}:
            rivals = [name for name in others.arguments if self._may_be_either(call, changed, name)]
            problem = f"what is said for {changed} may be for {rivals[0]}" if rivals else ""
        return Check(name="reference", ok=not problem, detail=problem)

    def _may_be_either(self, call: ToolCall, changed: str, other: str) -> bool:
        """Whether the value of one argument, said alone, could be the other's: a choice of both, or a number."""
        value, rival = call.arguments[changed], call.arguments[other]
        if isinstance(value, bool) or isinstance(rival, bool):
            return False
        if isinstance(value, int | float) and isinstance(rival, int | float):
            return True
        root = self.catalog.by_name[call.name].parameters
        choices = resolve_schema(self.parameters(call.name).get(other, {}), root).get("enum", ())
        return value in choices or value in self.book.values(f"{call.name}.{other}")

    def check_topic(self, text: str, call: ToolCall, changed: str, between: ToolCall, now: datetime | None) -> Check:
        """Whether a request tells that it goes back to an earlier call.

        It says what the tool is about, or a value that the call in between does not have.

        Args:
            text: the request.
            call: what it asks for: the earlier call with another value.
            changed: the argument with that value.
            between: the call that was asked for last.
            now: the current time that the context gives, if it does.
        """
        marks = [
            ToolCall(name=call.name, arguments={name: value})
            for name, value in call.arguments.items()
            if name != changed and not isinstance(value, bool) and value not in between.arguments.values()
        ]
        told = names_topic(text, call.name, (between.name,)) or any(
            not self._grounder.compare(text, [mark], now).unsaid for mark in marks
        )
        detail = "" if told else f"the request does not tell that it goes back to {call.name}"
        return Check(name="reference", ok=told, detail=detail)

    def check_unsaid(self, text: str, call: ToolCall, name: str, now: datetime | None) -> Check:
        """Whether a request lacks the value of one argument of a call."""
        value = ToolCall(name=call.name, arguments={name: call.arguments[name]})
        lacks = bool(self._grounder.compare(text, [value], now).unsaid)
        return Check(name="cut", ok=lacks, detail="" if lacks else f"the request says the value of {name!r} already")

    def check_other_of_two(self, text: str, before: ToolCall, call: ToolCall, changed: str) -> Check:
        """Whether a request for "the other one" can mean nothing but the value that a call has instead of the last.

        Args:
            text: the request.
            before: the earlier call.
            call: what the request asks for: the earlier call with another value.
            changed: the argument with that value.
        """
        choices = self.parameters(call.name).get(changed, {})
        values = resolve_schema(choices, self.catalog.by_name[call.name].parameters).get("enum", ())
        problem = ""
        if not names_other_of_two(text):
            problem = "the request does not speak of the other one"
        elif len(values) != 2 or before.arguments[changed] == call.arguments[changed]:
            problem = f"{changed} has more than two values, so that nobody knows which is the other one"
        return Check(name="reference", ok=not problem, detail=problem)

    def check_parse(self, output: ParsedOutput) -> Check:
        """Whether an answer could be read as a whole, and says something."""
        problems = [f"{error.kind}: {error.detail}" for error in output.errors]
        if not problems and not output.calls and not output.text.strip():
            problems = ["the answer is empty"]
        return Check(name="parse", ok=not problems, detail="; ".join(problems))

    def check_tools(self, calls: Sequence[ToolCall]) -> Check:
        """Whether all calls name tools of the catalogue."""
        unknown = [call.name for call in calls if call.name not in self.catalog.by_name]
        return Check(name="tool", ok=not unknown, detail=f"no such tool: {', '.join(unknown)}" if unknown else "")

    def check_count(self, calls: Sequence[ToolCall], category: Category) -> Check:
        """Whether a request of this category can have so many calls."""
        right = len(calls) in NUM_CALLS[category]
        detail = "" if right else f"{len(calls)} calls for a request of category {category}"
        return Check(name="count", ok=right, detail=detail)

    def free_words(self, calls: Sequence[ToolCall]) -> frozenset[str]:
        """The comparable words of all free texts in calls: answers repeat them as the request spells them."""
        texts = [
            text
            for call in calls
            for parameters in [self.catalog.by_name[call.name].parameters]
            for text in _free_texts(call.arguments, parameters, parameters)
        ]
        return frozenset(word.text for text in texts for word in ENGLISH.words(text))

    def check_schema(self, calls: Sequence[ToolCall]) -> Check:
        """Whether all calls satisfy their schemas and none is made twice."""
        problems = [
            f"{call.name}{violation.pointer}: {violation.detail}"
            for call in calls
            for violation in self.validator.check_call(call)
        ]
        if any(same_call(one, other) for one, other in itertools.combinations(calls, 2)):
            problems.append("the same call is made twice")
        return Check(name="schema", ok=not problems, detail="; ".join(problems))

    def check_grounding(self, request: str, calls: Sequence[ToolCall], now: datetime | None) -> Check:
        """Whether the request says all values of the calls, and nothing that the calls leave out.

        Args:
            request: the user's text.
            calls: the calls that answer it; for a clarify request the call with its missing argument left out.
            now: the current time that the context gives, if it does.
        """
        found = self._grounder.compare(request, calls, now)
        return _grounding(found, found, _mixed(found))

    def check_said(self, text: str, calls: Sequence[ToolCall], now: datetime | None) -> Check:
        """Whether a text says all values of the calls, whatever else it says; arguments as for `check_grounding`."""
        unsaid = self._grounder.compare(text, calls, now).unsaid
        problems = [f"not in the request: {path} = {value!r}" for _, path, value in unsaid]
        return Check(name="grounding", ok=not problems, detail="; ".join(problems))

    def check_step_grounding(
        self, said: str, request: str, calls: Sequence[ToolCall], others: Sequence[ToolCall], now: datetime | None
    ) -> Check:
        """Like `check_grounding`, for calls that are one step of a longer conversation.

        A value may stem from anything said so far, and what the request says may reach a call of another step.

        Args:
            said: all texts before the calls, the request and the results of earlier calls among them.
            request: the user's last text before the calls.
            calls: the calls of this step.
            others: the calls of the other steps that answer the same request; they fit their schemas.
            now: the current time that the context gives, if it does.
        """
        sources = self._grounder.compare(said, calls, now)
        uses = self._grounder.compare(request, [*calls, *others], now)
        # Of several steps, one may take words from where another's stand: their values come from results too.
        return _grounding(sources, uses, () if others else _mixed(uses))

    def check_evidence(
        self,
        request: str,
        calls: Sequence[ToolCall],
        now: datetime | None,
        *,
        independent: bool,
        said: str = "",
        others: Sequence[ToolCall] = (),
    ) -> Check:
        """Whether what the words say suffices, by the verifier's policy; named `grounding`, as without a policy.

        Args:
            request: the user's text.
            calls: the calls that answer it.
            now: the current time that the context gives, if it does.
            independent: whether whoever made the calls saw the request, and the request was not made from them.
            said: all texts before the calls, where they are a step of a longer conversation.
            others: the calls of the other steps that answer the same request; they fit their schemas.
        """
        words = self.word_evidence(request, calls, now, said=said, others=others)
        decision = decide(self.policy, words, independent=independent)
        return Check(name="grounding", ok=decision.keep, detail=decision.detail)

    def word_evidence(
        self,
        request: str,
        calls: Sequence[ToolCall],
        now: datetime | None,
        *,
        said: str = "",
        others: Sequence[ToolCall] = (),
    ) -> WordEvidence:
        """What the words of a conversation say of calls; arguments as for `check_evidence`."""
        if said:
            check = self.check_step_grounding(said, request, calls, others, now)
        else:
            check = self.check_grounding(request, calls, now)
        # A request that can be read one by one may stand among others in another language.
        reads_language = is_english(request)
        grounder = self._grounder if reads_language else self._neutral
        sources = grounder.compare(said or request, calls, now)
        uses = grounder.compare(request, [*calls, *others], now)
        return word_evidence(
            self.catalog,
            calls,
            sources,
            uses,
            refusals=[check.detail] if not check.ok else [],
            reads_language=reads_language,
        )

    def repaired(
        self,
        request: str,
        calls: Sequence[ToolCall],
        now: datetime | None,
        supplied: Mapping[str, Any] = MappingProxyType({}),
    ) -> tuple[ToolCall, ...] | None:
        """The calls that the request really asks for, where a model left facts out or put others in.

        Arguments that are invalid or that the request does not say are dropped, and choices that it does say, letter
        by letter, are taken over. The result has to pass the schema and the grounding check like any other call. None
        where that is not possible.

        Args:
            request: the user's text.
            calls: the calls that answer it.
            now: the current time that the context gives, if it does.
            supplied: arguments of the last call that something else than the request says; they are not in `calls`.
        """
        repaired = [self._without_invalid(call) for call in calls]
        found = self._grounder.compare(request, repaired, now)
        said = f" {' '.join(word.text for word in ENGLISH.words(request))} "
        for index, path, _ in found.unsaid:
            _drop(repaired[index].arguments, path.split(".")[1:])
        for path, value, form in found.choices:
            if f" {' '.join(word.text for word in ENGLISH.words(form))} " not in said:
                return None
            tool, name = path.split(".", 1)
            parameters = self.catalog.by_name[tool].parameters
            schema = property_schema(parameters, [name]) or {}
            same = [call for call in repaired if call.name == tool]
            if len(same) == 1 and same[0].arguments.get(name) == value:
                continue  # said in more than one way
            # What the request tells beside the call's own words may be said of anything.
            is_choice = (
                isinstance(value, list) or "enum" in schema or name in required_parameters(self.catalog.by_name[tool])
            )
            if (
                len(same) != 1
                or name in same[0].arguments
                or not is_choice
                or not isinstance(value, list)
                and "items" in schema
            ):
                return None
            same[0].arguments[name] = value
        whole = [*repaired[:-1], with_arguments(repaired[-1], supplied)]
        if self.check_schema(whole).ok and self.check_grounding(request, repaired, now).ok:
            return tuple(repaired)
        return None

    def _without_invalid(self, call: ToolCall) -> ToolCall:
        """A copy without the arguments that break the schema."""
        names = {violation.pointer.split("/")[1] for violation in self.validator.check_call(call) if violation.pointer}
        arguments = {name: copy.deepcopy(value) for name, value in call.arguments.items() if name not in names}
        return ToolCall(name=call.name, arguments=arguments)

    def without_value(self, request: str, call: ToolCall, name: str, now: datetime | None) -> str | None:
        """The request without the words that say the value of one argument; None where they can't be cut out."""
        return without_value(self._grounder, request, call, name, now)

    def lacking(self, request: str, now: datetime | None) -> list[Lacking]:
        """The values that a request lacks, as far as its words tell: for a request of which nothing else is known."""
        values = lacking_values(self.catalog, request)
        said = {tool: self._grounder.said_parameters(request, tool, now) for tool in {value.tool for value in values}}
        return [value for value in values if value.name not in said[value.tool]] or values

    def check_question(self, request: str, question: str, lacking: Sequence[Lacking]) -> Check:
        """Whether a text asks for one of the values that a request lacks, and for nothing else."""
        problem = question_problem(self.catalog, request, question, lacking)
        if not problem and parse_output(question).calls:
            problem = "the answer is a call"
        return Check(name="question", ok=not problem, detail=problem)

    def is_small_talk(self, calls: Sequence[ToolCall]) -> bool:
        """Whether nothing need be asked for: no call, or calls of tools without parameters, as a greeting has them."""
        return not any(has_parameters(self.catalog.by_name[call.name]) for call in calls)

    def parameters(self, tool: str) -> dict[str, Any]:
        """The schemas of a tool's parameters, by name."""
        root = self.catalog.by_name[tool].parameters
        found: dict[str, Any] = resolve_schema(root, root).get("properties", {})
        return found

    def tidied(self, call: ToolCall) -> ToolCall:
        """The call as students are to write it.

        Its arguments are in the order of the schema's properties, and texts have no spaces around them.
        """
        known = [name for name in self.parameters(call.name) if name in call.arguments]
        names = [*known, *(name for name in call.arguments if name not in known)]
        return ToolCall(name=call.name, arguments={name: _stripped(call.arguments[name]) for name in names})


def with_arguments(call: ToolCall, arguments: Mapping[str, Any]) -> ToolCall:
    """The call with these arguments too."""
    return ToolCall(name=call.name, arguments={**call.arguments, **arguments})


def without_arguments(call: ToolCall, names: Container[str]) -> ToolCall:
    """The call without the arguments of these names."""
    return ToolCall(name=call.name, arguments={key: part for key, part in call.arguments.items() if key not in names})


def _grounding(sources: Grounding, uses: Grounding, further: Sequence[str] = ()) -> Check:
    """The verdict: `sources` tells which values nobody said, `uses` which facts of the request reach no call."""
    problems = [f"not in the request: {path} = {value!r}" for _, path, value in sources.unsaid]
    problems += doubts_of(sources, uses)
    problems += further
    return Check(name="grounding", ok=not problems, detail="; ".join(dict.fromkeys(problems)))


def _mixed(found: Grounding) -> list[str]:
    return [f"the request mixes what belongs to different parts: {parts}" for parts in found.mixed]


def _stripped(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return [_stripped(part) for part in value]
    return {key: _stripped(part) for key, part in value.items()} if isinstance(value, dict) else value


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


def _free_texts(value: Any, schema: Any, root: Mapping[str, Any]) -> Iterator[str]:
    schema = resolve_schema(schema, root)
    if isinstance(value, str) and "enum" not in schema:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _free_texts(item, schema.get("items", {}), root)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _free_texts(part, schema.get("properties", {}).get(key, {}), root)
