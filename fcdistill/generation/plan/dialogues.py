"""Plans of conversations in which a later call builds on an earlier one: the calls first, then what is said of them.

Three kinds. `chained`: one request asks for two calls, and the second takes a value out of the first one's result.
`referring`: the user hears the result, then asks for a call with "that" value. `repeated`: the user asks for the same
again with one other value. The calls are sampled like any others, the later one first, and a result is made to hold
what it takes. Who says and who answers is decided elsewhere (`conversing`).
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fcdistill.errors import ConfigError
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.facts import facts_to_say
from fcdistill.generation.plan.tool_results import Feed, ToolResults, is_reader, put_value, result_problem
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.records import ConversationKind, ToolCall, ToolSpec
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import resolve_schema
from fcdistill.tools.validation import CallValidator

__all__ = ["Dialogue", "DialoguePlan", "DialoguePlanner", "kinds_in_turn"]

_REFERENCES: dict[ConversationKind, tuple[str, ...]] = {
    "chained": ("that {name}", "the same {name}", "the {name} that you find"),
    "referring": ("that", "the same", "that {name}"),
}
_KINDS: tuple[ConversationKind, ...] = ("chained", "referring", "repeated")
_DONE = json.dumps({"status": "ok"})
_TRIES = 20


@dataclass(frozen=True)
class Dialogue:
    """How the second call of a conversation builds on the first.

    Attributes:
        kind: see the module.
        argument: of the second call: what it takes out of the first one's result, or what is other this time.
        result: of the first call, as JSON; None where the teacher is to write it.
    """

    kind: ConversationKind
    argument: str
    result: str | None


@dataclass(frozen=True)
class DialoguePlan:
    """Two calls, what links them, and the facts that the requests must say of each."""

    dialogue: Dialogue
    calls: tuple[ToolCall, ToolCall]
    facts: tuple[tuple[tuple[str, str], ...], ...]


def kinds_in_turn(shares: Mapping[ConversationKind, float]) -> Iterator[ConversationKind]:
    """The kinds for ever, each as often as its share says; equal shares take turns.

    Args:
        shares: above 0; they need not sum to 1.
    """
    due = dict.fromkeys(shares, 0.0)
    total = sum(shares.values())
    while True:
        for kind, share in shares.items():
            due[kind] += share
        kind = max(due, key=lambda kind: due[kind])
        due[kind] -= total
        yield kind


class DialoguePlanner:
    """Draws conversations for one catalogue; the same generator and sampler give the same ones.

    Args:
        catalog: the tools.
        validator: of their calls.
        book: the team's values and phrases.
        results: what tools give back.
        sampler: draws arguments.
        optional: chooses which optional parameters of a tool are given, at most so many.
        generator: of all other choices.
    """

    def __init__(
        self,
        catalog: Catalog,
        validator: CallValidator,
        book: ValueBook,
        results: ToolResults,
        sampler: ArgumentSampler,
        optional: Callable[[ToolSpec, int], tuple[str, ...]],
        generator: random.Random,
    ) -> None:
        self._catalog = catalog
        self._validator = validator
        self._book = book
        self._results = results
        self._sampler = sampler
        self._optional = optional
        self._random = generator

    def draw(self, count: int) -> Iterator[DialoguePlan]:
        """So many plans; kinds take turns, and so do feeds and tools.

        Raises:
            ConfigError: no result can fill an argument, and no tool has an argument to change.
        """
        feeds = self._turns(self._results.feeds)
        tools = self._turns([spec for spec in self._catalog.specs if _properties(spec)])
        kinds = itertools.cycle(_KINDS)
        made, fruitless = 0, 0
        while made < count:
            kind = next(kinds)
            plan = self._repeated(next(tools)) if kind == "repeated" else self._fed(kind, next(feeds))
            fruitless = 0 if plan else fruitless + 1
            if plan:
                made += 1
                yield plan
            elif fruitless > _TRIES * (len(self._catalog.specs) + len(self._results.feeds)):
                raise ConfigError(
                    "no conversation can be planned: no result fills an argument, and no argument can be changed",
                    required="two tools of which one's result fills an argument of the other, or varied arguments",
                    fix="say in a results file what the tools give back, or set num_multi_turn to 0",
                )

    def _turns(self, things: "list[Any] | tuple[Any, ...]") -> Iterator[Any]:
        """Each of them in turn, shuffled anew each time round; None for ever where there are none."""
        while True:
            yield from self._random.sample(list(things), len(things)) or [None]

    def _fed(self, kind: ConversationKind, feed: Feed | None) -> DialoguePlan | None:
        if feed is None:
            return None
        source, target = self._catalog.by_name[feed.source], self._catalog.by_name[feed.target]
        shared = set(_properties(source)) & set(_properties(target))
        for _ in range(_TRIES):
            last = self._sampler.sample(target, {*self._optional(target, 1), feed.argument})
            # Of what both calls can have, either has its own: else nobody could say which one a word belongs to.
            both = shared & last.arguments.keys() if kind == "chained" else set()
            optional = set(self._optional(source, 1)) - (shared if kind == "chained" else set())
            first = self._sampler.sample(source, {*optional, *both, *feed.when})
            first = ToolCall(name=first.name, arguments={**first.arguments, **feed.when})
            if kind == "chained" and any(first.arguments[name] == last.arguments[name] for name in both):
                continue
            value = last.arguments[feed.argument]
            others = [part for name, part in last.arguments.items() if name != feed.argument]
            if self._validator.check_call(first) or value in [*others, *first.arguments.values()]:
                continue  # said in words already, or no call at all
            result = self._result(first, feed, value)
            if result is not None:
                break
        else:
            return None
        name = feed.argument.replace("_", " ")
        reference = self._random.choice(_REFERENCES[kind]).format(name=name)
        told = [fact for fact in self._facts(last) if fact[0] != name]
        facts = (self._facts(first), (*told, (name, reference)))
        return DialoguePlan(Dialogue(kind, feed.argument, result or None), (first, last), facts)

    def _result(self, call: ToolCall, feed: Feed, value: Any) -> str | None:
        """A result that holds the value, "" where the teacher must write it, None where there can be none."""
        schema = self._results.returns.get(call.name)
        if schema is None or not feed.steps:
            return ""
        sampled = self._sampled(call)
        if sampled is None:
            return ""
        try:
            result = put_value(sampled, feed.steps, value)
        except (IndexError, KeyError, TypeError):  # an optional part was not drawn
            return None
        return None if result_problem(result, schema) else json.dumps(result, ensure_ascii=False)

    def _sampled(self, call: ToolCall) -> Any:
        """A result that fits the schema and repeats the call's arguments where it has their names; None without one."""
        schema = self._results.returns[call.name]
        for _ in range(_TRIES):
            try:
                result = self._sampler.value(schema, f"{call.name} result", schema)
            except ConfigError:  # texts that nobody can make up
                return None
            if isinstance(result, dict):
                repeated = {name: value for name, value in call.arguments.items() if name in result}
                result = result | repeated
            if not result_problem(result, schema):
                return result
        return None

    def _repeated(self, spec: ToolSpec | None) -> DialoguePlan | None:
        if spec is None:
            return None
        chosen = self._optional(spec, 1)
        for _ in range(_TRIES):
            first, other = self._sampler.sample(spec, chosen), self._sampler.sample(spec, chosen)
            told = {name.replace(" ", "_") for name, _ in self._facts(first)}
            names = [
                name
                for name, value in first.arguments.items()
                if name in told and not isinstance(value, bool) and value != other.arguments[name]
            ]
            if not names:
                continue
            name = self._random.choice(names)
            last = ToolCall(name=spec.name, arguments={**first.arguments, name: other.arguments[name]})
            if self._validator.check_call(last):
                continue
            changed = [fact for fact in self._facts(last) if fact[0] == name.replace("_", " ")]
            if not changed:
                continue
            result: str | None = _DONE
            if spec.name in self._results.returns:
                sampled = self._sampled(first)
                result = json.dumps(sampled, ensure_ascii=False) if sampled is not None else None
            elif is_reader(spec):
                result = None
            dialogue = Dialogue("repeated", name, result)
            return DialoguePlan(dialogue, (first, last), (self._facts(first), tuple(changed)))
        return None

    def _facts(self, call: ToolCall) -> tuple[tuple[str, str], ...]:
        return facts_to_say(call, self._catalog.by_name[call.name], self._book, None, self._random)


def _properties(spec: ToolSpec) -> dict[str, Any]:
    found: dict[str, Any] = resolve_schema(spec.parameters, spec.parameters).get("properties", {})
    return found
