"""Tests of `fcdistill.generation.teacher.judging`."""

from dataclasses import replace

import pytest

from fcdistill.backends import ScriptedBackend
from fcdistill.backends.base import Request
from fcdistill.generation.teacher.judging import Dispute, settle
from fcdistill.records import Check, ToolCall
from tests.generation.home import catalog
from tests.generation.teacher.prompt_reading import letter_of

ON = (ToolCall(name="set_light", arguments={"room": "kitchen", "state": "on"}),)
OFF = (ToolCall(name="set_light", arguments={"room": "kitchen", "state": "off"}),)
DISPUTE = Dispute(
    id="d",
    context="Current time: now.",
    request="kitchen light",
    calls=ON,
    others=(OFF, ()),
    doubt=Check(name="vote", ok=False, detail="2 of 5"),
)


def verdict(answer: str, shown: str = '"on"', dispute: Dispute = DISPUTE) -> Check:
    """What becomes of an answer in which L stands for the letter of the candidate that shows some text."""
    judge = ScriptedBackend(lambda request: answer.replace("L", letter_of(request, shown)), name="wise")
    return settle(judge, [dispute], catalog().specs, seed=0)["d"]


def test_the_judge_sees_the_request_the_tools_and_the_candidates_but_no_votes() -> None:
    asked: list[Request] = []
    settle(ScriptedBackend(lambda request: asked.append(request) or ""), [DISPUTE], catalog().specs, seed=0)  # type: ignore[func-returns-value]
    (request,) = asked
    system, user = (message.content for message in request.messages)
    assert request.specs == () and all(spec.name in system for spec in catalog().specs)
    assert "Request: kitchen light" in user and "Current time: now." in user
    assert '"state": "off"' in user and '"state": "on"' in user and ": no call" in user
    assert "2 of 5" not in system + user


def test_picking_the_doubted_calls_upholds_them() -> None:
    check = verdict("L: it says on")
    assert check.ok and check.detail == "vote: 2 of 5; wise picks these calls: it says on"


@pytest.mark.parametrize(
    ("answer", "shown", "detail"),
    [
        ("L: it says off", '"off"', 'wise picks [{"name": "set_light"'),
        ("L: nothing is asked", "no call", "wise picks no call: nothing is asked"),
        ("none: all are wrong", '"on"', "wise picks none: all are wrong"),
        ("Z: a letter that is none of them", '"on"', "no readable verdict: 'Z"),
        ("L", '"on"', "no readable verdict"),
        ("L:", '"on"', "no readable verdict"),
        ("L: one\nbut perhaps not", '"on"', "no readable verdict"),
        ("I think L: it says on", '"on"', "no readable verdict"),
        ("", '"on"', "no readable verdict: ''"),
    ],
)
def test_all_else_rejects(answer: str, shown: str, detail: str) -> None:
    check = verdict(answer, shown)
    assert (check.name, check.ok) == ("judge", False) and detail in check.detail


def test_a_judge_that_fails_on_a_dispute_decides_nothing() -> None:
    check = settle(ScriptedBackend({}, name="mute"), [DISPUTE], catalog().specs, seed=0)["d"]
    assert not check.ok and "mute gave no verdict: the script has no answer" in check.detail


def test_the_place_of_the_doubted_calls_tells_nothing_and_stays() -> None:
    places = {replace(DISPUTE, id=str(number)).candidates.index(ON) for number in range(30)}
    assert places == {0, 1, 2}
    assert DISPUTE.candidates == replace(DISPUTE).candidates
    many = replace(DISPUTE, others=tuple((ToolCall(name=str(number), arguments={}),) for number in range(40)))
    assert ON in many.candidates and len(many.candidates) == 6
