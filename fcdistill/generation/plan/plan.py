"""What is to be generated: a list of items, decided before any model is asked, the same for the same configuration.

A call-first item holds sampled calls and the facts that the request must say; a request-first item holds a user's seed.
Cells (tool, arity, optional arguments, register) make coverage countable.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from fcdistill.config import GenerateConfig
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.dialogues import Dialogue, DialoguePlanner
from fcdistill.generation.plan.edges import schema_edges
from fcdistill.generation.plan.facts import facts_to_say
from fcdistill.generation.plan.tool_results import ToolResults
from fcdistill.generation.verification.languages.instants import instant, moment
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.records import Category, SeedRequest, ToolCall, ToolsOffered, ToolSpec
from fcdistill.storage import sha256_json
from fcdistill.tools.catalog import Catalog
from fcdistill.tools.parameters import (
    optional_parameters,
    property_schema,
    required_parameters,
)
from fcdistill.tools.validation import CallValidator

__all__ = ["REGISTERS", "PlanItem", "calls_group", "make_plan", "time_context", "time_of_context"]

_CONTEXT = "Current time: "

REGISTERS = ("casual", "terse", "polite", "question", "rambling", "typos")

# Shares of the call-first items that call at least one tool.
_PARALLEL, _PARALLEL_MULTIPLE = 0.12, 0.2

_EVERY_NTH_BARE = 3
"""Of the prompts that lack the tool, as many show no tool at all."""

_MOST_DECKED = 5
"""Optional parameters of a tool whose subsets are dealt in turn; of more, each is given half of the time."""

_TOPICS = (
    "history, capital cities, a poem, a joke, a cooking recipe, translation, mathematics, football results, a taxi, "
    "a flight, a hotel, an e-mail, a phone call, film tips, the news, share prices, homework, small talk, a "
    "compliment, a thank-you, astronomy, animals, spelling, politics, medicine, the meaning of a word, a video "
    "call, a restaurant table, gardening, car repair, a birthday present, philosophy, programming, an old friend, a "
    "book, the traffic, dreams, language learning, the oven, the blinds, the doorbell camera, the washing machine, "
    "the sprinkler, the coffee machine, the television"
).split(", ")


@dataclass(frozen=True)
class PlanItem:
    """One trace to be made.

    Attributes:
        id: stable over runs.
        source: where it comes from (`call_first`, `request_first`, ...).
        category: BFCL's word, or `clarify`; a hint for a request-first item, None where its author gave none.
        cell: coverage cell.
        calls: the sampled calls; for a clarify item the whole call, before a value is cut; empty for request-first.
        facts: per call the spoken form of each argument.
        missing: the required parameter whose value is cut from a clarify request.
        topic: what an irrelevance request is about.
        register: how the request is phrased.
        offered: which tools the prompt shows; where `calls` hold what it lacks, no call is right.
        dialogue: how the last of the calls builds on earlier ones, where they are made in several turns; `facts` are
            then those of the requests, of which one that gets a question has no call.
        request: the user's text of a request-first item.
        system: context that the request comes with.
        now: the current time that `system` gives.
        split_group: items that share arguments or a seed share it.
    """

    id: str
    source: Literal["call_first", "request_first", "multi_turn"]
    category: Category | None
    cell: str
    split_group: str
    calls: tuple[ToolCall, ...] = ()
    facts: tuple[tuple[tuple[str, str], ...], ...] = ()
    missing: str = ""
    topic: str = ""
    register: str = "casual"
    offered: ToolsOffered = "all"
    dialogue: Dialogue | None = None
    request: str = ""
    system: str = ""
    now: datetime | None = None


def time_context(now: datetime) -> str:
    """The system message that tells the current time."""
    return f"{_CONTEXT}{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ (%A)}."


def time_of_context(system: str) -> datetime | None:
    """The current time that a system message gives in the form of `time_context`, the weekday optional; else None."""
    if not system.startswith(_CONTEXT):
        return None
    return instant(system.removeprefix(_CONTEXT).split(" ")[0].rstrip("."))


def calls_group(calls: Sequence[ToolCall]) -> str:
    """The split group of traces that answer with these calls."""
    return f"calls-{sha256_json([call.model_dump(mode='json') for call in calls])[:16]}"


def make_plan(
    config: GenerateConfig,
    catalog: Catalog,
    validator: CallValidator,
    book: ValueBook,
    seeds: Sequence[SeedRequest],
    results: ToolResults,
) -> list[PlanItem]:
    """All items: call-first, then conversations, then request-first.

    Raises:
        ConfigError: arguments can't be sampled for some parameter, or no conversation can be planned.
    """
    planner = _Planner(config, catalog, validator, book)
    chosen = seeds if config.num_request_first is None else seeds[: config.num_request_first]
    return [*planner.call_first(), *planner.multi_turn(results), *(_seed_item(seed) for seed in chosen)]


def _seed_item(seed: SeedRequest) -> PlanItem:
    return PlanItem(
        id=f"request-first-{seed.id}",
        source="request_first",
        category=seed.category,
        cell=f"seed/{seed.category or 'unknown'}",
        split_group=f"seed-{seed.id}",
        request=seed.text,
        system=seed.system,
        now=time_of_context(seed.system),
    )


class _Planner:
    """Makes the call-first items of one catalogue."""

    def __init__(self, config: GenerateConfig, catalog: Catalog, validator: CallValidator, book: ValueBook) -> None:
        self._config = config
        self._catalog = catalog
        self._validator = validator
        self._specs = catalog.specs
        self._book = book
        self._random = random.Random(config.seed)
        self._sampler = ArgumentSampler(validator, book, seed=config.seed, now=config.current_time)
        self._registers = itertools.cycle(REGISTERS)
        self._topics = _foreign_topics(catalog)
        self._decks: dict[tuple[str, int], list[tuple[str, ...]]] = {}
        # A generator of its own, so that a plan without edges draws what it always drew.
        self._edge_random = random.Random(f"{config.seed} edges")
        self._edges: dict[str, list[tuple[str, str]]] = {}

    def call_first(self) -> Iterator[PlanItem]:
        total = self._config.num_call_first
        num_no_call = round(total * self._config.no_call_fraction)
        num_clarify = num_no_call // 2 if any(required_parameters(spec) for spec in self._specs) else 0
        num_calling = total - num_no_call
        several = len(self._specs) > 1
        num_parallel = round(num_calling * _PARALLEL)
        num_mixed = round(num_calling * _PARALLEL_MULTIPLE) if several else 0
        counts: list[tuple[Category, int]] = [
            ("simple", num_calling - num_parallel - num_mixed),
            ("parallel", num_parallel),
            ("parallel_multiple", num_mixed),
            ("clarify", num_clarify),
            ("irrelevance", num_no_call - num_clarify),
        ]
        numbers = itertools.count(1)
        for category, count in counts:
            if category == "irrelevance":
                num_removed = round(count * self._config.removed_tools_fraction)
                yield from (self._foreign_item(f"call-first-{next(numbers):05d}") for _ in range(count - num_removed))
                for number, specs in zip(range(num_removed), self._tool_groups("simple"), strict=False):
                    offered: ToolsOffered = "none" if number % _EVERY_NTH_BARE == _EVERY_NTH_BARE - 1 else "others"
                    yield self._item(f"call-first-{next(numbers):05d}", category, specs, offered)
                continue
            for _, specs in zip(range(count), self._tool_groups(category), strict=False):
                yield self._item(f"call-first-{next(numbers):05d}", category, specs)

    def multi_turn(self, results: ToolResults) -> Iterator[PlanItem]:
        """The planned conversations."""
        planner = DialoguePlanner(
            self._catalog, self._validator, self._book, results, self._sampler, self._optional, self._random
        )
        # Slips of the finger are put into single requests only.
        registers = itertools.cycle([register for register in REGISTERS if register != "typos"])
        for number, plan in enumerate(planner.draw(self._config.num_multi_turn, self._config.conversation_shares), 1):
            register = next(registers)
            tools = "+".join(call.name for call in plan.calls)
            yield PlanItem(
                id=f"multi-turn-{number:05d}",
                source="multi_turn",
                category="simple",
                cell=f"{plan.dialogue.kind}/{tools}/{register}",
                split_group=calls_group(plan.calls),
                calls=plan.calls,
                facts=plan.facts,
                register=register,
                dialogue=plan.dialogue,
            )

    def _tool_groups(self, category: Category) -> Iterator[tuple[ToolSpec, ...]]:
        """Tools of the coming items, each equally often."""
        callable_specs = [spec for spec in self._specs if category != "clarify" or required_parameters(spec)]
        # A tool without parameters can't be called twice in one answer.
        repeatable = [spec for spec in callable_specs if (property_schema(spec.parameters, []) or {}).get("properties")]
        while True:
            deck = self._random.sample(callable_specs, len(callable_specs))
            if category == "parallel":
                yield from ((spec,) * self._random.choice((2, 2, 3)) for spec in deck if spec in repeatable)
                if not repeatable:
                    yield from ((spec,) for spec in deck)
            elif category == "parallel_multiple":
                for spec in deck:
                    others = [other for other in callable_specs if other is not spec]
                    size = min(self._random.choice((1, 1, 2)), len(others))
                    yield (spec, *self._random.sample(others, size))
            else:
                yield from ((spec,) for spec in deck)

    def _foreign_item(self, identity: str) -> PlanItem:
        register = next(self._registers)
        topic = self._random.choice(self._topics)
        return PlanItem(
            id=identity, source="call_first", category="irrelevance", cell=f"irrelevance/{register}",
            split_group=f"topic-{topic}", topic=topic, register=register,
        )  # fmt: skip

    def _item(
        self, identity: str, category: Category, specs: tuple[ToolSpec, ...], offered: ToolsOffered = "all"
    ) -> PlanItem:
        register = next(self._registers)
        calls: list[ToolCall] = []
        subsets: list[str] = []
        for spec in specs:
            for _ in range(20):  # parallel calls of one tool must differ
                optional = self._optional(spec, most=1 if len(specs) > 1 else None)
                edged = self._on_edge(spec, optional) if category == "simple" else None
                call = edged or self._sampler.sample(spec, optional)
                if call not in calls:
                    break
            else:
                continue
            calls.append(call)
            subsets.append(f"{spec.name}[{','.join(optional)}]")
        missing = ""
        if category == "clarify":
            name = self._random.choice(required_parameters(specs[0]))
            told = self._implying(f"{specs[0].name}.{name}")
            kept = {key: value for key, value in calls[0].arguments.items() if key not in told}
            calls, missing = [ToolCall(name=specs[0].name, arguments=kept)], name
        now = self._now(calls, specs)
        return PlanItem(
            id=identity,
            source="call_first",
            category="simple" if category == "parallel" and len(calls) == 1 else category,
            cell=f"{category if offered == 'all' else f'{category}:{offered}'}/{'+'.join(subsets)}/{register}",
            split_group=calls_group(calls),
            calls=tuple(calls),
            facts=tuple(
                facts_to_say(call, spec, self._book, now, self._random)
                for call, spec in zip(calls, specs, strict=False)
            ),
            missing=missing,
            register=register,
            offered=offered,
            system=time_context(now) if now else "",
            now=now,
        )

    def _on_edge(self, spec: ToolSpec, optional: tuple[str, ...]) -> ToolCall | None:
        """Now and then a call with an argument on an edge; each edge of a tool has its turn before one comes twice."""
        if self._edge_random.random() >= self._config.edge_fraction:
            return None
        deck = self._edges.setdefault(spec.name, [])
        if not deck:
            deck += schema_edges(spec)
            self._edge_random.shuffle(deck)
        # An edge on which no known text lies costs the others no turn.
        return next(filter(None, (self._sampler.sample_edge(spec, optional, *deck.pop()) for _ in list(deck))), None)

    def _implying(self, path: str) -> set[str]:
        """Arguments from which this one follows: who says them need not be asked for it."""
        return {other for entry in self._book.entries.get(path, ()) for other in entry.implied_by}

    def _optional(self, spec: ToolSpec, most: int | None) -> tuple[str, ...]:
        """The optional parameters of the next call: each subset has its turn before one comes twice."""
        names = optional_parameters(spec)
        most = len(names) if most is None else min(most, len(names))
        if len(names) > _MOST_DECKED:
            chosen = [name for name in names if self._random.random() < 0.5]
            chosen = self._random.sample(chosen, min(most, len(chosen)))
            return tuple(name for name in names if name in chosen)
        deck = self._decks.setdefault((spec.name, most), [])
        if not deck:
            deck += [subset for size in range(most + 1) for subset in itertools.combinations(names, size)]
            self._random.shuffle(deck)
        return deck.pop()

    def _now(self, calls: Sequence[ToolCall], specs: Sequence[ToolSpec]) -> datetime | None:
        """A current time, where some argument is a date or date-time and the request shall say it relatively."""
        times = [
            when
            for call, spec in zip(calls, specs, strict=False)
            for name, value in call.arguments.items()
            if (when := moment(value, property_schema(spec.parameters, [name]) or {})) is not None
        ]
        if not times or self._random.random() < 0.4:
            return None
        ahead = timedelta(days=self._random.choice((0, 1, 1, 1, 2, 3, 5)), hours=self._random.randint(1, 12))
        return (min(times) - ahead).replace(minute=self._random.choice((0, 5, 15, 30, 45)))


def _foreign_topics(catalog: Catalog) -> list[str]:
    """Topics that no tool of the catalogue speaks of; all, where the catalogue speaks of each."""
    known = (
        " ".join(f"{spec.name} {spec.description} {spec.parameters}" for spec in catalog.specs)
        .lower()
        .replace("_", " ")
    )
    words = set(known.replace(",", " ").replace(".", " ").replace("'", " ").split())
    foreign = [topic for topic in _TOPICS if not any(len(word) > 3 and word in words for word in topic.split())]
    return foreign or list(_TOPICS)
