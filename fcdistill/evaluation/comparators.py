"""When an argument's value counts as the expected one, and where it differs.

A comparator is written in a case file as a rule: `exact`, `casefold`, `numeric(TOL)`, `date`, `set`, `any_of`,
`optional` or `ignore`; `set` and `any_of` take a rule for what they hold, as in `any_of(casefold)`, and `optional`,
which lets the argument be left out, one for its value where it is given, as in `optional(any_of)`. Rules apply to all
strings and numbers below the argument. Nothing here knows of tools, schemas' verdicts or error codes.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

from fcdistill.evaluation.defaults import MISSING, Defaults
from fcdistill.records.equality import same_value

__all__ = [
    "Difference",
    "EXACT",
    "Rule",
    "assign",
    "check_expected",
    "compare",
    "describe_value",
    "escape_pointer",
    "expected_alternatives",
    "parse_rule",
]


_RULE = re.compile(r"\s*([a-z_]+)\s*(?:\((.*)\))?\s*", re.DOTALL)
_RULES = "exact, casefold, numeric(TOL), date, set, set(RULE), any_of, any_of(RULE), optional, optional(RULE), ignore"
_SIMPLE_KINDS = ("exact", "casefold", "date", "ignore")


@dataclass(frozen=True)
class Rule:
    """A parsed comparator.

    Attributes:
        kind: `exact`, `casefold`, `numeric`, `date`, `set`, `any_of`, `optional` or `ignore`.
        inner: the rule for elements (`set`), alternatives (`any_of`) or a value that is given (`optional`).
        tolerance: the largest absolute difference that `numeric` accepts.
    """

    kind: str
    inner: "Rule | None" = None
    tolerance: Fraction = Fraction(0)


EXACT = Rule("exact")
_AS_WRITTEN = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True)
class Difference:
    """One place where two values differ; `pointer` is a JSON pointer below the compared value."""

    pointer: str
    detail: str


@lru_cache(maxsize=4096)
def parse_rule(text: str) -> Rule:
    """The rule that a comparator's text names.

    Raises:
        ValueError: it names none; the message says what is allowed.
    """
    match = _RULE.fullmatch(text)
    kind, argument = match.groups() if match else ("", None)
    if kind in _SIMPLE_KINDS and argument is None:
        return Rule(kind)
    if kind == "numeric" and argument is not None:
        return Rule(kind, tolerance=_parse_tolerance(text, argument))
    if kind in ("set", "any_of", "optional"):
        inner = EXACT if argument is None else parse_rule(argument)
        if inner.kind not in ("optional", "ignore") and (kind == "optional" or inner.kind != "any_of"):
            return Rule(kind, inner=inner)
    raise ValueError(f"comparator {text!r} is none of {_RULES}")


def _parse_tolerance(text: str, argument: str) -> Fraction:
    try:
        tolerance = Fraction(argument.strip())
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"comparator {text!r}: {argument!r} is no number, as in numeric(0.5)") from None
    if tolerance < 0:
        raise ValueError(f"comparator {text!r}: the tolerance is negative")
    return tolerance


def check_expected(rule: Rule, expected: object) -> str:
    """Why this rule can't serve this expected value, or an empty string.

    A rule that never applies (a date rule on a text, `any_of` without a list) is a mistake of the case's author.
    """
    if rule.kind == "optional":
        assert rule.inner is not None
        return check_expected(rule.inner, expected)
    if rule.kind == "any_of":
        if not isinstance(expected, list) or not expected:
            return f"any_of needs a list of acceptable values, found {describe_value(expected)}"
        assert rule.inner is not None
        return next(filter(None, (check_expected(rule.inner, item) for item in expected)), "")
    if rule.kind == "set":
        if not isinstance(expected, list):
            return f"set needs an array, found {describe_value(expected)}"
        assert rule.inner is not None
        return next(filter(None, (check_expected(rule.inner, item) for item in expected)), "")
    leaves = list(_leaves(expected))
    if rule.kind == "date" and not any(isinstance(leaf, str) and _instant(leaf) is not None for leaf in leaves):
        return f"date needs an ISO 8601 date or date-time, found {describe_value(expected)}"
    if rule.kind == "numeric" and not any(_is_number(leaf) for leaf in leaves):
        return f"numeric needs a number, found {describe_value(expected)}"
    if rule.kind == "casefold" and not any(isinstance(leaf, str) for leaf in leaves):
        return f"casefold needs a string, found {describe_value(expected)}"
    return ""


def expected_alternatives(rule: Rule, expected: Any) -> list[Any]:
    """The values that an expected value stands for: the items of `any_of`, else the value itself."""
    if rule.kind == "optional" and rule.inner is not None:
        return expected_alternatives(rule.inner, expected)
    return list(expected) if rule.kind == "any_of" and isinstance(expected, list) else [expected]


def compare(expected: Any, got: Any, rule: Rule = EXACT, *, defaults: Defaults | None = None) -> list[Difference]:
    """All places where `got` is not the expected value; empty when it is right.

    Numbers are equal by value (5 is 5.0), a boolean is never a number, strings are exact, arrays keep their order and
    objects don't. Of several `any_of` alternatives, the closest one's differences are reported.

    Args:
        expected: the gold value, or `MISSING`.
        got: the predicted value, or `MISSING`.
        rule: how to compare.
        defaults: given where a property that equals its schema's default counts as left out.
    """
    if type(expected) is type(got) and isinstance(expected, str | int | float) and expected == got:
        return []  # what nearly all arguments are; no rule can make equal scalars differ
    return list(_differences(expected, got, rule, "", defaults))


def assign(costs: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Pairs (row, column) of a maximum matching with as many pairs of cost 0 as possible, then the least total cost.

    Args:
        costs: how wrong each pair is, at least 0; one list per row.
    """
    if not costs or not costs[0]:
        return []
    if len({cost for line in costs for cost in line}) == 1:
        return list(zip(range(len(costs)), range(len(costs[0])), strict=False))
    right = [(row, column) for row, line in enumerate(costs) for column, cost in enumerate(line) if cost == 0]
    rows_left = set(range(len(costs))) - {row for row, _ in right}
    columns_left = set(range(len(costs[0]))) - {column for _, column in right}
    is_right_once = len(costs) - len(rows_left) == len(right) == len(costs[0]) - len(columns_left)
    if is_right_once and len(rows_left) <= 1 and len(columns_left) <= 1:
        return sorted([*right, *zip(rows_left, columns_left, strict=False)])  # nothing is left to choose
    import numpy  # slow to import like scipy, and seldom needed
    from scipy.optimize import linear_sum_assignment

    table = numpy.array(costs, dtype=float)
    # One wrong pair more outweighs every sum of costs, so that the number of right pairs comes first.
    table[table > 0] += table.max() * min(table.shape) + 1
    rows, columns = linear_sum_assignment(table)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]


