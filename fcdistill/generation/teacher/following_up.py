"""How planned conversations without results are made with a teacher: what the user says in each turn, and the checks.

The teacher writes what the user says, and the question where a value is asked for; the calls are the plan's. Nobody
hears what a call gave back, so that every answer follows from what the user said. How the teacher is asked is the
caller's affair.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fcdistill.generation.plan.dialogues import Dialogue
from fcdistill.generation.teacher.drafts import Ask, Draft
from fcdistill.generation.teacher.prompter import Prompter, clean_request
from fcdistill.generation.verification.clarifying import Lacking
from fcdistill.generation.verification.ladder import (
    clarify_question,
    follow_up_step,
    lacking_request,
    opening_request,
    resumed_step,
    written_request,
)
from fcdistill.generation.verification.verifier import Verifier, without_arguments
from fcdistill.records import Check, Message, ToolCall

__all__ = ["follow_up"]


@dataclass
class _Exchange:
    """A draft with its calls, which the requests as they were written may change."""

    draft: Draft
    dialogue: Dialogue
    calls: list[ToolCall]

    @property
    def said(self) -> list[str]:
        """What the user said so far."""
        return [turn.content for turn in self.draft.turns if turn.role == "user"]

    @property
    def partial(self) -> ToolCall:
        """What the first request of `completed` asks for."""
        return without_arguments(self.calls[-1], {self.dialogue.argument})


def follow_up(drafts: Sequence[Draft], ask: Ask, prompter: Prompter, verifier: Verifier) -> None:
    """Make the conversations of these drafts, turn by turn; a failed check ends one.

    Args:
        drafts: all of them plan a dialogue of a kind without results.
        ask: the teacher: each draft with the answer to its request, but for those that could not be answered.
        prompter: words what the teacher is asked.
        verifier: of the domain.
    """
    talks = {
        draft.item.id: _Exchange(draft, draft.item.dialogue, list(draft.item.calls))
        for draft in drafts
        if draft.item.dialogue is not None
    }
    _write_first(drafts, talks, ask, prompter, verifier)
    asking = [draft for draft in _sound(drafts) if talks[draft.item.id].dialogue.asks_back]
    _ask_for_value(asking, talks, ask, prompter, verifier)
    leaving = [draft for draft in _sound(drafts) if talks[draft.item.id].dialogue.kind == "resumed"]
    _write_between(leaving, talks, ask, prompter, verifier)
    going_on = _sound(drafts)
    requests = [prompter.write_later(draft.item, " / ".join(talks[draft.item.id].said)) for draft in going_on]
    for draft, completion in ask(going_on, requests):
        draft.request = clean_request(completion.said)
        draft.checks += _judge_last(talks[draft.item.id], verifier)
        draft.turns.append(Message(role="user", content=draft.request))
    for draft in drafts:
        draft.answer = Message.calling([verifier.tidied(talks[draft.item.id].calls[-1])])


def _write_first(
    drafts: Sequence[Draft], talks: Mapping[str, _Exchange], ask: Ask, prompter: Prompter, verifier: Verifier
) -> None:
    firsts = [
        talk.partial if talk.dialogue.kind == "completed" else talk.calls[0]
        for talk in (talks[draft.item.id] for draft in drafts)
    ]
    items = [
        dataclasses.replace(draft.item, calls=(first,), facts=draft.item.facts[:1])
        for draft, first in zip(drafts, firsts, strict=True)
    ]
    for draft, completion in ask(drafts, [prompter.write_request(item) for item in items]):
        talk = talks[draft.item.id]
        draft.request = clean_request(completion.said)
        draft.turns.append(Message(role="user", content=draft.request))
        draft.checks += _judge_first(talk, verifier)
        if draft.failed is None and not talk.dialogue.asks_back:
            draft.turns.append(Message.calling([verifier.tidied(talk.calls[0])]))


def _judge_first(talk: _Exchange, verifier: Verifier) -> Sequence[Check]:
    """The verdict on the first request; where it asks for another call than was planned, that is taken over."""
    request, dialogue = talk.draft.request, talk.dialogue
    if dialogue.kind == "completed":
        whole, name = talk.calls[-1], dialogue.argument
        return lacking_request(verifier, request, whole, name, None, is_called=not dialogue.asks_back)
    if dialogue.argument:
        opened = opening_request(verifier, request, talk.calls[0], talk.calls[-1], dialogue.argument)
        talk.calls[0], talk.calls[-1] = opened.calls
        return opened.checks
    written = written_request(verifier, request, talk.calls[:1], None)
    talk.calls[:1] = written.calls or talk.calls[:1]
    return written.checks


def _ask_for_value(
    drafts: Sequence[Draft], talks: Mapping[str, _Exchange], ask: Ask, prompter: Prompter, verifier: Verifier
) -> None:
    """The assistant's question for the value that the request lacks."""
    lacking = {
        draft.item.id: [Lacking(draft.item.calls[-1].name, talks[draft.item.id].dialogue.argument)] for draft in drafts
    }
    requests = [prompter.ask_back(draft.item.id, draft.request, lacking[draft.item.id]) for draft in drafts]
    for draft, completion in ask(drafts, requests):
        question = completion.said.strip()
        draft.checks += clarify_question(verifier, draft.request, question, lacking[draft.item.id])
        draft.turns.append(Message(role="assistant", content=question))


def _write_between(
    drafts: Sequence[Draft], talks: Mapping[str, _Exchange], ask: Ask, prompter: Prompter, verifier: Verifier
) -> None:
    """The other request, after which the first one is taken up again."""
    items = [
        dataclasses.replace(draft.item, calls=draft.item.calls[1:2], facts=draft.item.facts[1:2]) for draft in drafts
    ]
    for draft, completion in ask(drafts, [prompter.write_request(item) for item in items]):
        talk = talks[draft.item.id]
        draft.request = clean_request(completion.said)
        draft.turns.append(Message(role="user", content=draft.request))
        written = written_request(verifier, draft.request, talk.calls[1:2], None)
        draft.checks += written.checks
        talk.calls[1:2] = written.calls or talk.calls[1:2]
        draft.turns.append(Message.calling([verifier.tidied(talk.calls[1])]))


def _judge_last(talk: _Exchange, verifier: Verifier) -> Sequence[Check]:
    """Whether the last request asks for the last call, given what was said before."""
    request, dialogue, last = talk.draft.request, talk.dialogue, talk.calls[-1]
    if not dialogue.argument:
        written = written_request(verifier, request, [last], None)
        talk.calls[-1:] = written.calls or [last]
        return written.checks
    if dialogue.kind == "resumed":
        return resumed_step(verifier, talk.said[0], request, last, dialogue.argument, talk.calls[1], None)
    return follow_up_step(verifier, talk.said[0], request, last, dialogue.argument, None, is_reply=dialogue.asks_back)


def _sound(drafts: Sequence[Draft]) -> list[Draft]:
    return [draft for draft in drafts if draft.checks and draft.failed is None]
