"""Plans of conversations in which a later call builds on an earlier one: the calls first, then what is said of them.

Three kinds with results. `chained`: one request asks for two calls, and the second takes a value out of the first one's
result. `referring`: the user hears the result, then asks for a call with "that" value. `repeated`: the user asks for
the same again with one other value. The calls are sampled like any others, the later one first, and a result is made
to hold what it takes.

Six kinds in which no result is heard. `completed`: the request lacks a value, which the user says when the partial call
was made or a question asked. `corrected` and `carried_over`: the first call with one other value. `switched`: another
tool. `resumed`: another tool, and then the first call with another value. `social`: one of two calls has a tool without
parameters, as greetings and thanks do. Who says and who answers is decided elsewhere (`conversing`, `following_up`).
"""

import dataclasses
import json
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fcdistill.errors import ConfigError
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.facts import facts_to_say
from fcdistill.generation.plan.tool_results import Feed, ToolResults, is_reader, put_value, result_problem
from fcdistill.generation.verification.english.follow_up_phrases import closes_talk, opens_talk
from fcdistill.generation.verification.tool_topics import topic_of
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.records import ConversationKind, ToolCall, ToolSpec
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import has_parameters, required_parameters, resolve_schema
from fcdistill.tools.validation import CallValidator

__all__ = ["Dialogue", "DialoguePlan", "DialoguePlanner", "kinds_in_turn"]

_REFERENCES: dict[ConversationKind, tuple[str, ...]] = {
    "chained": ("that {name}", "the same {name}", "the {name} that you find"),
    "referring": ("that", "the same", "that {name}"),
}
_DONE = json.dumps({"status": "ok"})
_TRIES = 20


@dataclass(frozen=True)
class Dialogue:
    """How the second call of a conversation builds on the first.

    Attributes:
        kind: see the module.
        argument: of the last call: what it takes out of the first one's result, what is other this time, or what the
            first request lacked; empty where the calls have nothing in common.
        result: of the first call, as JSON; None where the teacher is to write it, or no result is heard.
        asks_back: whether the assistant asks for the argument instead of making a partial call.
    """

    kind: ConversationKind
    argument: str
    result: str | None = None
    asks_back: bool = False


