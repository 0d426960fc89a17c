"""Tests of `fcdistill.generation.verification.english.clauses`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.verification.english.clauses import clause_starts
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.languages.word_places import is_mixed


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("light on", {0}),
        ("lock it and go", {0, 2}),
        ("lock it, go", {0, 2}),
        ("lock it. Go! Now", {0, 2, 3}),
        ("ring at 7:30 a.m. or 8.15", {0, 5}),
        ("1,000 lamps - 3 rooms", {0, 2}),
        ("kitchen then hall", {0, 1}),
    ],
)
def test_something_new_begins_behind_punctuation_and_with_links(text: str, starts: set[int]) -> None:
    assert clause_starts(text) == starts


def test_punctuation_inside_of_a_number_leaves_it_open_where_clauses_start() -> None:
    assert clause_starts("two hundred, and five") is None


@pytest.mark.parametrize(
    ("units", "mixed"),
    [
        ([{0, 1}, {4, 5}], False),
        ([{0, 4}, {5}], True),  # 0 to 3 are one clause, 4 and 5 the next
        ([{0}, {1}], True),
        ([{0, 6}, {4}], True),
        ([{0, 2}, {2, 4}], False),  # 2 is said of both
        ([{0, 2}, set()], False),
        ([{0, 5}], False),
        ([{4, 5}, {0, 1}, {8}], False),
    ],
)
def test_units_keep_to_places_of_their_own(units: list[set[int]], mixed: bool) -> None:
    assert is_mixed(units, {0, 4, 6, 8}) is mixed


@given(st.lists(st.sets(st.integers(0, 12)), max_size=4), st.sets(st.integers(0, 12)))
def test_the_order_of_units_does_not_matter(units: list[set[int]], starts: set[int]) -> None:
    assert is_mixed(units, starts) == is_mixed(units[::-1], starts)


@given(st.text(alphabet="ab ,.!?&+-:;1 ", max_size=30))
def test_starts_are_places_of_words(text: str) -> None:
    starts = clause_starts(text)
    assert starts is None or all(0 <= start <= len(words_of(text)) for start in starts)
