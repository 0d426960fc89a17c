"""Tests of `fcdistill.generation.verification.english.words`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.verification.english.words import spell_number, words_of
from fcdistill.generation.verification.languages.word_places import Word, find, format_number


def texts(text: str) -> list[str]:
    return [word.text for word in words_of(text)]


def numbers(text: str) -> list[str]:
    return [word.text for word in words_of(text) if word.is_number]


def stands(phrase: str, text: str) -> bool:
    return bool(find(words_of(phrase), words_of(text)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("twenty-one degrees", ["21"]),
        ("Twenty one", ["21"]),
        ("thirty and one", ["30", "1"]),
        ("nineteen", ["19"]),
        ("one hundred and five", ["105"]),
        ("two hundred fifty", ["250"]),
        ("two hundred fifty five", ["255"]),
        ("one hundred and twenty-one lights", ["121"]),
        ("a hundred and twenty one and two", ["121", "2"]),
        ("a hundred and twenty and five", ["120", "5"]),
        ("forty-two three", ["42", "3"]),
        ("a hundred percent", ["100"]),
        ("a dozen eggs, a couple of limes", ["12", "2"]),
        ("seven thirty", ["7", "30"]),
        ("7:30", ["7", "30"]),
        ("07:05", ["7", "5"]),
        ("21.50 degrees", ["21.5"]),
        ("10.45pm", ["10.45"]),
        ("21½ degrees", ["21.5"]),
        ("1,200 litres or 1,200.5", ["1200", "1200.5"]),
        ("2027-05-03", ["2027", "5", "3"]),
        ("rooms 2-4", ["2", "4"]),
        ("-5 degrees, minus five, (−5)", ["-5", "-5", "-5"]),
        ("90s rock", ["90"]),
        ("€19.99, $20 and 7.50£", ["19.99", "20", "7.5"]),
        ("somebody else", []),
    ],
)
def test_numbers_in_digits_and_in_words(text: str, expected: list[str]) -> None:
    assert numbers(text) == expected


def test_every_number_in_words_is_heard_as_itself() -> None:
    for number in range(1000):
        assert words_of(spell_number(number)) == [Word(str(number), is_number=True, spelled_out=True)]


def test_symbols_of_currencies_are_their_names() -> None:
    assert texts("€20") == texts("euros 20") == ["euro", "20"]
    assert texts("20 $, 5£") == texts("20 dollars, 5 pounds")


def test_only_number_words_count_as_spelled_out() -> None:
    assert words_of("one 1") == [Word("1", is_number=True, spelled_out=True), Word("1", is_number=True)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("the lights", "The light!"),
        ("berries", "berry"),
        ("cookies", "cookie"),
        ("tomatoes", "tomato"),
        ("boxes", "box"),
        ("Karen's", "karen"),
        ("Karen’s", "Karen's"),
        ("living_room", "living room"),
        ("7 p.m.", "7 pm"),
        ("at 7 a. m.", "at 7 AM"),
        ("ﬁsh", "fish"),
        ("half past six", "half past 6"),
        ("café", "cafe\u0301"),
    ],
)
def test_spellings_of_one_word_are_equal(one: str, other: str) -> None:
    assert texts(one) == texts(other)


@pytest.mark.parametrize(
    ("one", "other"), [("bus", "bu"), ("glass", "glas"), ("this", "thi"), ("-5", "5"), ("on", "off")]
)
def test_different_words_stay_different(one: str, other: str) -> None:
    assert texts(one) != texts(other)


@pytest.mark.parametrize(
    ("value", "text"),
    [(21, "21"), (21.0, "21"), (21.5, "21.5"), (1e-7, "0.0000001"), (1e20, "1" + "0" * 20), (-3, "-3")],
)
def test_format_number(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.one_of(st.integers(-(10**6), 10**6), st.decimals(-1000, 1000, places=3).map(float)))
def test_a_formatted_number_reads_as_itself(value: float) -> None:
    assert texts(f"set {format_number(value)} now") == ["set", format_number(value), "now"]


@given(st.text())
def test_any_text_has_words(text: str) -> None:
    assert all(word.text for word in words_of(text))


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("bathroom", "the bathrom light"),
        ("bathroom", "the bathrooom light"),
        ("bathroom", "the batrhoom light"),
        ("bathroom", "the bathtoom light"),
        ("living room", "livingroom light"),
        ("bedroom", "bed room light"),
        ("air quality", "is the air quality fine"),
    ],
)
def test_one_slip_or_another_compound_is_forgiven_in_longer_words(phrase: str, text: str) -> None:
    assert stands(phrase, text)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("red", "rde light"),
        ("bathroom", "bathrm"),
        ("bedroom", "bathroom"),
        ("lights out", "out lights"),
        ("123456", "123457"),
        ("", "anything"),
        ("a longer phrase", "a longer"),
        ("on to", "onto"),
    ],
)
def test_more_than_a_slip_is_not(phrase: str, text: str) -> None:
    assert not stands(phrase, text)


def test_a_slip_can_be_another_real_word_unless_that_is_named_distinct() -> None:
    phrase, words = words_of("upload"), words_of("unload the file")
    assert find(phrase, words) == [range(0, 1)]
    assert find(phrase, words, distinct={"unload"}) == []
    assert find(words_of("unload"), words, distinct={"unload"}) == [range(0, 1)]


def test_every_place_is_found() -> None:
    assert find(words_of("the light"), words_of("the light and the lights")) == [range(0, 2), range(3, 5)]


@given(
    st.lists(st.sampled_from(["light", "the", "twelve", "30", "kitchen"]), min_size=1),
    st.integers(0, 5),
    st.integers(1, 5),
)
def test_a_part_of_a_text_stands_in_it(parts: list[str], start: int, size: int) -> None:
    words = words_of(" ".join(parts))
    phrase = words[start : start + size]
    assert not phrase or range(start, start + len(phrase)) in find(phrase, words)


@pytest.mark.parametrize(("short", "long"), [("tmrw", "tomorrow"), ("tonite", "tonight"), ("thurs", "thursday")])
def test_short_forms_are_the_words_that_they_stand_for(short: str, long: str) -> None:
    assert words_of(short) == words_of(long)


LETTERS = "abc"


def one_typo_away(word: str) -> set[str]:
    """All that one letter more, less or another, or two neighbours swapped make of a word."""
    splits = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    more = {start + letter + rest for start, rest in splits for letter in LETTERS}
    less = {start + rest[1:] for start, rest in splits if rest}
    other = {start + letter + rest[1:] for start, rest in splits if rest for letter in LETTERS}
    swapped = {start + rest[1] + rest[0] + rest[2:] for start, rest in splits if len(rest) > 1}
    return more | less | other | swapped


@given(st.data(), st.text(LETTERS, min_size=1, max_size=9))
def test_a_typo_is_one_letter_behind_the_first_of_a_longer_word(data: st.DataObject, word: str) -> None:
    near = st.sampled_from(sorted(one_typo_away(word) - {""}))
    found = data.draw(near | near.flatmap(lambda each: st.sampled_from(sorted(one_typo_away(each) - {""}))))
    is_typo = len(word) >= 6 and found[0] == word[0] and found in one_typo_away(word)
    assert bool(find([Word(word)], [Word(found)])) == (found == word or is_typo)
