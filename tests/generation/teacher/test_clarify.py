"""Tests of `fcdistill.generation.teacher.clarify`."""

from collections.abc import Iterator, Sequence

from fcdistill.backends.base import Completion, Request
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.generation.teacher.clarify import ask_back
from fcdistill.generation.teacher.drafts import Draft
from fcdistill.generation.teacher.prompter import Prompter
from fcdistill.records import ToolCall
from tests.generation.home import book, catalog, verifier

LIGHT = ToolCall(name="set_light", arguments={"room": "kitchen", "state": "on"})


def draft(identity: str, *calls: ToolCall, missing: str = "", text: str = "light on") -> Draft:
    source = "call_first" if calls else "request_first"
    item = PlanItem(
        id=identity, source=source, category="clarify", cell="c", split_group="g", calls=calls, missing=missing
    )
    return Draft(item, request=text)


def ask_with(*answers: dict[str, str]) -> tuple[list[list[str]], object]:
    """A teacher with its answers per try, and the ids that it was asked for in each."""
    asked: list[list[str]] = []

    def ask(drafts: Sequence[Draft], requests: Sequence[Request], number: int) -> Iterator[tuple[Draft, Completion]]:
        asked.append([request.id for request in requests])
        for each, request in zip(drafts, requests, strict=True):
            if each.item.id in answers[number]:
                yield each, Completion(id=request.id, text=answers[number][each.item.id], finish_reason="stop")

    return asked, ask


def test_who_does_not_ask_for_what_is_missing_is_asked_again() -> None:
    good, slow, never, lost = (draft(name, LIGHT, missing="room") for name in ("good", "slow", "never", "lost"))
    asked, ask = ask_with(
        {"good": "Which room?", "slow": "What should I do?", "never": "When?"},
        {"slow": "In which room?", "never": "Why?"},
        {"never": "How?"},
        {"never": "Who?"},
    )
    ask_back([good, slow, never, lost], ask, Prompter(catalog(), book(), ()), verifier())  # type: ignore[arg-type]
    assert asked == [["good", "slow", "never", "lost"], ["slow/1", "never/1"], ["never/2"], ["never/3"]]
    assert [each.answer.content for each in (good, slow, never)] == ["Which room?", "In which room?", "Who?"]
    assert [[check.ok for check in each.checks] for each in (good, slow, never, lost)] == [[True], [True], [False], []]
    assert never.checks[0].name == "question" and "missing: room" in never.checks[0].detail


def test_what_a_users_own_request_lacks_is_told_from_its_words() -> None:
    own = draft("own", text="dim the light to 30")
    _, ask = ask_with({"own": "In which room?"})
    ask_back([own], ask, Prompter(catalog(), book(), ()), verifier())  # type: ignore[arg-type]
    assert own.failed is None
