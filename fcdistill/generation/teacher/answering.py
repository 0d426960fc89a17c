"""Blind answers: a teacher that sees tools and request alone answers, once or several times.

On the request-first source the answers are candidates, and of several the majority's stays; on the call-first source
they prove that a written request asks for its calls. Where answers disagree, a judge may be asked. How answers are got
from a model is the caller's affair.
"""

from collections.abc import Sequence
from dataclasses import replace

from fcdistill.backends.base import Completion
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.generation.teacher.drafts import Ask, Draft
from fcdistill.generation.teacher.judging import Dispute
from fcdistill.generation.teacher.prompter import Prompter
from fcdistill.generation.teacher.voting import Ballot, compare, elect
from fcdistill.generation.verification.ladder import blind_answer, proving_answer
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Message, ToolCall

__all__ = ["answer_requests", "dispute_of", "prove_requests"]


def answer_requests(
    drafts: Sequence[Draft], ask: Ask, prompter: Prompter, verifier: Verifier, *, num_answers: int
) -> None:
    """Request-first: each answer passes its checks by itself; of several, the calls that most make are the draft's.

    Args:
        drafts: with users' requests; they get an answer and its checks.
        ask: asks the teacher.
        prompter: says how.
        verifier: checks the answers.
        num_answers: per request; with several, more than half must make the same calls (check `vote`).
    """
    answers = _drawn(drafts, [draft.item for draft in drafts], ask, prompter, num_answers)
    for draft, drawn in zip(drafts, answers, strict=True):
        for each, completion in drawn:
            if completion is not None:
                _judge_answer(each, completion, verifier, independent=num_answers > 1)
        winner, tally = elect([Ballot(each.answer.calls, each.failed) for each, _ in drawn])
        draft.answer, draft.checks = drawn[winner][0].answer, drawn[winner][0].checks
        if num_answers > 1:
            draft.tally = tally
            if draft.failed is None:
                draft.checks.append(tally.check("vote"))


def prove_requests(
    drafts: Sequence[Draft], ask: Ask, prompter: Prompter, verifier: Verifier, *, num_answers: int
) -> None:
    """Call-first: more than half of the teacher's answers to a written request make the draft's calls (check `blind`).

    Args:
        drafts: with written requests, and answers that passed the checks so far.
        ask: asks the teacher.
        prompter: says how.
        verifier: checks the answers.
        num_answers: per request.
    """
    # What the plan knows of the request is no hint here.
    items = [replace(draft.item, category=None) for draft in drafts]
    for draft, drawn in zip(drafts, _drawn(drafts, items, ask, prompter, num_answers), strict=True):
        ballots = []
        for each, completion in drawn:
            calls: tuple[ToolCall, ...] = ()
            if completion is not None:
                output = completion.parsed(verifier.catalog.specs)
                each.checks += proving_answer(verifier, output)
                calls = output.calls
            ballots.append(Ballot(calls, each.failed))
        draft.tally = compare(draft.answer.calls, ballots)
        draft.checks.append(draft.tally.check("blind"))


def dispute_of(draft: Draft, *, judge_grounding: bool) -> Dispute | None:
    """What a judge is to be asked about a draft, or None.

    It is asked where the most frequent calls have no majority, where blind answers make other calls than the sampled
    ones, and, with `judge_grounding`, where calls fail the grounding check. A judge sees one request, and no
    conversation.
    """
    doubt, tally = draft.failed, draft.tally
    if doubt is None or draft.turns:
        return None
    disagreement = tally is not None and {"vote": tally.is_plurality, "blind": bool(tally.others)}.get(doubt.name)
    if not disagreement and not (doubt.name == "grounding" and judge_grounding and draft.answer.calls):
        return None
    return Dispute(
        id=draft.item.id,
        context=draft.item.system,
        request=draft.request,
        calls=draft.answer.calls,
        others=tuple(calls for calls, _ in tally.others) if tally is not None else (),
        doubt=doubt,
    )


def _drawn(
    drafts: Sequence[Draft], items: Sequence[PlanItem], ask: Ask, prompter: Prompter, num_answers: int
) -> list[list[tuple[Draft, Completion | None]]]:
    """Each draft's answers, every one as a draft of its own; None where the request failed."""
    answers = [
        [
            # Another id is another seed.
            Draft(replace(item, id=f"{item.id}/{number}") if num_answers > 1 else item, draft.request, draft.turns)
            for number in range(1, num_answers + 1)
        ]
        for draft, item in zip(drafts, items, strict=True)
    ]
    asked = [each for drawn in answers for each in drawn]
    requests = [prompter.answer(each.item, each.request, each.turns[:-1]) for each in asked]
    completions = {each.item.id: completion for each, completion in ask(asked, requests)}
    for draft, drawn in zip(drafts, answers, strict=True):
        draft.prompt_tokens += sum(each.prompt_tokens for each in drawn)
        draft.completion_tokens += sum(each.completion_tokens for each in drawn)
    return [[(each, completions.get(each.item.id)) for each in drawn] for drawn in answers]


def _judge_answer(draft: Draft, completion: Completion, verifier: Verifier, *, independent: bool) -> None:
    item = draft.item
    output = completion.parsed(verifier.catalog.specs)
    verdict = blind_answer(verifier, output, draft.request, item.category, item.now, independent=independent)
    draft.checks += verdict.checks
    is_call = bool(verdict.calls)
    said = completion.text if output.errors else output.text  # what can't be read stays as it was written
    draft.answer = (
        Message.calling(verdict.calls, reasoning=output.thought)
        if is_call
        else Message(role="assistant", content=said, reasoning="" if output.errors else output.thought)
    )
