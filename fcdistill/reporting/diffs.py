"""Expected and got calls side by side: which calls belong together, and which of their arguments differ.

Follows the verdict and never contradicts it: a difference that the scorer forgave (a comparator, a default that equals
an omitted argument) is marked as accepted. How a diff is drawn is not known here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fcdistill.evaluation.comparators import EXACT, assign, compare, escape_pointer, parse_rule
from fcdistill.records import EvalCase, Score, ScoreError, ToolCall
from fcdistill.records.equality import same_value

__all__ = ["ArgumentDiff", "CallDiff", "diff_calls"]

_AS_WRITTEN = json.JSONEncoder(ensure_ascii=False)

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
    """The calls against the closest acceptable answer: expected order first, then surplus calls."""
    # Which answer is closest is asked before the verdict has a say, since its errors are about that answer only.
    answer = case.expected[0]
    if len(case.expected) > 1:
        answer = min(case.expected, key=lambda answer: _num_marks(_against(answer, calls, case, None)))
    return _against(answer, calls, case, score.errors)


def _num_marks(diffs: Sequence[CallDiff]) -> tuple[int, int]:
    arguments = [argument for call in diffs for argument in call.arguments]
    wrong = sum(argument.mark not in ("same", "accepted") for argument in arguments)
    return sum(call.mark != "same" for call in diffs), wrong


def _against(
    answer: Sequence[ToolCall], calls: Sequence[ToolCall], case: EvalCase, errors: Sequence[ScoreError] | None
) -> tuple[CallDiff, ...]:
    """The calls against one answer; without errors, whatever the case's rules do not forgive is wrong."""
    pairs: dict[int, int] = {}
    for name in dict.fromkeys(call.name for call in answer):
        rows = [row for row, call in enumerate(answer) if call.name == name]
        columns = [column for column, call in enumerate(calls) if call.name == name]
        if len(rows) == len(columns) == 1:
            pairs[rows[0]] = columns[0]
        elif columns:
            costs = [
                [_num_marks([_pair(answer[row], calls[column], case, None)])[1] for column in columns] for row in rows
            ]
            pairs |= {rows[i]: columns[j] for i, j in assign(costs)}
    # What is left on both sides was called in place of one another.
    surplus = [column for column in range(len(calls)) if column not in pairs.values()]
    diffs = []
    for row, expected in enumerate(answer):
        column = pairs[row] if row in pairs else surplus.pop(0) if surplus else None
        diffs.append(_pair(expected, None if column is None else calls[column], case, errors))
    return (*diffs, *(_pair(None, calls[column], case, errors) for column in surplus))


def _pair(
    expected: ToolCall | None, got: ToolCall | None, case: EvalCase, errors: Sequence[ScoreError] | None
) -> CallDiff:
    wanted = {} if expected is None else expected.arguments
    given = {} if got is None else got.arguments
    same_tool = expected is not None and got is not None and expected.name == got.name
    arguments = []
    for name in dict.fromkeys([*wanted, *given]):
        mark: Mark = "differs"
        if name not in given:
            mark = "missing"
        elif name not in wanted:
            mark = "extra"
        elif same_value(wanted[name], given[name]):
            mark = "same"
        rule = ""
        if expected is not None and same_tool:
            rule = case.comparators.get(f"{expected.name}.{name}", "")
            if mark != "same" and _is_forgiven(expected.name, name, wanted, given, rule, errors):
                mark = "accepted"
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


def _is_forgiven(
    tool: str,
    name: str,
    wanted: dict[str, Any],
    given: dict[str, Any],
    rule: str,
    errors: Sequence[ScoreError] | None,
) -> bool:
    """Whether the case's rule accepts the difference, or the verdict blames no call of the tool for the argument."""
    parsed_rule = parse_rule(rule) if rule else EXACT
    if parsed_rule.kind == "ignore":
        return True
    if name in wanted and name in given and not compare(wanted[name], given[name], parsed_rule):
        return True
    path = f"{tool}.{escape_pointer(name)}"
    return errors is not None and not any(error.path == path or error.path.startswith(f"{path}/") for error in errors)


def _json(value: Any) -> str:
    return _AS_WRITTEN.encode(value)
