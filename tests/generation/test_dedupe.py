"""Tests of `fcdistill.generation.dedupe`."""

import pytest

from fcdistill.generation.dedupe import Contamination, request_key, request_text
from fcdistill.records import EvalCase, Message, ModelRef, Trace, TraceMeta


def case(identity: str, *texts: str) -> EvalCase:
    turns = [Message(role=("user", "assistant")[index % 2], content=text) for index, text in enumerate(texts)]  # type: ignore[arg-type]
    return EvalCase(id=identity, messages=tuple(turns), behaviour="no_call", expected=((),), category="irrelevance")


CASES = Contamination(
    [
        case("a", "Turn the kitchen light on and set it to thirty percent"),
        case("b", "jazz please"),
        case("c", "first thing first, dim it", "which one?", "the bedroom lamp of course"),
    ]
)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Lights ON!", "light on"), ("thirty  percent", "30 percent"), ("the living_room", "the living room")],
)
def test_a_key_ignores_case_punctuation_plurals_and_spelled_numbers(one: str, other: str) -> None:
    assert request_key(one) == request_key(other)


def test_a_key_tells_values_and_order_apart() -> None:
    assert len({request_key(text) for text in ("light to 30", "light to 40", "30 to light")}) == 3


def test_the_request_is_the_last_user_message() -> None:
    messages = (
        Message(role="system", content="s"),
        Message(role="user", content="one"),
        Message(role="assistant", content="two"),
        Message(role="user", content="three"),
        Message(role="assistant", content="four"),
    )
    meta = TraceMeta(source="import", category="irrelevance", plan_cell="c", teacher=ModelRef(model="m"))
    assert request_text(Trace(id="t", messages=messages, tools=(), split_group="g", meta=meta)) == "three"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("turn the kitchen light on, and set it to 30 percent!", "a"),
        ("please turn the kitchen light on and set it to thirty percent", "a"),
        ("turn the kitchen light on", None),
        ("Jazz, please.", "b"),
        ("please jazz", "b"),
        ("please play jazz", None),
        ("first thing first: dim it", "c"),
        ("the bedroom lamp, of course", "c"),
        ("which one?", None),
        ("", None),
        ("something else entirely, nothing shared with any case", None),
    ],
)
def test_shared_wording_is_found(text: str, found: str | None) -> None:
    assert CASES.find(text) == found


def test_no_cases_share_nothing() -> None:
    assert Contamination([]).find("anything at all") is None


def test_files_may_use_the_same_ids() -> None:
    both = Contamination(
        [case("1", "open the garage door for the car"), case("1", "how tall is the mountain over there")]
    )
    assert both.find("now open the garage door for the car") == both.find("how tall is the mountain there") == "1"
