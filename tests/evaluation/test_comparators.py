import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.evaluation.comparators import (
    EXACT,
    assign,
    check_expected,
    compare,
    describe_value,
    expected_alternatives,
    parse_rule,
)
from fcdistill.evaluation.defaults import MISSING, Defaults

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
RULES = ("exact", "casefold", "numeric(0.5)", "date", "set", "set(casefold)", "set(numeric(1))", "set(date)")


def is_equal(expected: object, got: object, rule: str = "exact") -> bool:
    return not compare(expected, got, parse_rule(rule))


@pytest.mark.parametrize(
    ("rule", "expected", "got", "equal"),
    [
        ("exact", 5, 5.0, True),
        ("exact", 2**53, 2**53 + 1, False),
        ("exact", float(2**53), 2**53 + 1, False),
        ("exact", 1, True, False),
        ("exact", 0, False, False),
        ("exact", False, False, True),
        ("exact", True, False, False),
        ("exact", None, None, True),
        ("exact", None, 0, False),
        ("exact", None, "", False),
        ("exact", "5", 5, False),
        ("exact", "Bach", "bach", False),
        ("exact", "Bach", "Bach ", False),
        ("exact", [1, 2], [2, 1], False),
        ("exact", [], {}, False),
        ("exact", {"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ("casefold", "Straße", "STRASSE", True),
        ("casefold", "Café", "cafe\u0301", True),
        ("casefold", "Cafe", "Café", False),
        ("casefold", {"name": "Milk", "quantity": 2}, {"name": "milk", "quantity": 2}, True),
        ("casefold", {"name": "Milk", "quantity": 2}, {"name": "milk", "quantity": 3}, False),
        ("numeric(0.1)", 21.5, 21.6, True),
        ("numeric(0.1)", 21.5, 21.61, False),
        ("numeric(0)", 21.5, 21.5, True),
        ("numeric(1)", 1, True, False),
        ("numeric(1)", 1, "1", False),
        ("numeric(1)", 1, float("nan"), False),
        ("numeric(1)", 1, float("inf"), False),
        ("numeric(0.5)", [1, 2], [1.5, 2], True),
        ("numeric(1e-3)", 10**400, 10**400 + 1, False),
        ("numeric(1)", 10**400, 1.5, False),
        ("date", "2027-05-03T18:00:00Z", "2027-05-03T20:00:00+02:00", True),
        ("date", "2027-05-03T18:00:00Z", "2027-05-03T18:00:00.000z", True),
        ("date", "2027-05-03T18:00:00Z", "2027-05-03T18:00:00", True),
        ("date", "2027-05-03T18:00:00Z", "2027-05-03T18:00:01Z", False),
        ("date", "2027-05-03", "2027-05-03", True),
        ("date", "2027-05-03", "2027-05-03T00:00:00Z", False),
        ("date", "2027-05-03", "tomorrow", False),
        ("date", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", False),
        ("set", [1, 2, 2], [2, 1, 2.0], True),
        ("set", [1, 2, 2], [1, 1, 2], False),
        ("set", [1, 2], [1, 2, 2], False),
        ("set", ["Mon"], ["mon"], False),
        ("set(casefold)", ["Mon", "Tue"], ["tue", "mon"], True),
        ("set", [{"name": "a"}, {"name": "b", "n": 1}], [{"n": 1.0, "name": "b"}, {"name": "a"}], True),
        # Greedy pairing of the first within reach (1 with 2) would leave 3 with 1.
        ("set(numeric(1))", [1, 3], [2, 1], True),
        ("any_of", ["jazz", "smooth jazz"], "smooth jazz", True),
        ("any_of", ["jazz", "smooth jazz"], "Jazz", False),
        ("any_of(casefold)", ["jazz", "smooth jazz"], "Jazz", True),
        ("any_of(set)", [["a"], ["b", "c"]], ["c", "b"], True),
        ("any_of", ["jazz"], ["jazz"], False),
        ("ignore", "a", {"b": 1}, True),
        ("ignore", "a", MISSING, True),
        ("ignore", MISSING, "a", True),
        ("exact", MISSING, None, False),
        ("exact", None, MISSING, False),
    ],
)
def test_equality_under_each_rule(rule: str, expected: object, got: object, equal: bool) -> None:
    assert is_equal(expected, got, rule) is equal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "equal",
        "exact(1)",
        "numeric",
        "numeric()",
        "numeric(x)",
        "numeric(-1)",
        "numeric(inf)",
        "any_of(any_of)",
        "set(ignore)",
        "set()",
        "casefold)",
        "EXACT",
        "ignore,exact",
    ],
)
def test_a_text_that_names_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="comparator"):
        parse_rule(text)


