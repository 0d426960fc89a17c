import string
from itertools import chain
from typing import get_args

import pytest

from fcdistill.generation.plan.plan import REGISTERS
from fcdistill.generation.verification.english.english_pack import ENGLISH
from fcdistill.generation.verification.english.follow_up_phrases import (
    FOLLOW_UPS,
    OTHER_OF_TWO,
    QUESTIONS,
    closes_talk,
    names_other_of_two,
    opens_talk,
)
from fcdistill.generation.verification.english.request_style import request_problem
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.leftovers import leftover_numbers
from fcdistill.records import ConversationKind, FollowUpKind

PHRASES = [(kind, phrase) for kind, registers in FOLLOW_UPS.items() for phrase in chain(*registers.values())]


def test_each_kind_that_needs_words_has_many_in_every_register() -> None:
    assert set(FOLLOW_UPS) == set(get_args(FollowUpKind)) - {"social"}
    for registers in FOLLOW_UPS.values():
        assert set(registers) == set(REGISTERS) - {"typos"}
        assert len(set(chain(*registers.values()))) >= 15
        assert all(len(phrases) == len(set(phrases)) >= 3 for phrases in registers.values())
    assert len(set(OTHER_OF_TWO)) >= 15 and len(set(QUESTIONS)) >= 15


@pytest.mark.parametrize(("kind", "phrase"), PHRASES)
def test_a_phrase_is_what_a_user_says_and_holds_no_value_of_its_own(kind: ConversationKind, phrase: str) -> None:
    fields = {field for _, field, _, _ in string.Formatter().parse(phrase) if field}
    wanted = {"switched": set[str](), "resumed": {"said", "topic"}}.get(kind, {"said"})
    assert fields == wanted or kind == "carried_over" and fields in ({"said"}, {"placed"})
    text = phrase.format(said="the attic", placed="in the attic", topic="light")
    text += "switch off the fan" if kind == "switched" else ""
    assert request_problem(text, asks=True) == ""
    assert list(leftover_numbers(words_of(text), set(), ENGLISH)) == []


@pytest.mark.parametrize("text", OTHER_OF_TWO)
def test_the_other_of_two_is_named_and_states_no_number(text: str) -> None:
    assert names_other_of_two(text) and request_problem(text, asks=True) == ""
    assert list(leftover_numbers(words_of(text), set(), ENGLISH)) == []


@pytest.mark.parametrize("text", ["the kitchen too", "another one", "each other", "other the"])
def test_other_words_name_no_other_of_two(text: str) -> None:
    assert not names_other_of_two(text)


@pytest.mark.parametrize(
    ("tool", "opens", "closes"),
    [
        ("greeting", True, False),
        ("say_hello", True, False),
        ("thank_you", False, True),
        ("goodbye", False, True),
        ("intent_unclear", False, False),
    ],
)
def test_a_tool_s_name_tells_where_in_a_talk_it_is_called(tool: str, opens: bool, closes: bool) -> None:
    assert (opens_talk(tool), closes_talk(tool)) == (opens, closes)
