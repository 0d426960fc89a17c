from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.evaluation.comparators import compare
from fcdistill.records import ToolCall
from fcdistill.records.equality import same_call, same_calls, same_value

LEAVES = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5, -0.0]) | st.text("aA1", max_size=1)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (5, 5.0, True),
        (10**30, 1e30, False),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        (None, None, True),
        (None, False, False),
        ("5", 5, False),
        ("on", "On", False),
        ([1, 2], [1.0, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ([], {}, False),
        ({"a": 1, "b": [True]}, {"b": [True], "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {}, False),
        ([{"a": [1]}], [{"a": [True]}], False),
    ],
)
def test_values_are_compared_as_json(one: Any, other: Any, same: bool) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same


@given(VALUES, VALUES)
def test_an_exact_comparison_finds_no_difference_exactly_where_values_are_the_same(one: Any, other: Any) -> None:
    assert same_value(one, one)
    assert same_value(one, other) == (not compare(one, other))


def _call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def test_a_call_is_its_tool_and_its_arguments() -> None:
    assert same_call(_call("timer", minutes=5), _call("timer", minutes=5.0))
    assert not same_call(_call("timer", minutes=5), _call("alarm", minutes=5))
    assert not same_call(_call("timer", minutes=1), _call("timer", minutes=True))
    assert not same_call(_call("timer"), _call("timer", minutes=5))


def test_the_order_of_calls_plays_no_role_but_their_number_does() -> None:
    calls = [_call("light", room="hall"), _call("light", room="attic"), _call("light", room="hall")]
    for shuffled in permutations(calls):
        assert same_calls(calls, shuffled)
    assert not same_calls(calls, calls[:2]) and not same_calls(calls[:2], calls)
    assert not same_calls([calls[0], calls[0], calls[1]], [calls[0], calls[1], calls[1]])
    assert same_calls([], []) and not same_calls([], calls)
