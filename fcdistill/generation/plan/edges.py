"""The edges of what a schema allows: the least and the greatest number, the shortest and the longest array or text.

Models err there more than elsewhere, so that calls on an edge are planned and counted like other cells.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fcdistill.records import ToolCall, ToolSpec
from fcdistill.tools.json_schema import as_written
from fcdistill.tools.parameters import resolve_schema, suggested_types

__all__ = ["NumberRange", "call_edges", "edge_number", "number_range", "schema_edges"]

_LONGEST_ARRAY = 6
"""A request that lists more things than this is nothing that people say."""
_DEEPEST = 4


@dataclass(frozen=True)
class NumberRange:
    """The numbers `step * n` with first <= n <= last; `low` and `high` are the outermost that are allowed, if any."""

    step: float
    first: int
    last: int
    low: float | None
    high: float | None

    def number(self, position: int) -> float:
        """`step * position`, as decimals are multiplied; an integer where it is one."""
        return _plain(as_written(self.step) * position)


def number_range(schema: Mapping[str, Any], *, integer: bool) -> NumberRange:
    """The numbers of a schema that people would say: whole ones, halves, or tenths and less where the range is narrow.

    Where a side is open, it ends 100 steps from the other or from zero, or 100 from there where the schema itself has
    a smaller step than one.
    """
    low, above = _bound(schema, "minimum", "exclusiveMinimum", max)
    high, below = _bound(schema, "maximum", "exclusiveMaximum", min)
    given = schema.get("multipleOf")
    step = as_written(given or (1 if integer else _plain_step(low, high)))
    if integer:
        step = Fraction(step.numerator)  # the least multiple that is whole
    width = 100 * (max(step, Fraction(1)) if given else step)
    start = (
        as_written(low) if low is not None else Fraction(0) if high is None or high > 0 else as_written(high) - width
    )
    end = start + width if high is None else as_written(high)
    first, last = math.ceil(start / step), math.floor(end / step)
    first += above and first * step == start
    last -= below and last * step == end
    on_grid = integer or given is not None
    least = None if low is None else _plain(step * first) if on_grid or above else _plain(start)
    greatest = None if high is None else _plain(step * last) if on_grid or below else _plain(end)
    return NumberRange(_plain(step), first, last, least, greatest)


def edge_number(schema: Mapping[str, Any], edge: str, *, integer: bool) -> float | None:
    """The number on an edge, `minimum` or `maximum`; None where that side is open."""
    allowed = number_range(schema, integer=integer)
    return allowed.low if edge == "minimum" else allowed.high if edge == "maximum" else None


def schema_edges(spec: ToolSpec) -> Iterator[tuple[str, str]]:
    """The edges of a tool's arguments that a request may be about, as (path below the tool, edge).

    Closed sets have none, since each of their values has its turn. A text of one letter, or a long array, is none.
    """

    def visit(schema: Any, path: str) -> Iterator[tuple[str, str]]:
        schema = resolve_schema(schema, spec.parameters)
        if path.count(".") >= _DEEPEST:
            return
        if path:
            yield from ((path, name) for name in _edges(schema))
        for name, inner in schema.get("properties", {}).items():
            yield from visit(inner, f"{path}.{name}" if path else name)
        if "items" in schema:
            yield from visit(schema["items"], path)

    yield from dict.fromkeys(visit(spec.parameters, ""))


def call_edges(call: ToolCall, spec: ToolSpec) -> dict[str, str]:
    """The arguments of a call that lie on an edge, by path, and on which."""
    found: dict[str, str] = {}

    def visit(value: Any, schema: Any, path: str) -> None:
        schema = resolve_schema(schema, spec.parameters)
        for name, bound in _edges(schema).items() if path else ():
            size = value if "imum" in name else len(value) if isinstance(value, list | str) else None
            if isinstance(size, int | float) and not isinstance(size, bool) and size == bound:
                found.setdefault(path, name)
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(inner, schema.get("properties", {}).get(key, {}), f"{path}.{key}" if path else key)
        elif isinstance(value, list):
            for item in value:
                visit(item, schema.get("items", {}), path)

    visit(call.arguments, spec.parameters, "")
    return found


def _edges(schema: Mapping[str, Any]) -> dict[str, float]:
    """The edges of one place, and the number, or the length, that lies on each."""
    if {"const", "enum"} & schema.keys():
        return {}
    kind = next((name for name in suggested_types(schema) if name != "null"), None)
    edges: dict[str, float | None] = {}
    if kind in ("integer", "number"):
        edges = {name: edge_number(schema, name, integer=kind == "integer") for name in ("minimum", "maximum")}
    elif kind == "array":
        least, most = schema.get("minItems", 1), schema.get("maxItems")
        edges = {
            "minItems": least if 1 < least <= _LONGEST_ARRAY else None,
            "maxItems": most if most is not None and 1 < most <= _LONGEST_ARRAY else None,
        }
    elif kind == "string" and "format" not in schema:
        edges = {"minLength": schema.get("minLength"), "maxLength": schema.get("maxLength")}
        edges = {name: length if length is not None and length > 1 else None for name, length in edges.items()}
    return {name: bound for name, bound in edges.items() if bound is not None}


def _bound(schema: Mapping[str, Any], inclusive: str, exclusive: str, tighter: Any) -> tuple[float | None, bool]:
    """The tighter of two bounds, and whether it is not allowed itself. Draft-04 says the latter with a boolean."""
    bound, other = schema.get(inclusive), schema.get(exclusive)
    if isinstance(other, bool):
        return bound, other
    if bound is None or other is None:
        return (bound, False) if other is None else (other, True)
    return (other, True) if tighter(bound, other) == other else (bound, False)


def _plain(number: Fraction) -> float:
    """The number as a model writes it."""
    return number.numerator if number.denominator == 1 else float(number)


def _plain_step(low: float | None, high: float | None) -> float:
    if low is None or high is None or high - low >= 5 or high <= low:
        return 0.5
    # Rounded, since a power of ten is not exactly a tenth of the last.
    return float(round(10.0 ** (math.floor(math.log10(high - low)) - 1), 12))