@dataclass(frozen=True)
class DialoguePlan:
    """The calls, what links them, and the facts that each request must say; one that gets a question has no call."""

    dialogue: Dialogue
    calls: tuple[ToolCall, ...]
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

    def draw(self, count: int, shares: Mapping[ConversationKind, float]) -> Iterator[DialoguePlan]:
        """So many plans; kinds take turns by their shares, and feeds and tools do.

        Raises:
            ConfigError: none of the kinds can be planned for this catalogue.
        """
        feeds = self._turns(self._results.feeds)
        tools = self._turns([spec for spec in self._catalog.specs if has_parameters(spec)])
        social = self._turns([spec for spec in self._catalog.specs if not has_parameters(spec)])
        kinds = kinds_in_turn(shares)
        made, fruitless = 0, 0
        while made < count:
            kind = next(kinds)
            plan = self._plan(kind, feeds, tools, social)
            fruitless = 0 if plan else fruitless + 1
            if plan:
                made += 1
                yield plan
            elif fruitless > _TRIES * (len(self._catalog.specs) + len(self._results.feeds)):
                raise _nothing_to_plan(shares)

    def _plan(
        self,
        kind: ConversationKind,
        feeds: Iterator[Feed | None],
        tools: Iterator[ToolSpec | None],
        social: Iterator[ToolSpec | None],
    ) -> DialoguePlan | None:
        if kind in ("chained", "referring"):
            return self._fed(kind, next(feeds))
        spec = next(tools)
        if spec is None:
            return None
        match kind:
            case "repeated":
                return self._repeated(spec)
            case "completed":
                return self._completed(spec)
            case "corrected" | "carried_over":
                return self._changed(kind, spec)
            case "switched":
                return self._switched(spec)
            case "resumed":
                return self._resumed(spec)
            case _:
                return self._social(spec, next(social))

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

    def _repeated(self, spec: ToolSpec) -> DialoguePlan | None:
        plan = self._changed("repeated", spec)
        if plan is None:
            return None
        first = plan.calls[0]
        told: str | None = _DONE
        if spec.name in self._results.returns:
            sampled = self._sampled(first)
            told = json.dumps(sampled, ensure_ascii=False) if sampled is not None else None
        elif is_reader(spec):
            told = None
        return dataclasses.replace(plan, dialogue=dataclasses.replace(plan.dialogue, result=told))

    def _changed(self, kind: ConversationKind, spec: ToolSpec) -> DialoguePlan | None:
        """A call, and the same with one other value, which is all that the second request says."""
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
            if changed:
                return DialoguePlan(Dialogue(kind, name), (first, last), (self._facts(first), tuple(changed)))
        return None

    def _completed(self, spec: ToolSpec) -> DialoguePlan | None:
        """A call that lacks one value, or a question for it, and the whole call."""
        for _ in range(_TRIES):
            whole = self._sampler.sample(spec, self._optional(spec, 2))
            told = {name.replace(" ", "_"): (name, said) for name, said in self._facts(whole)}
            names = [name for name, value in whole.arguments.items() if name in told and not isinstance(value, bool)]
            if not names:
                continue
            name = self._random.choice(names)
            partial = ToolCall(name=spec.name, arguments={k: v for k, v in whole.arguments.items() if k != name})
            asks_back = bool(self._validator.check_call(partial))
            if asks_back and name not in required_parameters(spec):
                continue
            calls = (whole,) if asks_back else (partial, whole)
            dialogue = Dialogue("completed", name, asks_back=asks_back)
            return DialoguePlan(dialogue, calls, (self._facts(partial), (told[name],)))
        return None

    def _switched(self, spec: ToolSpec) -> DialoguePlan | None:
        """Calls of two tools."""
        others = [other for other in self._catalog.specs if other is not spec and has_parameters(other)]
        if not others:
            return None
        other = self._random.choice(others)
        calls = tuple(self._sampler.sample(each, self._optional(each, 1)) for each in (spec, other))
        return DialoguePlan(Dialogue("switched", ""), calls, tuple(map(self._facts, calls)))

    def _resumed(self, spec: ToolSpec) -> DialoguePlan | None:
        """A call, one of another tool, and the first with one other value; the last request says which it means."""
        changed, switched = self._changed("resumed", spec), self._switched(spec)
        topic = topic_of(spec.name)
        if changed is None or switched is None or not topic:
            return None
        first, last = changed.calls
        facts = (changed.facts[0], switched.facts[1], (("about", f"the {topic}"), *changed.facts[1]))
        return DialoguePlan(changed.dialogue, (first, switched.calls[1], last), facts)

    def _social(self, spec: ToolSpec, social: ToolSpec | None) -> DialoguePlan | None:
        """A call, and one of a tool without parameters before or after it."""
        if social is None:
            return None
        call, talk = self._sampler.sample(spec, self._optional(spec, 1)), ToolCall(name=social.name)
        is_first = opens_talk(social.name) or not closes_talk(social.name) and self._random.random() < 0.5
        calls = (talk, call) if is_first else (call, talk)
        return DialoguePlan(Dialogue("social", ""), calls, tuple(map(self._facts, calls)))

    def _facts(self, call: ToolCall) -> tuple[tuple[str, str], ...]:
        return facts_to_say(call, self._catalog.by_name[call.name], self._book, None, self._random)


def _nothing_to_plan(kinds: Collection[ConversationKind]) -> ConfigError:
    if {"chained", "referring", "repeated"}.isdisjoint(kinds):
        return ConfigError(
            f"no conversation can be planned: the tools have nothing for any of {', '.join(kinds)}",
            required="an argument that can be changed or left out, two tools with parameters, or one without any",
            fix="give other kinds a share in multi_turn_shares, or set num_multi_turn to 0",
        )
    return ConfigError(
        "no conversation can be planned: no result fills an argument, and no argument can be changed",
        required="two tools of which one's result fills an argument of the other, or varied arguments",
        fix="say in a results file what the tools give back, or set num_multi_turn to 0",
    )


def _properties(spec: ToolSpec) -> dict[str, Any]:
    found: dict[str, Any] = resolve_schema(spec.parameters, spec.parameters).get("properties", {})
    return found