@pytest.mark.parametrize(
    ("rule", "expected", "found"),
    [
        ("any_of", "jazz", "list of acceptable values"),
        ("any_of", [], "list of acceptable values"),
        ("any_of(date)", ["2027-05-03", "soon"], "date needs"),
        ("set", "jazz", "array"),
        ("set(casefold)", [1], "casefold needs"),
        ("date", "tomorrow", "date needs"),
        ("numeric(1)", "5", "numeric needs"),
        ("casefold", 5, "casefold needs"),
        ("exact", object(), ""),
        ("set", [], ""),
        ("numeric(1)", {"minutes": 5}, ""),
        ("any_of(casefold)", ["a", "b"], ""),
    ],
)
def test_a_rule_that_can_never_apply_is_told(rule: str, expected: object, found: str) -> None:
    problem = check_expected(parse_rule(rule), expected)
    assert found in problem
    assert bool(problem) is bool(found)


@pytest.mark.parametrize(
    ("rule", "expected", "got", "pointers"),
    [
        ("exact", {"a": {"b/c": [1, 2]}}, {"a": {"b/c": [1, 3]}}, ["/a/b~1c/1"]),
        ("exact", {"a": 1}, {"b": 1}, ["/a", "/b"]),
        ("exact", [1, 2], [1, 2, 3, 4], ["/2", "/3"]),
        ("exact", [1, 2], [1], [""]),
        ("exact", [1, 2, 3], [2, 3], [""]),
        ("exact", [1, 3], [1, 2, 3], ["/1"]),
        ("exact", [1, 1], [1, 1, 1], ["/2"]),
        ("exact", [1, 2, 3], [4, 2], ["/0", ""]),
        ("exact", {"a": []}, {"a": {}}, ["/a"]),
        ("set", ["a", "b"], ["b", "x"], ["/1"]),
        ("set", ["a", "b"], ["b"], [""]),
        ("set", [{"name": "milk", "n": 1}, {"name": "eggs"}], [{"name": "eggs"}, {"name": "milk", "n": 2}], ["/1/n"]),
        ("any_of", [{"a": 1, "b": 2}, {"a": 1, "b": 3}], {"a": 1, "b": 4}, ["/b"]),
    ],
)
def test_differences_stand_where_the_values_differ(
    rule: str, expected: object, got: object, pointers: list[str]
) -> None:
    assert [difference.pointer for difference in compare(expected, got, parse_rule(rule))] == pointers


def test_a_wrong_scalar_names_all_acceptable_values() -> None:
    (difference,) = compare(["jazz", "blues"], "rock", parse_rule("any_of"))
    assert difference.detail == 'expected one of ["jazz", "blues"], got "rock"'


SCHEMA = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "loop": {"$ref": "#/$defs/loop"},
        "mode": {"default": "auto"},
    },
    "required": ["mode"],
    "$defs": {
        "item": {"properties": {"name": {}, "quantity": {"default": 1}, "note": {"$ref": "#/$defs/note"}}},
        "note": {"default": None},
        "loop": {"$ref": "#/$defs/loop"},
    },
}


