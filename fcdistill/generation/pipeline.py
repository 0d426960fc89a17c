"""`fcdistill generate`: from plan to verified traces, resumable at any instant.

The plan is cut into fixed chunks. A chunk's outcomes go to `journal.jsonl` in one durable append; a run that takes up
the work again asks only for chunks that are not there yet, with the same seeds, so that it ends with the same set.
`traces.jsonl`, `rejects.jsonl` and `stats.json` are computed from the journal when all chunks are done. With several
rounds, what a round has kept also goes to `traces-round-N.jsonl`, from which the teacher of the next one learns. A
shard has a journal and counts alone: which of its traces are kept shows when all shards are taken up.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from fcdistill.backends.base import Backend, Completion, Request, complete_all
from fcdistill.backends.call_grammar import require_enforceable
from fcdistill.catalog import Catalog
from fcdistill.config import DecodeSettings, GenerateConfig
from fcdistill.conversations.steps import category_of
from fcdistill.errors import ConfigError, DataError
from fcdistill.generation.answering import Ask, answer_requests, dispute_of, prove_requests
from fcdistill.generation.asking_back import ask_back
from fcdistill.generation.conversing import converse
from fcdistill.generation.dedupe import Contamination
from fcdistill.generation.drafts import Draft, ground
from fcdistill.generation.executing import Executor, execution_checks
from fcdistill.generation.finishing import Finishing
from fcdistill.generation.judging import settle
from fcdistill.generation.outcomes import Outcomes
from fcdistill.generation.plan import PlanItem, calls_group, make_plan
from fcdistill.generation.results import ToolResults, read_results
from fcdistill.generation.reuse import REUSED, place_traces, read_reusable
from fcdistill.generation.rounds import OnDemand, Round, read_rounds, write_rounds
from fcdistill.generation.sharding import JOURNAL, Shard, finished_journals, merge_journals
from fcdistill.generation.synthesize import Prompter, add_typos, clean_request
from fcdistill.generation.turns import conversation
from fcdistill.generation.values import ValueBook, read_value_book
from fcdistill.generation.verify import Verifier
from fcdistill.records import (
    Check,
    EvalCase,
    FunctionTool,
    GenerationStats,
    Message,
    Outcome,
    SeedRequest,
    Trace,
    TraceMeta,
    WorkedExample,
)
from fcdistill.storage import RunDirectory, iter_jsonl, read_json, read_jsonl, sha256_json, write_jsonl
from fcdistill.validation import CallValidator
from fcdistill.worked_examples import read_examples

__all__ = ["run_generation"]

_CHUNK = 128
_MAX_REQUEST_TOKENS = 80
_ROUND_TRACES = "traces-round-{}.jsonl"


def run_generation(
    config: GenerateConfig,
    backend: Callable[[], Backend],
    catalog: Catalog,
    *,
    judge: Callable[[], Backend] | None = None,
    adapted: Callable[[int, Path], Backend] | None = None,
    retry_rejects: bool = False,
    on_progress: Callable[[int, int, int], None] | None = None,
) -> GenerationStats:
    """Generate, verify and write traces; a finished directory returns its stats at once.

    Args:
        config: what to make, or one shard of it.
        backend: opens the teacher; called only when there is work for it.
        catalog: the tools.
        judge: opens the judge of disputed answers, where the config names one; called before the teacher is opened.
        adapted: opens the teacher of a round when it has learned the traces of a file, where the config has several
            rounds; it is called again when a killed run goes on.
        retry_rejects: give every rejected item of a finished run one more attempt.
        on_progress: called with (items done, items in all, traces kept) after every chunk.

    Raises:
        FcdistillError: inputs are unusable, the directory holds another run, or the teacher stopped answering.
    """
    if config.constrained:
        require_enforceable([catalog.specs])
    book = read_value_book(config.values, catalog)
    validator = CallValidator(catalog.specs)
    examples = read_examples(config.examples, validator) if config.examples else []
    seeds = read_jsonl(config.seeds, SeedRequest, "seeds file") if config.seeds else []
    cases = [case for path in config.decontaminate for case in read_jsonl(path, EvalCase, "eval cases")]
    results = read_results(config.results, catalog)
    plan = make_plan(config, catalog, validator, book, seeds, results)
    if not plan:
        raise DataError(
            "there is nothing to generate: no call-first traces are planned and there are no seeds",
            required="num_call_first above 0, or a seeds file",
            fix="set one of them in the generate section",
        )
    reused = place_traces(plan, read_reusable(config.reuse, catalog, validator), catalog)
    optional = (config.values, config.results, config.examples, config.seeds, *config.decontaminate, *config.reuse)
    inputs = [path for path in optional if path]

    shard = Shard.parse(config.shard) if config.shard else None
    rounds = read_rounds(_directory(config, shard), config.attempts)

    def opened(shard: Shard | None) -> RunDirectory:
        # How a teacher is adapted matters as soon as one was.
        is_adapted = shard is None and len(rounds) > 1
        return RunDirectory(
            _directory(config, shard),
            stage="generate",
            config={
                **config.model_dump(mode="json"),
                "catalog_sha256": catalog.sha256,
                "returns_sha256": sha256_json(results.returns),
                "shard": str(shard) if shard else None,
            },
            inputs=inputs,
            seed=config.seed,
            volatile=frozenset({"out", "ray", "ray_gpus", "rounds"} | (set() if is_adapted else {"adaptation"})),
        )

    if shard is not None:
        plan = shard.of(plan)
        if retry_rejects:
            raise ConfigError(
                f"rejects are to be tried again in shard {shard} alone",
                required="a whole generation: what is a reject shows when all its shards are taken up",
                fix="remove --retry-rejects; after the last shard, give it to the generation without --shard",
            )
    with opened(shard) as run, Outcomes(run.path / JOURNAL) as outcomes, contextlib.ExitStack() as held:
        if run.complete and not retry_rejects and len(rounds) >= config.rounds:
            return GenerationStats.model_validate(read_json(run.path / "stats.json", "stats file"))
        if run.complete and retry_rejects:
            rounds[-1] = _with_another_attempt(rounds[-1], outcomes)
            write_rounds(run.path, rounds)
        journals = [] if shard or run.complete else finished_journals(config.out, opened)
        if run.complete:
            run.reopen()
        # Settled before the first attempt, like items that an earlier attempt settled.
        placed = (
            Outcome(id=item.id, attempt=REUSED, candidate=reused.placed[item.id])
            for item in plan
            if item.id in reused.placed
        )
        made = _append_missing(outcomes, merge_journals(journals) if journals else placed)
        executor = Executor(config.executor, catalog.original_names) if config.executor else None
        if executor is not None:
            held.callback(executor.close)
        verifier = Verifier(catalog, validator, book)
        contamination = Contamination(cases, config.contamination_jaccard)
        finishing = Finishing(config, verifier, examples, plan, reused, outcomes, contamination, executor)
        generator = _Generator(
            config,
            catalog,
            book,
            examples,
            plan,
            verifier,
            results,
            outcomes,
            finishing,
            made,
            executor,
            backend,
            judge,
            on_progress,
        )
        generator.work(rounds[0])
        for number in range(2, max(config.rounds, len(rounds)) + 1):
            if len(rounds) < number:
                following = Round(number, rounds[-1].attempts.stop, config.attempts)
                if not generator.has_questions(following) or finishing.finish(rounds).kept == 0:
                    break
                generator.save_round(rounds[-1])
                rounds.append(following)
                write_rounds(config.out, rounds)
            assert adapted is not None
            learned = config.out / _ROUND_TRACES.format(number - 1)
            generator.work(rounds[number - 1], partial(adapted, number, learned))
        stats = finishing.finish_shard(run.path, rounds) if shard else finishing.finish(rounds)
        run.mark_complete()
        return stats


def _directory(config: GenerateConfig, shard: Shard | None) -> Path:
    """Where a run over the plan, or over one shard of it, keeps its files."""
    return shard.directory(config.out) if shard else config.out


def _append_missing(outcomes: Outcomes, found: Iterable[Outcome]) -> Set[tuple[str, int]]:
    """Add what a journal does not hold yet, so that a run which is killed here doubles nothing.

    Returns:
        Ids and attempts of all that was found.
    """
    known = {(entry.id, entry.attempt) for entry in outcomes.entries}
    made: set[tuple[str, int]] = set()
    waiting = iter(found)
    while batch := list(islice(waiting, _CHUNK)):
        made.update((outcome.id, outcome.attempt) for outcome in batch)
        missing = [outcome for outcome in batch if (outcome.id, outcome.attempt) not in known]
        if missing:
            outcomes.append(missing)
    return made


def _with_another_attempt(last: Round, outcomes: Outcomes) -> Round:
    """The last round of a finished run with one more attempt.

    It is counted from the journal, so that a run which is killed before the attempt began adds no second one.
    """
    made = 1 + max((entry.attempt for entry in outcomes.entries), default=-1)
    return replace(last, num_attempts=made + 1 - last.first)


class _Generator:
    """One run over one plan."""

    def __init__(
        self,
        config: GenerateConfig,
        catalog: Catalog,
        book: ValueBook,
        examples: Sequence[WorkedExample],
        plan: Sequence[PlanItem],
        verifier: Verifier,
        results: ToolResults,
        outcomes: Outcomes,
        finishing: Finishing,
        made_before: Set[tuple[str, int]],
        executor: Executor | None,
        backend: Callable[[], Backend],
        judge: Callable[[], Backend] | None,
        on_progress: Callable[[int, int, int], None] | None,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._verifier = verifier
        self._book = book
        self._examples = examples
        self._results = results
        self._plan = plan
        self._outcomes = outcomes
        self._finishing = finishing
        self._made_before = made_before
        self._executor = executor
        self._on_progress = on_progress or (lambda done, total, kept: None)
        # It writes in every round: whoever has learned to answer requests with calls would answer where it is to write.
        self._writer = OnDemand(backend)
        self._answerer = self._writer
        self._prompter = Prompter(catalog, book, examples)
        self._first_attempt = 0
        self._judge = OnDemand(judge) if judge is not None else None

    def work(self, now: Round, adapted: Callable[[], Backend] | None = None) -> None:
        """Make the attempts of a round at every item that no earlier one has settled.

        Args:
            now: the round.
            adapted: opens the teacher that has learned earlier traces, and answers requests in this round.
        """
        self._first_attempt = now.first
        if adapted is not None:
            self._answerer = OnDemand(adapted)
            self._prompter = Prompter(self._catalog, self._book, self._examples, answers_as_taught=True)
        try:
            for attempt in now.attempts:
                for chunk in self._chunks(attempt):
                    done = {entry.id for entry in self._outcomes.entries if entry.attempt == attempt}
                    if all(item.id in done for item in chunk):
                        continue
                    self._open()
                    started = time.monotonic()
                    drafts = self._make(chunk, attempt)
                    seconds = (time.monotonic() - started) / len(chunk)
                    left = [draft for draft in drafts if draft.item.id not in done]
                    self._outcomes.append(self._outcome(draft, attempt, seconds) for draft in left)
                    self._report()
        finally:
            for opened in filter(None, (self._judge, self._answerer, self._writer)):
                opened.close()

    def _open(self) -> None:
        """Whoever is needed for the work, the answering teacher last: its weights load longest.

        It may have to learn first, which needs the memory: the one that writes waits until it is asked.
        """
        if self._executor is not None:
            self._executor.start()
        if self._judge is not None:
            self._judge.open()
        self._answerer.open()

    def has_questions(self, following: Round) -> bool:
        """Whether a teacher that has learned more would be asked for anything in a further round."""
        left = [item for chunk in self._chunks(following.first) for item in chunk]
        return bool(left) and (self._config.blind_answers or any(map(_is_answered, left)))

    def save_round(self, done: Round) -> None:
        """Keep the traces as they are at the end of a round."""
        learned = iter_jsonl(self._config.out / "traces.jsonl", Trace, "traces file")
        write_jsonl(self._config.out / _ROUND_TRACES.format(done.number), learned)

    def _chunks(self, attempt: int) -> Iterator[list[PlanItem]]:
        """The fixed chunks of an attempt: what earlier attempts left, items with one kind of prompt together."""
        last = self._outcomes.last(before=attempt)
        refused = {} if self._config.shard else self._finishing.refused(last)
        pending = [
            item
            for item in self._plan
            if (item.id, attempt) not in self._made_before
            and (
                item.id not in last
                or last[item.id].failed
                # Another request may be written; a user's own does not change.
                or item.source != "request_first"
                and item.id in refused
            )
        ]
        groups: dict[tuple[str, str], list[PlanItem]] = {}
        for item in pending:
            several = "several" if len(item.calls) > 1 else item.calls[0].name if item.calls else ""
            kind = "no_call" if item.category == "clarify" or not item.calls else several
            groups.setdefault((item.source, kind), []).append(item)
        ordered = [item for group in groups.values() for item in group]
        for start in range(0, len(ordered), _CHUNK):
            yield ordered[start : start + _CHUNK]

    def _make(self, chunk: Sequence[PlanItem], attempt: int) -> list[Draft]:
        drafts = [Draft(item, request=item.request) for item in chunk]
        self._write([draft for draft in drafts if draft.item.source == "call_first"], attempt)
        self._answer([draft for draft in drafts if draft.item.source == "request_first"], attempt)
        self._settle(drafts, attempt)
        self._converse([draft for draft in drafts if draft.item.source == "multi_turn"], attempt)
        self._ask_back(
            [draft for draft in drafts if draft.item.category == "clarify" and draft.failed is None], attempt
        )
        for draft in drafts:
            if draft.item.category == "irrelevance":
                draft.answer = Message(role="assistant", content=self._config.no_call_answer)
            if draft.item.register == "typos" and draft.failed is None:
                keep = self._verifier.free_words(draft.answer.calls or draft.item.calls)
                draft.request = add_typos(draft.request, f"{self._config.seed}/{draft.item.id}", keep)
        if self._config.blind_answers:
            written = [draft for draft in drafts if draft.item.source == "call_first" and draft.failed is None]
            self._prove(written, attempt)
            self._settle(drafts, attempt)
        for draft in drafts:
            if draft.failed is None:
                draft.checks += execution_checks(self._executor, draft.answer.calls)
        return drafts

    def _write(self, drafts: Sequence[Draft], attempt: int) -> None:
        """Call-first: the teacher writes the request, the checks compare it with the sampled calls."""
        settings = self._settings(attempt, sampled=True)
        settings = settings.model_copy(update={"max_new_tokens": min(settings.max_new_tokens, _MAX_REQUEST_TOKENS)})
        requests = [self._prompter.write_request(draft.item) for draft in drafts]
        for draft, completion in self._ask(drafts, requests, settings):
            draft.request = clean_request(completion.text)
            item = draft.item
            draft.checks.append(self._verifier.check_request(draft.request, asks=bool(item.calls)))
            if draft.failed is not None:
                continue
            if not item.calls:
                continue  # numbers and names of a foreign topic reach no call
            draft.checks.append(self._verifier.check_schema(item.calls))
            ground(draft, item.calls, self._verifier)
            if item.category == "clarify":
                self._cut(draft)

    def _cut(self, draft: Draft) -> None:
        """Clarify: take a required value out of a request that was written with it."""
        (call,), name = draft.answer.calls, draft.item.missing
        draft.answer = Message(role="assistant")
        if draft.failed is None:
            draft.request, check = self._verifier.without_value(draft.request, call, name, draft.item.now)
            draft.checks.append(check)

    def _converse(self, drafts: Sequence[Draft], attempt: int) -> None:
        settings = self._settings(attempt, sampled=True)
        settings = settings.model_copy(update={"max_new_tokens": min(settings.max_new_tokens, _MAX_REQUEST_TOKENS)})
        converse(
            drafts,
            lambda asked, requests: self._ask(asked, requests, settings),
            self._prompter,
            self._verifier,
            self._results,
        )

    def _answer(self, drafts: Sequence[Draft], attempt: int) -> None:
        asked = [draft for draft in drafts if _is_answered(draft.item)]
        count = self._config.num_votes
        answer_requests(asked, self._asking_blindly(attempt), self._prompter, self._verifier, num_answers=count)

    def _prove(self, drafts: Sequence[Draft], attempt: int) -> None:
        count = self._config.num_votes
        prove_requests(drafts, self._asking_blindly(attempt), self._prompter, self._verifier, num_answers=count)

    def _asking_blindly(self, attempt: int) -> Ask:
        settings = self._settings(attempt, sampled=attempt > self._first_attempt or self._config.num_votes > 1)
        settings = settings.model_copy(update={"constrained": self._config.constrained})
        return lambda drafts, requests: self._ask(drafts, requests, settings, self._answerer)

    def _settle(self, drafts: Sequence[Draft], attempt: int) -> None:
        """Ask the judge about disputed answers; its verdict takes the place of the check that they failed."""
        if self._judge is None:
            return
        found = [dispute_of(draft, judge_grounding=self._config.judge_grounding) for draft in drafts]
        disputes = [dispute for dispute in found if dispute is not None]
        verdicts = settle(self._judge, disputes, self._catalog.specs, seed=self._config.seed * 1000 + attempt)
        for draft in drafts:
            if draft.item.id in verdicts:
                draft.checks[-1] = verdicts[draft.item.id]

    def _ask_back(self, drafts: Sequence[Draft], attempt: int) -> None:
        ask_back(
            drafts,
            lambda asked, requests, number: self._ask(
                asked, requests, self._settings(attempt, sampled=attempt + number > 0)
            ),
            self._prompter,
            self._verifier,
        )

    def _ask(
        self,
        drafts: Sequence[Draft],
        requests: Sequence[Request],
        settings: DecodeSettings,
        backend: OnDemand | None = None,
    ) -> Iterator[tuple[Draft, Completion]]:
        """Every draft with its completion; a request that failed becomes a failed check and is left out.

        The writer is asked unless another backend is given.
        """
        if not drafts:
            return
        completions = complete_all(backend or self._writer, requests, settings)
        for draft, completion in zip(drafts, completions, strict=True):
            draft.count(completion)
            if completion.error is not None:
                draft.checks.append(Check(name="backend", ok=False, detail=completion.error))
            else:
                yield draft, completion

    def _settings(self, attempt: int, *, sampled: bool) -> DecodeSettings:
        return DecodeSettings(
            max_new_tokens=self._config.max_new_tokens,
            sampling_temperature=self._config.sampling_temperature if sampled else 0.0,
            top_p=0.95 if sampled else 1.0,
            seed=self._config.seed * 1000 + attempt,
        )

    def _outcome(self, draft: Draft, attempt: int, seconds: float) -> Outcome:
        item = draft.item
        trace = Trace(
            id=item.id,
            messages=conversation(
                item.system, draft.turns or [Message(role="user", content=draft.request)], draft.answer
            ),
            tools=self._offered(item),
            split_group=calls_group(draft.answer.calls)
            if draft.answer.calls and item.calls and item.dialogue is None
            else item.split_group,
            meta=TraceMeta(
                source=item.source,
                category=item.category or category_of(draft.answer.calls),
                plan_cell=item.cell,
                teacher=(self._answerer if _is_answered(item) else self._writer).ref,
                checks=tuple(draft.checks),
                attempt=attempt,
            ),
        )
        return Outcome(
            id=item.id,
            attempt=attempt,
            candidate=trace,
            prompt_tokens=draft.prompt_tokens,
            completion_tokens=draft.completion_tokens,
            seconds=round(seconds, 4),
            votes=draft.tally.votes if draft.tally is not None and draft.tally.num_answers > 1 else None,
        )

    def _offered(self, item: PlanItem) -> tuple[FunctionTool, ...]:
        """The tools that the prompt of an item shows."""
        if item.offered == "none":
            return ()
        lacking = {call.name for call in item.calls} if item.offered == "others" else set()
        return tuple(tool for tool in self._catalog.tools if tool.function.name not in lacking)

    def _report(self) -> None:
        last = self._outcomes.last()
        self._on_progress(len(last), len(self._plan), sum(not entry.failed for entry in last.values()))


def _is_answered(item: PlanItem) -> bool:
    """Whether the teacher is asked for the calls of an item, and not for its request."""
    return item.source == "request_first" and item.category not in ("clarify", "irrelevance")
