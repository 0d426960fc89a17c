"""When two JSON values are the same, and when two answers make the same calls.

Numbers are equal by value (5 is 5.0), a boolean is never a number, strings are exact, arrays keep their order and
objects don't; the order of calls plays no role. What an evaluation may forgive beyond that is not known here.
"""

from collections.abc import Sequence
from typing import Any

from fcdistill.records.conversation import ToolCall

__all__ = ["same_call", "same_calls", "same_value"]


def same_value(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal at every depth."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def same_call(one: ToolCall, other: ToolCall) -> bool:
    """Whether two calls name one tool and give it the same arguments."""
    return one.name == other.name and same_value(one.arguments, other.arguments)


def same_calls(one: Sequence[ToolCall], other: Sequence[ToolCall]) -> bool:
    """Whether two answers make the same calls, each as often, in any order."""
    rest = list(other)
    for call in one:
        # Which of several equal calls is taken does not matter, so that no matching has to be searched for.
        index = next((index for index, candidate in enumerate(rest) if same_call(call, candidate)), None)
        if index is None:
            return False
        del rest[index]
    return not rest
