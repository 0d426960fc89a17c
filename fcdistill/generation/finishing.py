"""What a generation ends with: all outcomes judged together, more traces made of those that stay, files and counts.

The files are computed from the journal alone, so that a killed run which finishes again writes the same. Nothing here
asks a teacher.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdistill.config import GenerateConfig
from fcdistill.generation.arguments import ArgumentSampler
from fcdistill.generation.clarified import answer_questions
from fcdistill.generation.collection import Collection, count_generation
from fcdistill.generation.coverage import count_cells
from fcdistill.generation.dedupe import Contamination, NearDuplicates
from fcdistill.generation.executing import Executor, execution_checks
from fcdistill.generation.joining import join_traces
from fcdistill.generation.plan import PlanItem, calls_group
from fcdistill.generation.reuse import REUSED, Reused
from fcdistill.generation.rounds import Round, count_rounds
from fcdistill.generation.turns import conversation, conversation_key, earlier_steps, merge_groups
from fcdistill.generation.variation import vary_traces
from fcdistill.generation.verify import Verifier
from fcdistill.records import (
    Check,
    GenerationStats,
    Message,
    ModelRef,
    Outcome,
    Reject,
    ToolCall,
    Trace,
    TraceMeta,
    WorkedExample,
)
from fcdistill.storage import Journal, write_json, write_jsonl

__all__ = ["Finishing"]


@dataclass(frozen=True)
class Finishing:
    """The end of one run over one plan.

    Attributes:
        config: what is made.
        verifier: checks what is made of kept traces.
        examples: the team's own, which are traces too.
        plan: the items that were worked at.
        reused: earlier traces, in the plan's places and beside it.
        journal: the outcomes.
        contamination: finds wording of eval cases.
        executor: carries out calls, where the config names one.
    """

    config: GenerateConfig
    verifier: Verifier
    examples: Sequence[WorkedExample]
    plan: Sequence[PlanItem]
    reused: Reused
    journal: Journal[Outcome]
    contamination: Contamination
    executor: Executor | None

    def last_outcomes(self) -> dict[str, Outcome]:
        """The last attempt at each item, by its id."""
        return {outcome.id: outcome for outcome in self.journal.records}

    def verdicts(self, last: Mapping[str, Outcome]) -> dict[str, list[Check]]:
        """What all together shows of those that passed their own checks, by trace id.

        Args:
            last: the outcomes to judge, by item.
        """
        return self._collected(last)[1]

    def finish(self, rounds: Sequence[Round]) -> GenerationStats:
        """Judge all traces together, make more of those that stay, write the files, return the counts."""
        last = self.last_outcomes()
        collection, verdicts = self._collected(last)
        candidates = [*self._given(), *(last[item.id].candidate for item in self.plan)]
        judged = [(trace, verdicts.get(trace.id, [])) for trace in candidates]
        for further in (self._varied, self._joined, self._clarified, self._steps):
            made = list(further([trace for trace, checks in judged if _failed(trace, checks) is None]))
            judged += [self._judged(trace, collection) for trace in made]
        kept = [trace for trace, checks in judged if _failed(trace, checks) is None]
        rejects = [
            Reject(id=trace.id, check=failed.name, detail=failed.detail, candidate=trace)
            for trace, checks in judged
            if (failed := _failed(trace, checks)) is not None
        ]
        write_jsonl(self.config.out / "traces.jsonl", merge_groups(kept, _groups_of_steps))
        write_jsonl(self.config.out / "rejects.jsonl", rejects)
        further_checks = (check for _, checks in judged for check in checks)
        kept_ids = {trace.id for trace in kept}
        stats = count_generation(
            [trace for trace, _ in judged],
            kept,
            Counter((check.name, check.ok) for check in (*self._checks_met(), *further_checks)),
            self.journal.records,
            count_cells(self._settled_plan(last), last, kept_ids, self.verifier.catalog),
            self.verifier.catalog,
            collection.report(),
        )
        stats = stats.model_copy(update={"rounds": count_rounds(rounds, self.journal.records, kept_ids)})
        write_json(self.config.out / "stats.json", stats.model_dump(mode="json"))
        return stats

    def finish_shard(self, directory: Path, rounds: Sequence[Round]) -> GenerationStats:
        """Write and return the counts of a shard, in which all that passed its own checks counts as kept."""
        last = self.last_outcomes()
        passed = {name for name, outcome in last.items() if outcome.failed is None}
        candidates = [last[item.id].candidate for item in self.plan]
        stats = count_generation(
            candidates,
            [trace for trace in candidates if trace.id in passed],
            Counter((check.name, check.ok) for check in self._checks_met()),
            self.journal.records,
            count_cells(self._settled_plan(last), last, passed, self.verifier.catalog),
            self.verifier.catalog,
            dedupe=None,
        )
        stats = stats.model_copy(update={"rounds": count_rounds(rounds, self.journal.records, passed)})
        write_json(directory / "stats.json", stats.model_dump(mode="json"))
        return stats

    def _collected(self, last: Mapping[str, Outcome]) -> tuple[Collection, dict[str, list[Check]]]:
        """All that passed their own checks, collected, and the collection's verdicts by trace id.

        Of duplicates the one with the earliest attempt stays, so that another try never displaces a kept trace.
        """
        made = sorted((last[item.id] for item in self.plan if item.id in last), key=lambda outcome: outcome.attempt)
        traces = [*self._given(), *(outcome.candidate for outcome in made if outcome.failed is None)]
        near_duplicates = NearDuplicates(self.config.near_duplicate_jaccard)
        collection = Collection(traces, self.contamination, near_duplicates)
        return collection, {trace.id: collection.check(trace) for trace in traces}

    def _settled_plan(self, last: Mapping[str, Outcome]) -> list[PlanItem]:
        """The plan, with the items whose places earlier traces took as those settle them."""
        settled = self.reused.settled
        return [settled[item.id] if last[item.id].attempt == REUSED else item for item in self.plan]

    def _made_here(self) -> list[PlanItem]:
        """The items whose planned calls are those of their traces."""
        last = self.last_outcomes()
        return [item for item in self.plan if last[item.id].attempt != REUSED]

    def _checks_met(self) -> Iterator[Check]:
        """The verdicts on all attempts."""
        return (check for outcome in self.journal.records for check in outcome.candidate.meta.checks)

    def _judged(self, trace: Trace, collection: Collection) -> tuple[Trace, list[Check]]:
        """A trace that was made of others, and the verdicts on it that are still missing."""
        checks = collection.check(trace)
        executed = execution_checks(self.executor, trace.answer.calls) if all(check.ok for check in checks) else []
        meta = trace.meta.model_copy(update={"checks": (*trace.meta.checks, *executed)})
        return trace.model_copy(update={"meta": meta}), checks + executed

    def _varied(self, kept: Sequence[Trace]) -> Iterator[Trace]:
        config = self.config
        # Not the plan's seed, which would draw the plan's values again.
        sampler = ArgumentSampler(
            self.verifier.validator, self.verifier.book, seed=config.seed + 1, now=config.current_time
        )
        cut = {item.id: _without(item.calls[0], item.missing) for item in self._made_here() if item.missing}
        return vary_traces(kept, self.verifier, sampler, count=config.num_varied, seed=config.seed, cut=cut)

    def _joined(self, kept: Sequence[Trace]) -> Iterator[Trace]:
        return join_traces(kept, self.verifier, count=self.config.num_joined, seed=self.config.seed)

    def _clarified(self, kept: Sequence[Trace]) -> Iterator[Trace]:
        config = self.config
        return answer_questions(kept, self._made_here(), self.verifier, count=config.num_clarified, seed=config.seed)

    def _steps(self, kept: Sequence[Trace]) -> Iterator[Trace]:
        """The first calls of planned conversations, but where another trace has the same past."""
        known = {conversation_key(trace) for trace in kept}
        for step in (step for trace in kept if trace.meta.source == "multi_turn" for step in earlier_steps(trace)):
            if (key := conversation_key(step)) not in known:
                known.add(key)
                yield step

    def _given(self) -> Iterator[Trace]:
        """Traces that no item of the plan stands for."""
        yield from self._example_traces()
        yield from self.reused.beside

    def _example_traces(self) -> Iterator[Trace]:
        """The team's worked examples are traces too: right by their authors' word, checked against the schemas."""
        for example in self.examples:
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
                tools=self.verifier.catalog.tools,
                split_group=group,
                meta=meta,
            )


def _failed(trace: Trace, further: Sequence[Check]) -> Check | None:
    return next((check for check in (*trace.meta.checks, *further) if not check.ok), None)


def _without(call: ToolCall, name: str) -> ToolCall:
    return ToolCall(name=call.name, arguments={key: value for key, value in call.arguments.items() if key != name})


def _groups_of_steps(trace: Trace) -> list[str]:
    """The split groups of a conversation's single steps, which other traces may have as their only one."""
    is_planned = trace.meta.source == "multi_turn"
    return [calls_group(message.calls) for message in trace.messages if message.calls] if is_planned else []
