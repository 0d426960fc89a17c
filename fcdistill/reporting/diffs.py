"""Expected and got calls side by side: which calls belong together, and which of their arguments differ.

Follows the verdict and never contradicts it: a difference that the scorer forgave (a comparator, a default that equals
an omitted argument) is marked as accepted. How a diff is drawn is not known here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fcdistill.equality import same_value
from fcdistill.evaluation.comparators import EXACT, assign, compare, escape_pointer, parse_rule
from fcdistill.records import EvalCase, Score, ToolCall

__all__ = ["ArgumentDiff", "CallDiff", "diff_calls"]

Mark = Literal["same", "accepted", "differs", "missing", "extra"]
"""`accepted`: not equal, and right all the same; `missing` and `extra`: only expected, only got."""


@dataclass(frozen=True)
class ArgumentDiff:
    """One argument on both sides, as JSON; None where a side lacks it."""

    name: str
    expected: str | None
    got: str | None
    mark: Mark
    rule: str
    """The comparator of the case that judged it; empty for the exact one."""


@dataclass(frozen=True)
class CallDiff:
    """A call of each side; None where it has no counterpart. `mark` is about the tool."""

    expected: str | None
    got: str | None
    mark: Mark
    arguments: tuple[ArgumentDiff, ...]


def diff_calls(case: EvalCase, calls: Sequence[ToolCall], score: Score) -> tuple[CallDiff, ...]:
    """The calls against the acceptable answer that needs the fewest marks: expected order first, then surplus calls."""
    candidates = [_against(answer, calls, case, score) for answer in case.expected]
    return min(candidates, key=_num_marks)


def _num_marks(diffs: Sequence[CallDiff]) -> tuple[int, int]:
    arguments = [argument for call in diffs for argument in call.arguments]
    wrong = sum(argument.mark not in ("same", "accepted") for argument in arguments)
    return sum(call.mark != "same" for call in diffs), wrong


def _against(
    answer: Sequence[ToolCall], calls: Sequence[ToolCall], case: EvalCase, score: Score
) -> tuple[CallDiff, ...]:
    pairs: dict[int, int] = {}
    for name in dict.fromkeys(call.name for call in answer):
        rows = [row for row, call in enumerate(answer) if call.name == name]
        columns = [column for column, call in enumerate(calls) if call.name == name]
        if columns:
            costs = [
                [_num_marks([_pair(answer[row], calls[column], case, score)])[1] for column in columns] for row in rows
            ]
            pairs |= {rows[i]: columns[j] for i, j in assign(costs)}
    # What is left on both sides was called in place of one another.
    surplus = [column for column in range(len(calls)) if column not in pairs.values()]
    diffs = []
    for row, expected in enumerate(answer):
        if row in pairs:
            diffs.append(_pair(expected, calls[pairs[row]], case, score))
        else:
            diffs.append(_pair(expected, calls[surplus.pop(0)] if surplus else None, case, score))
    return (*diffs, *(_pair(None, calls[column], case, score) for column in surplus))


def _pair(expected: ToolCall | None, got: ToolCall | None, case: EvalCase, score: Score) -> CallDiff:
    wanted = {} if expected is None else expected.arguments
    given = {} if got is None else got.arguments
    same_tool = expected is not None and got is not None and expected.name == got.name
    arguments = []
    for name in dict.fromkeys([*wanted, *given]):
        tool = expected.name if expected is not None and name in wanted else (got.name if got is not None else "")
        rule = case.comparators.get(f"{tool}.{name}", "")
        mark: Mark = "missing" if name not in given else "extra" if name not in wanted else "differs"
        if same_tool:
            mark = _judged(mark, tool, name, wanted, given, rule, score)
        arguments.append(
            ArgumentDiff(
                name=name,
                expected=_json(wanted[name]) if name in wanted else None,
                got=_json(given[name]) if name in given else None,
                mark=mark,
                rule=rule,
            )
        )
    return CallDiff(
        expected=None if expected is None else expected.name,
        got=None if got is None else got.name,
        mark="same" if same_tool else "missing" if got is None else "extra" if expected is None else "differs",
        arguments=tuple(arguments),
    )


def _judged(
    mark: Mark, tool: str, name: str, wanted: dict[str, Any], given: dict[str, Any], rule: str, score: Score
) -> Mark:
    """The mark of an argument of two calls of one tool, where the case's rule and the verdict may forgive it."""
    parsed_rule = parse_rule(rule) if rule else EXACT
    if name in wanted and name in given and not compare(wanted[name], given[name], parsed_rule):
        return "same" if same_value(wanted[name], given[name]) else "accepted"
    path = f"{tool}.{escape_pointer(name)}"
    blamed = any(error.path == path or error.path.startswith(f"{path}/") for error in score.errors)
    return mark if blamed and parsed_rule.kind != "ignore" else "accepted"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
