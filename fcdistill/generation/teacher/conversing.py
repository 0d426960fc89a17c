"""How planned conversations are made with a teacher: requests, results, the later request, and the checks between them.

The teacher writes what the user says, and a result where neither the catalogue nor the team tells how results look. The
calls are the plan's. What is told of a result before the user goes on is put together from the result itself: it is
read, never learned, and must not say anything else.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcdistill.generation.plan.tool_results import ToolResults, holds, result_problem
from fcdistill.generation.teacher.drafts import Ask, Draft
from fcdistill.generation.teacher.prompter import Prompter, clean_request
from fcdistill.generation.verification.ladder import (
    Verdict,
    chained_request,
    conversation_step,
    opening_request,
    repeated_step,
)
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Check, FunctionCall, Message, ToolCall
from fcdistill.storage import StrictJsonError, loads_strict

__all__ = ["converse"]

_MOST_TOLD = 6
_NO_NEWS = frozenset({"ok", "status", "success"})


def converse(drafts: Sequence[Draft], ask: Ask, prompter: Prompter, verifier: Verifier, results: ToolResults) -> None:
    """Make the conversations of these drafts, turn by turn; a failed check ends one.

    Args:
        drafts: all of them plan a dialogue.
        ask: the teacher: each draft with the answer to its request, but for those that could not be answered.
        prompter: words what the teacher is asked.
        verifier: of the domain.
        results: what tools give back.
    """
    talks = {draft.item.id: _Talk(draft, *draft.item.calls) for draft in drafts}
    _write_first(drafts, talks, ask, prompter, verifier)
    _get_results(_sound(drafts), talks, ask, prompter, verifier, results)
    later = [draft for draft in _sound(drafts) if _kind(draft) != "chained"]
    for draft, completion in ask(later, [prompter.write_later(draft.item, draft.request) for draft in later]):
        talk, before = talks[draft.item.id], draft.request
        draft.request = clean_request(completion.said)
        draft.turns += [
            Message(role="assistant", content=_report(draft.turns[-1].content, talk.first)),
            Message(role="user", content=draft.request),
        ]
        _judge_later(talk, before, verifier)
    for draft in drafts:
        draft.answer = Message.calling([verifier.tidied(talks[draft.item.id].last)])


@dataclass
class _Talk:
    """A draft with its two calls, which the requests as they were written may change."""

    draft: Draft
    first: ToolCall
    last: ToolCall

    @property
    def taken(self) -> dict[str, Any]:
        """What the first call's result must hold for the last one, by its argument there."""
        dialogue = self.draft.item.dialogue
        if dialogue is None or dialogue.kind == "repeated":
            return {}
        return {dialogue.argument: self.last.arguments[dialogue.argument]}

    @property
    def changed(self) -> str:
        """The argument with another value, where the last call is the first one again; else empty."""
        dialogue = self.draft.item.dialogue
        return dialogue.argument if dialogue is not None and dialogue.kind == "repeated" else ""

    def take(self, verdict: Verdict) -> None:
        """Note a verdict on a request, and the calls that it asks for."""
        self.draft.checks += verdict.checks
        self.first, self.last = verdict.calls


def _write_first(
    drafts: Sequence[Draft], talks: Mapping[str, _Talk], ask: Ask, prompter: Prompter, verifier: Verifier
) -> None:
    items = [
        draft.item
        if _kind(draft) == "chained"
        else dataclasses.replace(draft.item, calls=draft.item.calls[:1], facts=draft.item.facts[:1])
        for draft in drafts
    ]
    for draft, completion in ask(drafts, [prompter.write_request(item) for item in items]):
        talk = talks[draft.item.id]
        draft.request = clean_request(completion.said)
        draft.turns.append(Message(role="user", content=draft.request))
        if _kind(draft) == "chained":
            talk.take(chained_request(verifier, draft.request, talk.first, talk.last, talk.taken))
        else:
            talk.take(opening_request(verifier, draft.request, talk.first, talk.last, talk.changed))


def _get_results(
    drafts: Sequence[Draft],
    talks: Mapping[str, _Talk],
    ask: Ask,
    prompter: Prompter,
    verifier: Verifier,
    results: ToolResults,
) -> None:
    """The first call and what it gives back; a planned result is that of the planned call only."""
    unknown = []
    for draft in drafts:
        talk, dialogue = talks[draft.item.id], draft.item.dialogue
        planned = dialogue.result if dialogue is not None else None
        if planned is not None and talk.first == draft.item.calls[0]:
            _take_result(talk, planned, verifier, results)
        else:
            unknown.append(draft)
    requests = [
        prompter.write_result(draft.item.id, talks[draft.item.id].first, talks[draft.item.id].taken)
        for draft in unknown
    ]
    for draft, completion in ask(unknown, requests):
        text = completion.said.strip().removeprefix("```json").removesuffix("```").strip()
        _take_result(talks[draft.item.id], text, verifier, results)


def _take_result(talk: _Talk, text: str, verifier: Verifier, results: ToolResults) -> None:
    name, problem = talk.first.name, ""
    try:
        result = loads_strict(text)
    except StrictJsonError as error:
        problem = f"it is no JSON: {error}"
    else:
        text = json.dumps(result, ensure_ascii=False)
        problem = result_problem(result, results.returns.get(name))
        lacking = [argument for argument, value in talk.taken.items() if not holds(result, value)]
        if not problem and lacking:
            problem = f"it does not hold the {lacking[0]} that the next call needs"
    talk.draft.checks.append(Check(name="result", ok=not problem, detail=problem and f"{text!r} of {name}: {problem}"))
    call = FunctionCall(id="call00001", function=verifier.tidied(talk.first))
    talk.draft.turns += [
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content=text, tool_call_id=call.id, name=name),
    ]


def _judge_later(talk: _Talk, before: str, verifier: Verifier) -> None:
    """Whether the later request asks for the last call, given what was said before."""
    request = talk.draft.request
    if _kind(talk.draft) == "repeated":
        talk.draft.checks += repeated_step(verifier, before, request, talk.last, talk.changed)
    else:
        talk.take(conversation_step(verifier, before, request, talk.first, talk.last, talk.taken))


def _kind(draft: Draft) -> str:
    return draft.item.dialogue.kind if draft.item.dialogue is not None else ""


def _sound(drafts: Sequence[Draft]) -> list[Draft]:
    return [draft for draft in drafts if draft.checks and all(check.ok for check in draft.checks)]


def _report(text: str, call: ToolCall) -> str:
    """What an assistant may tell of a result: its first plain values that the call did not say itself."""
    result = loads_strict(text)
    while isinstance(result, list) and result:
        result = result[0]
    if not isinstance(result, dict):
        return f"{_plain(result)}."
    told = [
        f"{name.replace('_', ' ')}: {_plain(value)}"
        for name, value in result.items()
        if value is not None and name not in call.arguments and name not in _NO_NEWS
    ]
    sentence = ", ".join(told[:_MOST_TOLD])
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else "Done."


def _plain(value: Any) -> str:
    while isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