def describe_value(value: object, limit: int = 120) -> str:
    """A value as JSON, shortened to `limit` characters."""
    if value is MISSING:
        return "nothing"
    try:
        text = _AS_WRITTEN.encode(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value).__name__)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def escape_pointer(name: str) -> str:
    """A property's name as a step of a JSON pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def _differences(expected: Any, got: Any, rule: Rule, pointer: str, defaults: Defaults | None) -> Iterator[Difference]:
    if rule.kind == "ignore":
        return
    if rule.kind == "optional":
        assert rule.inner is not None
        if got is not MISSING:
            yield from _differences(expected, got, rule.inner, pointer, defaults)
    elif expected is MISSING:
        yield Difference(pointer, f"expected nothing, got {describe_value(got)}")
    elif rule.kind == "any_of":
        yield from _any_of_differences(expected, got, rule, pointer, defaults)
    elif got is MISSING:
        yield Difference(pointer, f"expected {describe_value(expected)}, got nothing")
    elif isinstance(expected, list) and isinstance(got, list):
        if rule.kind == "set":
            yield from _set_differences(expected, got, rule, pointer, defaults)
        else:
            yield from _array_differences(expected, got, rule, pointer, defaults)
    elif isinstance(expected, dict) and isinstance(got, dict):
        yield from _object_differences(expected, got, rule, pointer, defaults)
    elif not _equal_leaves(expected, got, rule):
        yield Difference(pointer, f"expected {describe_value(expected)}, got {describe_value(got)}")


def _any_of_differences(
    expected: Any, got: Any, rule: Rule, pointer: str, defaults: Defaults | None
) -> Iterator[Difference]:
    assert rule.inner is not None
    best: list[Difference] | None = None
    for alternative in expected_alternatives(rule, expected):
        found = list(_differences(alternative, got, rule.inner, pointer, defaults))
        if not found:
            return
        if best is None or len(found) < len(best):
            best = found
    # A scalar is equally far from every alternative: name them all instead of the first.
    if best is not None and (len(best) > 1 or best[0].pointer != pointer):
        yield from best
    else:
        yield Difference(pointer, f"expected one of {describe_value(expected)}, got {describe_value(got)}")


def _object_differences(
    expected: dict[str, Any], got: dict[str, Any], rule: Rule, pointer: str, defaults: Defaults | None
) -> Iterator[Difference]:
    for name in [*expected, *(name for name in got if name not in expected)]:
        omitted = MISSING if defaults is None else defaults.of(name)
        inner = None if defaults is None else defaults.below(name)
        one, other = expected.get(name, omitted), got.get(name, omitted)
        yield from _differences(one, other, rule, f"{pointer}/{escape_pointer(name)}", inner)


def _array_differences(
    expected: list[Any], got: list[Any], rule: Rule, pointer: str, defaults: Defaults | None
) -> Iterator[Difference]:
    inner = None if defaults is None else defaults.element()

    @cache
    def pair(row: int, column: int) -> tuple[Difference, ...]:
        return tuple(_differences(expected[row], got[column], rule, f"{pointer}/{column}", inner))

    # What is alike at both ends is set aside, so that one element too many or too few is one difference.
    first, rows, columns = 0, len(expected), len(got)
    while first < min(rows, columns) and not pair(first, first):
        first += 1
    while first < min(rows, columns) and not pair(rows - 1, columns - 1):
        rows, columns = rows - 1, columns - 1
    both = min(rows, columns)
    for index in range(first, both):
        yield from pair(index, index)
    yield from _surplus(expected[both:rows], list(enumerate(got))[both:columns], pointer)


def _set_differences(
    expected: list[Any], got: list[Any], rule: Rule, pointer: str, defaults: Defaults | None
) -> Iterator[Difference]:
    inner_rule = rule.inner
    assert inner_rule is not None
    inner = None if defaults is None else defaults.element()
    pairs = [
        [list(_differences(one, other, inner_rule, f"{pointer}/{column}", inner)) for column, other in enumerate(got)]
        for one in expected
    ]
    matched = assign([[len(pair) for pair in line] for line in pairs])
    for row, column in matched:
        yield from pairs[row][column]
    rows, columns = {row for row, _ in matched}, {column for _, column in matched}
    yield from _surplus(
        [value for row, value in enumerate(expected) if row not in rows],
        [(column, value) for column, value in enumerate(got) if column not in columns],
        pointer,
    )


def _surplus(missing: Sequence[Any], unexpected: Sequence[tuple[int, Any]], pointer: str) -> Iterator[Difference]:
    for value in missing:
        yield Difference(pointer, f"element {describe_value(value)} is missing")
    for index, value in unexpected:
        yield Difference(f"{pointer}/{index}", f"element {describe_value(value)} was not expected")


def _equal_leaves(expected: Any, got: Any, rule: Rule) -> bool:
    if same_value(expected, got):
        return True
    if rule.kind == "numeric" and _is_number(expected) and _is_number(got):
        return _within(expected, got, rule.tolerance)
    if isinstance(expected, str) and isinstance(got, str):
        if rule.kind == "casefold":
            return _caseless(expected) == _caseless(got)
        if rule.kind == "date":
            instant = _instant(expected)
            return instant is not None and instant == _instant(got)
    return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _within(expected: int | float, got: int | float, tolerance: Fraction) -> bool:
    """Whether two numbers differ by at most the tolerance, in the decimals that were written (21.6 - 21.5 is 0.1)."""
    if isinstance(got, float) and not math.isfinite(got):
        return False
    return abs(_decimal(expected) - _decimal(got)) <= tolerance


def _decimal(value: int | float) -> Fraction:
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _caseless(text: str) -> str:
    """Canonical caseless form (Unicode standard 16.0, section 3.13, definition D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def _instant(text: str) -> date | datetime | None:
    """A date, or a date-time (UTC where it names no zone); None for anything else. They never equal one another."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
