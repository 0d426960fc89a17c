"""What a generation ends with: all outcomes judged together, more traces made of those that stay, files and counts.

The files are computed from the journal alone, so that a killed run which finishes again writes the same. Traces are
read from disk one at a time: memory holds what tells them apart, and not what they say. Nothing here asks a teacher.
"""

from collections.abc import Collection as Collected
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from fcdistill.generation.context import GenerationContext
from fcdistill.generation.dataset.collection import Collection, Tally, count_generation
from fcdistill.generation.dataset.coverage import count_cells, count_filled
from fcdistill.generation.dataset.dedupe import NearDuplicates
from fcdistill.generation.dataset.diversity import measure_diversity
from fcdistill.generation.dataset.reuse import REUSED
from fcdistill.generation.dataset.turns import conversation, conversation_key, earlier_steps, merge_groups
from fcdistill.generation.derive.clarify_followups import answer_questions
from fcdistill.generation.derive.continued_traces import continue_traces
from fcdistill.generation.derive.joining import join_traces
from fcdistill.generation.derive.variation import vary_traces
from fcdistill.generation.execution.executor import execution_checks
from fcdistill.generation.journal.outcomes import Entry, Outcomes
from fcdistill.generation.journal.rounds import Round, count_rounds
from fcdistill.generation.journal.spool import Spool, Traces
from fcdistill.generation.plan.argument_sampler import ArgumentSampler
from fcdistill.generation.plan.plan import PlanItem, calls_group
from fcdistill.generation.verification.verifier import without_arguments
from fcdistill.records import (
    Check,
    DedupeReport,
    Diversity,
    GenerationStats,
    Message,
    ModelRef,
    Reject,
    Trace,
    TraceMeta,
)
from fcdistill.storage import write_json, write_jsonl

__all__ = ["Assembly"]


