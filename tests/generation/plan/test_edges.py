"""The edges of ranges, which calls lie on them, and calls that are made to."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.generation.plan.edges import call_edges, edge_number, number_range, schema_edges
from fcdistill.records import ToolCall
from fcdistill.tools.validation import CallValidator
from tests.generation.home import book, catalog, tool
from tests.generation.plan.samplers import sampler_of


@pytest.mark.parametrize(
    ("schema", "low", "high"),
    [
        ({"type": "integer", "minimum": 3, "maximum": 9}, 3, 9),
        ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 9}, 4, 8),
        ({"type": "integer", "minimum": 3, "maximum": 11, "multipleOf": 4}, 4, 8),
        ({"type": "integer", "exclusiveMinimum": 4, "maximum": 20, "multipleOf": 4}, 8, 20),
        ({"type": "integer", "minimum": 0.5, "maximum": 2.5}, 1, 2),
        ({"type": "integer", "minimum": 0, "maximum": 9, "multipleOf": 2.5}, 0, 5),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": 1}, 2, None),
        ({"type": "integer", "minimum": 5, "exclusiveMinimum": 1}, 5, None),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, 2, None),
        ({"type": "number", "minimum": 20.3, "maximum": 30.25}, 20.3, 30.25),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, 0.1, 1),
        ({"type": "number", "minimum": 0.2, "maximum": 0.8, "multipleOf": 0.25}, 0.25, 0.75),
        ({"type": "number", "minimum": 0.1, "exclusiveMaximum": 0.7, "multipleOf": 0.1}, 0.1, 0.6),
        ({"type": "number", "exclusiveMinimum": 0.3, "maximum": 19.994, "multipleOf": 0.01}, 0.31, 19.99),
        ({"type": "number", "minimum": 1e-12, "maximum": 3e-12, "multipleOf": 1e-12}, 1e-12, 3e-12),
        ({"type": "number"}, None, None),
    ],
)
def test_the_outermost_numbers_that_are_allowed(schema: dict[str, Any], low: float | None, high: float | None) -> None:
    integer = schema["type"] == "integer"
    assert (edge_number(schema, "minimum", integer=integer), edge_number(schema, "maximum", integer=integer)) == (
        low,
        high,
    )


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(), st.integers(-40, 40), st.integers(1, 60), st.sampled_from(["minimum", "exclusiveMinimum"]),
    st.sampled_from(["maximum", "exclusiveMaximum"]), st.sampled_from([None, 1, 2, 0.5, 0.1, 0.01, 0.25]),
)  # fmt: skip
def test_every_number_of_a_range_is_valid(
    integer: bool, low: int, span: int, lower: str, upper: str, step: float | None
) -> None:
    schema = {"type": "integer" if integer else "number", lower: low, upper: low + span + 4}
    schema |= {"multipleOf": step} if step else {}
    judge = CallValidator([tool("t", {"p": schema})])
    allowed = number_range(schema, integer=integer)
    numbers = [allowed.number(allowed.first), allowed.number(allowed.last), allowed.low, allowed.high]
    assert all(judge.check_call(ToolCall(name="t", arguments={"p": number})) == [] for number in numbers)
    assert allowed.low <= allowed.number(allowed.first) <= allowed.number(allowed.last) <= allowed.high  # type: ignore[operator]


@pytest.mark.parametrize("step", [0.01, 0.1, 0.2, 0.35, 1e-3])
def test_every_multiple_of_a_decimal_is_one_as_it_is_written(step: float) -> None:
    schema = {"type": "number", "multipleOf": step, "minimum": 0}
    judge = CallValidator([tool("t", {"p": schema})])
    allowed = number_range(schema, integer=False)
    numbers = [allowed.number(position) for position in range(allowed.first, allowed.last + 1)]
    assert max(numbers) > 99, "sums of cents go beyond a hundred cents"
    assert all(judge.check_call(ToolCall(name="t", arguments={"p": number})) == [] for number in numbers[:2000])


MANY = tool(
    "t",
    {
        "level": {"type": "integer", "minimum": 0, "maximum": 9},
        "mode": {"enum": [1, 2]},
        "code": {"type": "string", "minLength": 2, "maxLength": 4},
        "word": {"type": "string", "minLength": 1},
        "parts": {
            "type": "array",
            "minItems": 2,
            "maxItems": 40,
            "items": {"type": "object", "properties": {"size": {"type": ["number", "null"], "minimum": 5}}},
        },
    },
)


def test_edges_are_found_at_every_depth_but_not_in_closed_sets() -> None:
    assert list(schema_edges(MANY)) == [
        ("level", "minimum"), ("level", "maximum"), ("code", "minLength"), ("code", "maxLength"),
        ("parts", "minItems"), ("parts.size", "minimum"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "edges"),
    [
        ({"level": 0}, {"level": "minimum"}),
        ({"level": 9, "mode": 1}, {"level": "maximum"}),
        ({"level": 5, "word": "x"}, {}),
        ({"level": False}, {}),
        ({"code": "ab"}, {"code": "minLength"}),
        ({"code": "abcd"}, {"code": "maxLength"}),
        ({"parts": [{"size": 5}, {"size": 7}]}, {"parts": "minItems", "parts.size": "minimum"}),
        ({"parts": [{"size": 6}, {"size": 7}, {}]}, {}),
        ({"unknown": 0}, {}),
    ],
)
def test_a_call_lies_on_the_edges_of_its_arguments(arguments: dict[str, Any], edges: dict[str, str]) -> None:
    assert call_edges(ToolCall(name="t", arguments=arguments), MANY) == edges


def test_calls_of_the_demo_are_made_on_every_edge_of_a_number() -> None:
    for spec in catalog().specs:
        sampler = sampler_of(spec, dict(book().entries))
        for path, edge in schema_edges(spec):
            call = sampler.sample_edge(spec, (), path, edge)
            if "Length" not in edge:
                assert call is not None and call_edges(call, spec)[path] == edge
                assert CallValidator([spec]).check_call(call) == []


def test_arrays_and_texts_are_made_on_an_edge_where_some_are_known() -> None:
    spec = tool(
        "t",
        {
            "list": {"type": "array", "items": {"enum": list("abcdefgh")}, "minItems": 2, "maxItems": 5},
            "code": {"type": "string", "pattern": "^[a-z]{2,5}$", "minLength": 2},
            "free": {"type": "string", "minLength": 9, "examples": ["too long for an edge"]},
        },
    )
    sampler = sampler_of(spec)
    assert len(sampler.sample_edge(spec, (), "list", "maxItems").arguments["list"]) == 5  # type: ignore[union-attr]
    assert len(sampler.sample_edge(spec, (), "list", "minItems").arguments["list"]) == 2  # type: ignore[union-attr]
    assert len(sampler.sample_edge(spec, (), "code", "minLength").arguments["code"]) == 2  # type: ignore[union-attr]
    assert sampler.sample_edge(spec, (), "free", "minLength") is None
    assert sampler.sample(spec, ("list",)).arguments.keys() == {"list"}, "an edge that was looked for is forgotten"
