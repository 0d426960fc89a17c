"""How planned conversations are made with a teacher: requests, results, the later request, and the checks between them.

The teacher writes what the user says, and a result where neither the catalogue nor the team tells how results look. The
calls are the plan's. What is told of a result before the user goes on is put together from the result itself: it is
read, never learned, and must not say anything else.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from fcdistill.backends.base import Completion, Request
from fcdistill.generation.dialogues import REFERENCE_WORDS
from fcdistill.generation.plan import PlanItem
from fcdistill.generation.results import ToolResults, holds, result_problem
from fcdistill.generation.synthesize import Prompter, clean_request
from fcdistill.generation.verify import Verifier
from fcdistill.generation.words import words_of
from fcdistill.records import Check, FunctionCall, Message, ToolCall
from fcdistill.storage import StrictJsonError, loads_strict

__all__ = ["Draft", "converse"]


class Draft(Protocol):
    """What `converse` knows of an item while it is being made."""

    @property
    def item(self) -> PlanItem:
        """What is to be made; it plans a dialogue."""
        ...

    checks: list[Check]
    request: str
    turns: list[Message]
    """What stands before the answer."""
    answer: Message


D = TypeVar("D", bound=Draft)
_MOST_TOLD = 6


def converse(
    drafts: Sequence[D],
    ask: Callable[[Sequence[D], Sequence[Request]], Iterable[tuple[D, Completion]]],
    prompter: Prompter,
    verifier: Verifier,
    results: ToolResults,
) -> None:
    """Make the conversations of these drafts, turn by turn; a failed check ends one.

    Args:
        drafts: all of them plan a dialogue.
        ask: the teacher: each draft with the answer to its request, but for those that could not be answered.
        prompter: words what the teacher is asked.
        verifier: of the domain.
        results: what tools give back.
    """
    _write_first(drafts, ask, prompter, verifier)
    _get_results(_sound(drafts), ask, prompter, verifier, results)
    later = [draft for draft in _sound(drafts) if _kind(draft) != "chained"]
    for draft, completion in ask(later, [prompter.write_later(draft.item, draft.request) for draft in later]):
        first = draft.request
        draft.request = clean_request(completion.text)
        draft.turns += [
            Message(role="assistant", content=_report(draft.turns[-1].content)),
            Message(role="user", content=draft.request),
        ]
        draft.checks.append(verifier.check_request(draft.request))
        if draft.checks[-1].ok:
            draft.checks += _later_checks(draft, first, verifier)
    for draft in drafts:
        draft.answer = Message.calling([verifier.in_schema_order(draft.item.calls[-1])])


def _write_first(
    drafts: Sequence[D],
    ask: Callable[[Sequence[D], Sequence[Request]], Iterable[tuple[D, Completion]]],
    prompter: Prompter,
    verifier: Verifier,
) -> None:
    items = [
        draft.item
        if _kind(draft) == "chained"
        else dataclasses.replace(draft.item, calls=draft.item.calls[:1], facts=draft.item.facts[:1])
        for draft in drafts
    ]
    for draft, completion in ask(drafts, [prompter.write_request(item) for item in items]):
        draft.request = clean_request(completion.text)
        draft.turns.append(Message(role="user", content=draft.request))
        draft.checks.append(verifier.check_request(draft.request))
        if not draft.checks[-1].ok:
            continue
        first, last = draft.item.calls
        draft.checks.append(verifier.check_schema(draft.item.calls))
        chained = _kind(draft) == "chained"
        said = [first, _without(last, draft)] if chained else [first]
        draft.checks.append(verifier.check_grounding(draft.request, said, None))
        if chained:
            draft.checks.append(_check_reference(draft))


def _get_results(
    drafts: Sequence[D],
    ask: Callable[[Sequence[D], Sequence[Request]], Iterable[tuple[D, Completion]]],
    prompter: Prompter,
    verifier: Verifier,
    results: ToolResults,
) -> None:
    """The first call and what it gives back."""
    for draft in drafts:
        if draft.item.dialogue is not None and draft.item.dialogue.result is not None:
            _take_result(draft, draft.item.dialogue.result, verifier, results)
    open_ended = [draft for draft in drafts if draft.item.dialogue is None or draft.item.dialogue.result is None]
    for draft, completion in ask(
        open_ended, [prompter.write_result(draft.item, _needed(draft)) for draft in open_ended]
    ):
        text = completion.text.strip().removeprefix("```json").removesuffix("```").strip()
        _take_result(draft, text, verifier, results)


def _take_result(draft: Draft, text: str, verifier: Verifier, results: ToolResults) -> None:
    first = draft.item.calls[0]
    problem = ""
    try:
        result = loads_strict(text)
    except StrictJsonError as error:
        problem = f"it is no JSON: {error}"
    else:
        text = json.dumps(result, ensure_ascii=False)
        problem = result_problem(result, results.returns.get(first.name))
        lacking = [name for name, value in _needed(draft).items() if not holds(result, value)]
        if not problem and lacking:
            problem = f"it does not hold the {lacking[0]} that the next call needs"
    draft.checks.append(Check(name="result", ok=not problem, detail=problem and f"{text!r} of {first.name}: {problem}"))
    call = FunctionCall(id="call00001", function=verifier.in_schema_order(first))
    draft.turns += [
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content=text, tool_call_id=call.id, name=first.name),
    ]


def _later_checks(draft: Draft, first_request: str, verifier: Verifier) -> list[Check]:
    """Whether the later request asks for the last call, given what was said before."""
    first, last = draft.item.calls
    said = f"{first_request}\n{draft.request}"
    if _kind(draft) == "referring":
        check = verifier.check_step_grounding(said, draft.request, [_without(last, draft)], [first], None)
        return [check, _check_reference(draft)] if check.ok else [check]
    assert draft.item.dialogue is not None
    argument = draft.item.dialogue.argument
    changed = ToolCall(name=last.name, arguments={argument: last.arguments[argument]})
    check = verifier.check_said(draft.request, [changed], None)
    return [check if not check.ok else verifier.check_step_grounding(said, draft.request, [last], [], None)]


def _check_reference(draft: Draft) -> Check:
    """Whether the request refers to the value that it does not say."""
    refers = bool(REFERENCE_WORDS & {word.text for word in words_of(draft.request)})
    detail = "" if refers else "the request does not refer to the result of the first call"
    return Check(name="reference", ok=refers, detail=detail)


def _needed(draft: Draft) -> dict[str, Any]:
    """What the first call's result must hold."""
    last, dialogue = draft.item.calls[-1], draft.item.dialogue
    if dialogue is None or dialogue.kind == "repeated":
        return {}
    return {dialogue.argument: last.arguments[dialogue.argument]}


def _without(call: ToolCall, draft: Draft) -> ToolCall:
    """The call without the argument that the first call's result tells."""
    taken = _needed(draft)
    return ToolCall(
        name=call.name, arguments={name: part for name, part in call.arguments.items() if name not in taken}
    )


def _kind(draft: Draft) -> str:
    return draft.item.dialogue.kind if draft.item.dialogue is not None else ""


def _sound(drafts: Sequence[D]) -> list[D]:
    return [draft for draft in drafts if draft.checks and all(check.ok for check in draft.checks)]


def _report(text: str) -> str:
    """What an assistant may tell of a result: its first plain values."""
    result = loads_strict(text)
    if isinstance(result, dict) and set(result) <= {"status", "ok", "success"}:
        return "Done."
    while isinstance(result, list) and result:
        result = result[0]
    told = [
        f"{name.replace('_', ' ')}: {_plain(value)}"
        for name, value in (result.items() if isinstance(result, dict) else [("result", result)])
        if value is not None
    ]
    sentence = ", ".join(told[:_MOST_TOLD])
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else "There is nothing."


def _plain(value: Any) -> str:
    while isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(inner)}" for name, inner in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