@dataclass(frozen=True)
class Assembly:
    """The end of one run over one plan.

    Attributes:
        context: what is made, and from what.
        outcomes: of all attempts.
    """

    context: GenerationContext
    outcomes: Outcomes

    def refused(self, last: Mapping[str, Entry]) -> dict[str, Check]:
        """What all together shows against traces that passed their own checks, by trace id.

        Args:
            last: the attempts to judge, by item.
        """
        return self._collected(last, Tally())[1]

    def held(self, last: Mapping[str, Entry], refused: Collected[str]) -> set[str]:
        """The items in whose places recorded answers stand that nothing speaks against.

        Args:
            last: the attempts to judge, by item.
            refused: ids of traces that all together refuse.
        """
        return {
            item
            for item, identity in self.context.recorded.places.items()
            if identity in last and not last[identity].failed and identity not in refused
        }

    def finish(self, rounds: Sequence[Round]) -> GenerationStats:
        """Judge all traces together, make more of those that stay, write the files, return the counts."""
        out, last, tally = self.context.config.out, self.outcomes.last(), Tally()
        kept_ids: set[str] = set()
        with Spool(out, Trace) as kept, Spool(out, Reject) as rejects:

            def decide(trace: Trace, failed: Check | None) -> None:
                tally.decided(trace, failed)
                if failed is None:
                    kept.add(trace)
                    kept_ids.add(trace.id)
                else:
                    rejects.add(Reject(id=trace.id, check=failed.name, detail=failed.detail, candidate=trace))

            collection, refused = self._collected(last, tally)
            for trace in self._given():
                decide(trace, _failed(trace) or refused.get(trace.id))
            held = self.held(last, refused)
            asked = (last[item.id] for item in self.context.plan if item.id in last and item.id not in held)
            for entry in (*self._recorded(last), *asked):
                trace = self.outcomes.read(entry).candidate
                decide(trace, _failed(trace) or refused.get(trace.id))
            for further in (self._varied, self._joined, self._clarified, self._continued, self._steps):
                with Spool(out, Trace) as made:
                    for trace in further(kept):
                        made.add(trace)
                    for trace in made:
                        judged, failed = self._judged(trace, collection, tally)
                        decide(judged, failed)
            write_jsonl(out / "traces.jsonl", merge_groups(kept, _groups_of_steps))
            write_jsonl(out / "rejects.jsonl", rejects)
            diversity = measure_diversity(kept, self.context.catalog)
        return self._count(out, rounds, tally, last, kept_ids, held, collection.report(), diversity)

    def finish_shard(self, directory: Path, rounds: Sequence[Round]) -> GenerationStats:
        """Write and return the counts of a shard, in which all that passed its own checks counts as kept."""
        last, tally = self.outcomes.last(), Tally()
        for item in self.context.plan:
            if item.id in last:
                trace = self.outcomes.read(last[item.id]).candidate
                tally.decided(trace, _failed(trace))
        passed = {entry.id for entry in last.values() if not entry.failed}
        return self._count(directory, rounds, tally, last, passed, held=set(), dedupe=None, diversity={})

    def _count(
        self,
        directory: Path,
        rounds: Sequence[Round],
        tally: Tally,
        last: Mapping[str, Entry],
        kept_ids: Set[str],
        held: Set[str],
        dedupe: DedupeReport | None,
        diversity: Mapping[str, Diversity],
    ) -> GenerationStats:
        catalog, places = self.context.catalog, self.context.recorded.places
        plan = self._settled_plan(last, held)
        standing = {item.id: places[item.id] if item.id in held else item.id for item in plan}
        cells = count_cells(plan, last, kept_ids, standing, catalog)
        settled = [item for item in plan if standing[item.id] in kept_ids]
        sources = ("recorded" if item.id in held else item.source for item in settled)
        filled = count_filled(zip(settled, sources, strict=True), catalog)
        stats = count_generation(tally, self.outcomes, cells, filled, catalog, dedupe)
        is_shard = self.context.config.shard is not None
        unasked = 0 if is_shard else sum(identity not in last for identity in standing.values())
        counted = count_rounds(rounds, self.outcomes.entries, kept_ids)
        stats = stats.model_copy(update={"rounds": counted, "unasked": unasked, "diversity": diversity})
        write_json(directory / "stats.json", stats.model_dump(mode="json"))
        return stats

    def _collected(self, last: Mapping[str, Entry], tally: Tally) -> tuple[Collection, dict[str, Check]]:
        """All that passed their own checks, collected, and the check that each failed then, by trace id.

        Of duplicates the one with the earliest attempt stays, so that another try never displaces a kept trace.
        """
        near_duplicates = NearDuplicates(self.context.config.near_duplicate_jaccard)
        collection = Collection(self._passed(last), self.context.contamination, near_duplicates)
        refused = {}
        for trace in self._passed(last):
            checks = collection.check(trace)
            tally.met(checks)
            if not checks[-1].ok:
                refused[trace.id] = checks[-1]
        return collection, refused

    def _passed(self, last: Mapping[str, Entry]) -> Iterator[Trace]:
        """What passed its own checks, earlier attempts first."""
        yield from self._given()
        entries = (last[item.id] for item in self.context.plan if item.id in last)
        for entry in (*self._recorded(last), *sorted(entries, key=lambda entry: entry.attempt)):
            if not entry.failed:
                yield self.outcomes.read(entry).candidate

    def _recorded(self, last: Mapping[str, Entry]) -> Iterator[Entry]:
        """The recorded answers, in the order of their files."""
        return (last[trace.id] for trace in self.context.recorded.candidates if trace.id in last)

    def _settled_plan(self, last: Mapping[str, Entry], held: Set[str]) -> list[PlanItem]:
        """The plan, with the items whose places traces took that were there already as those settle them."""
        reused = {item for item, entry in last.items() if entry.attempt == REUSED}
        settled = {item: settled for item, settled in self.context.reused.settled.items() if item in reused}
        settled |= {item: settled for item, settled in self.context.recorded.settled.items() if item in held}
        return [settled.get(item.id, item) for item in self.context.plan]

    def _made_here(self) -> list[PlanItem]:
        """The items whose planned calls are those of their traces."""
        last = self.outcomes.last()
        return [item for item in self.context.plan if item.id in last and last[item.id].attempt != REUSED]

    def _judged(self, trace: Trace, collection: Collection, tally: Tally) -> tuple[Trace, Check | None]:
        """A trace that was made of others, with the verdicts that were still missing, and the check that it failed."""
        checks = collection.check(trace)
        executed = execution_checks(self.context.executor, trace.answer.calls) if checks[-1].ok else []
        tally.met([*checks, *executed])
        meta = trace.meta.model_copy(update={"checks": (*trace.meta.checks, *executed)})
        judged = trace.model_copy(update={"meta": meta})
        return judged, _failed(judged) or (None if checks[-1].ok else checks[-1])

    def _varied(self, kept: Traces) -> Iterator[Trace]:
        config = self.context.config
        # Not the plan's seed, which would draw the plan's values again.
        sampler = ArgumentSampler(
            self.context.verifier.validator, self.context.verifier.book, seed=config.seed + 1, now=config.current_time
        )
        cut = {item.id: without_arguments(item.calls[0], {item.missing}) for item in self._made_here() if item.missing}
        return vary_traces(kept, self.context.verifier, sampler, count=config.num_varied, seed=config.seed, cut=cut)

    def _joined(self, kept: Traces) -> Iterator[Trace]:
        return join_traces(
            kept, self.context.verifier, count=self.context.config.num_joined, seed=self.context.config.seed
        )

    def _clarified(self, kept: Traces) -> Iterator[Trace]:
        config = self.context.config
        return answer_questions(
            kept, self._made_here(), self.context.verifier, count=config.num_clarified, seed=config.seed
        )

    def _continued(self, kept: Traces) -> Iterator[Trace]:
        config, verifier = self.context.config, self.context.verifier
        # Neither the plan's seed nor that of varied traces, whose values these would be.
        sampler = ArgumentSampler(verifier.validator, verifier.book, seed=config.seed + 2, now=config.current_time)
        shares = config.conversation_shares
        return continue_traces(kept, verifier, sampler, count=config.num_continued, shares=shares, seed=config.seed)

    def _steps(self, kept: Traces) -> Iterator[Trace]:
        """The earlier answers of conversations, but where another trace has the same past."""
        if (
            not self.context.config.num_continued
            and not any(item.dialogue for item in self.context.plan)
            and not any(map(_is_conversation, self.context.reused.beside))
        ):
            return
        known = {conversation_key(trace) for trace in kept}
        for step in (step for trace in kept if _is_conversation(trace) for step in earlier_steps(trace)):
            if (key := conversation_key(step)) not in known:
                known.add(key)
                yield step

    def _given(self) -> Iterator[Trace]:
        """Traces that no item of the plan stands for."""
        yield from self._example_traces()
        yield from self.context.reused.beside

    def _example_traces(self) -> Iterator[Trace]:
        """The team's worked examples are traces too: right by their authors' word, checked against the schemas."""
        for example in self.context.examples:
            answer = (
                Message.calling(example.calls) if example.calls else Message(role="assistant", content=example.text)
            )
            meta = TraceMeta(
                source="import",
                category=example.category,
                plan_cell=f"example/{example.category}",
                teacher=ModelRef(model="worked example"),
                checks=(Check(name="schema", ok=True),),
            )
            group = calls_group(example.calls) if example.calls else f"example-{example.id}"
            turns = [Message(role="user", content=example.request)]
            yield Trace(
                id=example.id,
                messages=conversation(example.system, turns, answer),
                tools=self.context.catalog.tools,
                split_group=group,
                meta=meta,
            )


def _failed(trace: Trace) -> Check | None:
    """The first of its own checks that a trace failed."""
    return next((check for check in trace.meta.checks if not check.ok), None)


def _is_conversation(trace: Trace) -> bool:
    return trace.meta.source in ("multi_turn", "continued")


def _groups_of_steps(trace: Trace) -> list[str]:
    """The split groups of a planned conversation's single steps, which other traces may have as their only one.

    Not those of greetings and the like, whose calls are all the same. A conversation that is made of other traces names
    them, as other such traces do.
    """
    if trace.meta.source != "multi_turn":
        return []
    return [calls_group(message.calls) for message in trace.messages if any(call.arguments for call in message.calls)]
