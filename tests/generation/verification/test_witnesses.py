"""Tests of `fcdistill.generation.verification.witnesses`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.verification.witnesses import is_closed, is_numeric
from fcdistill.records import ToolCall
from tests.generation.home import NOW, verifier


def stances(request: str, *calls: ToolCall) -> dict[str, str]:
    found = verifier().word_evidence(request, calls, NOW)
    return {each.path: each.stance for each in found.arguments}


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("request_text", "made", "expected"),
    [
        ("kitchen light on at 40", call("set_light", room="kitchen", state="on", brightness=40), "for for for"),
        ("let there be light", call("set_light", room="kitchen", state="on"), "nothing nothing"),
        ("the office is dark", call("set_light", room="kitchen", state="on"), "against nothing"),
        ("bright in the kitchen", call("set_light", room="kitchen", state="on", brightness=90), "for for against"),
        ("weather?", call("get_weather", city="Oslo"), "against"),
        ("ten minutes", call("set_timer", duration={"minutes": 10}), "for"),
        ("an egg timer", call("set_timer", duration={"minutes": 10}), "against"),
        ("stell den Timer auf zehn Minuten", call("set_timer", duration={"minutes": 10}), "nothing"),
        ("stell den Timer auf 10 Minuten", call("set_timer", duration={"minutes": 10}), "for"),
    ],
)
def test_open_values_must_be_stated_and_closed_ones_need_not(request_text: str, made: ToolCall, expected: str) -> None:
    assert " ".join(stances(request_text, made).values()) == expected


def test_what_the_request_says_beyond_the_calls_is_missing_or_a_doubt() -> None:
    found = verifier().word_evidence(
        "kitchen light on and purple, since 7", [call("set_light", room="kitchen", state="on")], None
    )
    assert found.missing == ("in no argument: 'purple' (set_light.color)",)
    assert found.doubts == ("in no argument: 7",)
    assert len(found.refusals) == 1 and all(text in found.refusals[0] for text in (*found.missing, *found.doubts))
    plain = verifier().word_evidence("kitchen light on", [call("set_light", room="kitchen", state="on")], None)
    assert plain.missing == plain.doubts == plain.refusals == ()


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        ({"enum": ["a", 1]}, True),
        ({"const": 1}, True),
        ({"type": "boolean"}, True),
        ({"type": "array", "items": {"enum": ["a"]}}, True),
        ({"anyOf": [{"enum": ["a"]}, {"type": "null"}]}, True),
        ({"anyOf": [{"enum": ["a"]}, {"type": "string"}]}, False),
        ({"$ref": "#/$defs/a"}, True),
        ({"type": "string"}, False),
        ({"type": "string", "format": "date"}, False),
        ({"type": "integer", "minimum": 1, "maximum": 2}, False),
        ({}, False),
    ],
)
def test_closed_values_are_listed_by_their_schema(schema: dict[str, Any], closed: bool) -> None:
    assert is_closed(schema, {"$defs": {"a": {"enum": ["x"]}}}) is closed


@given(st.recursive(st.integers() | st.floats(allow_nan=False), lambda inner: st.lists(inner, min_size=1)))
def test_numbers_in_any_list_are_numeric_and_one_text_among_them_is_not(value: Any) -> None:
    assert is_numeric(value) and is_numeric({"a": value})
    assert not is_numeric([value, "a"]) and not is_numeric([]) and not is_numeric(True)