@pytest.mark.parametrize(
    ("expected", "got", "equal"),
    [
        ({"items": [{"name": "a"}]}, {"items": [{"name": "a", "quantity": 1.0}]}, True),
        ({"items": [{"name": "a", "quantity": 1}]}, {"items": [{"name": "a"}]}, True),
        ({"items": [{"name": "a"}]}, {"items": [{"name": "a", "quantity": 2}]}, False),
        ({"items": [{"name": "a"}]}, {"items": [{"name": "a", "note": None}]}, True),
        ({"items": [{"name": "a"}]}, {"items": [{}]}, False),
        ({}, {"mode": "auto"}, False),
        ({"loop": 1}, {"loop": 2}, False),
    ],
)
def test_an_optional_default_may_be_left_out_at_any_depth(expected: object, got: object, equal: bool) -> None:
    defaults = Defaults.of_document(SCHEMA)
    assert (not compare(expected, got, EXACT, defaults=defaults)) is equal
    assert compare(expected, got), "without the option they differ"


@settings(deadline=None)
@given(JSON_VALUES, st.sampled_from(RULES))
def test_every_value_equals_itself(value: object, rule: str) -> None:
    assert is_equal(value, copy.deepcopy(value), rule)


@settings(deadline=None)
@given(JSON_VALUES, JSON_VALUES, st.sampled_from(RULES))
def test_comparing_is_symmetric(one: object, other: object, rule: str) -> None:
    assert is_equal(one, other, rule) == is_equal(other, one, rule)


@settings(deadline=None)
@given(st.lists(JSON_VALUES, max_size=6), st.randoms())
def test_a_set_has_no_order(values: list[object], rng: random.Random) -> None:
    shuffled = rng.sample(values, len(values))
    assert is_equal(values, shuffled, "set")
    assert not is_equal([*values, "one more"], shuffled, "set")


@settings(deadline=None)
@given(JSON_VALUES, JSON_VALUES)
def test_exact_equality_is_what_canonical_json_says(one: object, other: object) -> None:
    def canonical(value: object) -> object:
        if isinstance(value, dict):
            return ("object", frozenset((name, canonical(item)) for name, item in value.items()))
        if isinstance(value, list):
            return ("array", tuple(canonical(item) for item in value))
        return (isinstance(value, bool), value)

    assert is_equal(one, other) == (canonical(one) == canonical(other))


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.data())
def test_assignment_pairs_as_many_right_ones_as_possible(num_rows: int, num_columns: int, data: st.DataObject) -> None:
    costs = [[data.draw(st.integers(0, 3)) for _ in range(num_columns)] for _ in range(num_rows)]
    pairs = assign(costs)
    assert len(pairs) == min(num_rows, num_columns)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)

    def best(row: int, free: frozenset[int], missing: int) -> tuple[int, int]:
        """The least (wrong pairs, total cost) by trying every pairing."""
        if row == num_rows:
            return 0, 0
        options = []
        for column in free:
            wrong, total = best(row + 1, free - {column}, missing)
            options.append((wrong + (costs[row][column] > 0), total + costs[row][column]))
        if missing:
            options.append(best(row + 1, free, missing - 1))
        return min(options)

    found = sum(costs[row][column] > 0 for row, column in pairs), sum(costs[row][column] for row, column in pairs)
    assert found == best(0, frozenset(range(num_columns)), max(0, num_rows - num_columns))


def test_long_values_are_shortened() -> None:
    assert len(describe_value("x" * 1000)) == 120
    assert describe_value(MISSING) == "nothing"


def test_optional_lets_a_value_be_left_out_and_judges_it_where_it_is_given() -> None:
    rule = parse_rule("optional(any_of)")
    assert compare([1, 2], MISSING, rule) == []
    assert compare([1, 2], 2, rule) == []
    assert [each.detail for each in compare([1, 2], 3, rule)] == ["expected one of [1, 2], got 3"]
    assert check_expected(rule, 1)
    assert expected_alternatives(rule, [1, 2]) == [1, 2]
    with pytest.raises(ValueError):
        parse_rule("any_of(optional)")
