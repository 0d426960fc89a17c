"""What a run asks its teachers: the attempts of every round at the items of a plan, chunk by chunk.

A chunk's outcomes are one append to the journal; what is kept of them, and how rounds follow one another, is known
elsewhere (`assembly`, `pipeline`).
"""

import time
from collections.abc import Callable, Iterator, Sequence, Set
from typing import get_args

from fcdistill.backends.base import Backend, Completion, Request, complete_all
from fcdistill.config import DecodeSettings
from fcdistill.generation.assembly import Assembly
from fcdistill.generation.context import GenerationContext
from fcdistill.generation.dataset.turns import conversation
from fcdistill.generation.execution.executor import execution_checks
from fcdistill.generation.journal.outcomes import Outcomes
from fcdistill.generation.journal.rounds import OnDemand, Round
from fcdistill.generation.plan.plan import PlanItem, calls_group
from fcdistill.generation.teacher.answering import answer_requests, dispute_of, prove_requests
from fcdistill.generation.teacher.clarify import ask_back
from fcdistill.generation.teacher.conversing import converse
from fcdistill.generation.teacher.drafts import Ask, Draft
from fcdistill.generation.teacher.following_up import follow_up
from fcdistill.generation.teacher.judging import settle
from fcdistill.generation.teacher.prompter import Prompter, add_typos, clean_request
from fcdistill.generation.verification.ladder import cut_request, written_request
from fcdistill.records import Check, FollowUpKind, FunctionTool, Message, Outcome, Trace, TraceMeta
from fcdistill.traces.recorded_steps import category_of

__all__ = ["Generator"]

_CHUNK = 128
"""Items whose outcomes are written together."""
_MAX_REQUEST_TOKENS = 80


class Generator:
    """One run over one plan.

    Args:
        context: what is made, and from what.
        outcomes: of all attempts so far; those of this run are added.
        assembly: knows which traces all together refuse.
        made_before: ids and attempts that are not to be made again, since shards or earlier generations made them.
        backend: opens the teacher that writes, and answers until an adapted one does.
        judge: opens the judge of disputed answers, where the config names one.
        on_progress: called with (items done, items in all, traces kept) after every chunk.
    """

    def __init__(
        self,
        context: GenerationContext,
        outcomes: Outcomes,
        assembly: Assembly,
        made_before: Set[tuple[str, int]],
        *,
        backend: Callable[[], Backend],
        judge: Callable[[], Backend] | None,
        on_progress: Callable[[int, int, int], None] | None,
    ) -> None:
        self._config = context.config
        self._catalog = context.catalog
        self._verifier = context.verifier
        self._book = context.book
        self._examples = context.examples
        self._results = context.results
        self._plan = context.plan
        self._recorded = context.recorded
        self._executor = context.executor
        self._outcomes = outcomes
        self._assembly = assembly
        self._made_before = made_before
        self._on_progress = on_progress or (lambda done, total, kept: None)
        # It writes in every round: whoever has learned to answer requests with calls would answer where it is to write.
        self._writer = OnDemand(backend)
        self._answerer = self._writer
        self._prompter = Prompter(self._catalog, self._book, self._examples)
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

    def _chunks(self, attempt: int) -> Iterator[list[PlanItem]]:
        """The fixed chunks of an attempt: what earlier attempts left, items with one kind of prompt together."""
        last = self._outcomes.last(before=attempt)
        refused = {} if self._config.shard else self._assembly.refused(last)
        held = self._recorded.places if self._config.shard else self._assembly.held(last, refused)
        pending = [
            item
            for item in self._plan
            if item.id not in held
            and (item.id, attempt) not in self._made_before
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
            written = [
                draft
                for draft in drafts
                if draft.failed is None and (draft.item.source == "call_first" or _goes_on_without_results(draft.item))
            ]
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
            draft.request = clean_request(completion.said)
            proven = self._config.blind_answers
            verdict = written_request(self._verifier, draft.request, draft.item.calls, draft.item.now, proven=proven)
            draft.checks += verdict.checks
            draft.answer = Message.calling(verdict.calls)
            if draft.item.category == "clarify":
                self._cut(draft)

    def _cut(self, draft: Draft) -> None:
        """Clarify: take a required value out of a request that was written with it."""
        calls, draft.answer = draft.answer.calls, Message(role="assistant")
        if draft.failed is None:
            (call,), item = calls, draft.item
            draft.request, checks = cut_request(self._verifier, draft.request, call, item.missing, item.now)
            draft.checks += checks

    def _converse(self, drafts: Sequence[Draft], attempt: int) -> None:
        settings = self._settings(attempt, sampled=True)
        settings = settings.model_copy(update={"max_new_tokens": min(settings.max_new_tokens, _MAX_REQUEST_TOKENS)})

        def ask(asked: Sequence[Draft], requests: Sequence[Request]) -> Iterator[tuple[Draft, Completion]]:
            return self._ask(asked, requests, settings)

        going_on = [draft for draft in drafts if _goes_on_without_results(draft.item)]
        hearing = [draft for draft in drafts if not _goes_on_without_results(draft.item)]
        converse(hearing, ask, self._prompter, self._verifier, self._results)
        follow_up(going_on, ask, self._prompter, self._verifier)

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
        settled = [last[name] for name in (item.id for item in self._plan) if name in last]
        num_held = sum(item.id in self._recorded.places and item.id not in last for item in self._plan)
        kept = num_held + sum(not entry.failed for entry in settled)
        self._on_progress(num_held + len(settled), len(self._plan), kept)


def _goes_on_without_results(item: PlanItem) -> bool:
    """Whether an item plans a conversation in which no result is heard, so that the last answer needs none."""
    return item.dialogue is not None and item.dialogue.kind in get_args(FollowUpKind)


def _is_answered(item: PlanItem) -> bool:
    """Whether the teacher is asked for the calls of an item, and not for its request."""
    return item.source == "request_first" and item.category not in ("clarify", "irrelevance")
