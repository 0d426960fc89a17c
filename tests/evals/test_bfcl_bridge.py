import importlib.util

import pytest
from bfcl_bridge import checked, gold_answer, neighbours

from fcdistill.evaluation.bfcl import read_bfcl
from fcdistill.records import EvalCase, Message, ToolCall


def test_a_gold_answer_takes_the_first_of_the_values_that_a_comparator_allows() -> None:
    case = EvalCase(
        id="a",
        messages=(Message(role="user", content="go"),),
        behaviour="call",
        expected=((ToolCall(name="dim", arguments={"room": ["hall", "attic"], "level": 1}),),),
        comparators={"dim.room": "any_of"},
        category="simple",
    )
    assert gold_answer(case) == (ToolCall(name="dim", arguments={"room": "hall", "level": 1}),)
    assert gold_answer(case.model_copy(update={"behaviour": "no_call", "expected": ((),), "comparators": {}})) == ()


def test_neighbours_differ_from_the_gold_answer_in_one_argument() -> None:
    case = EvalCase(
        id="a",
        messages=(Message(role="user", content="go"),),
        behaviour="call",
        expected=((ToolCall(name="dim", arguments={"room": ["hall", "attic"]}), ToolCall(name="stop")),),
        comparators={"dim.room": "any_of"},
        category="parallel_multiple",
    )
    found = [(kind, calls[0].arguments, calls[1].name) for kind, calls in neighbours(case, gold_answer(case))]
    assert found == [
        ("other value", {"room": "attic"}, "stop"),
        ("null", {"room": None}, "stop"),
        ("left out", {}, "stop"),
    ]


@pytest.mark.skipif(importlib.util.find_spec("bfcl_eval") is None, reason="needs pip install --no-deps bfcl-eval")
@pytest.mark.parametrize("category", ["parallel", "irrelevance"])
def test_gold_answers_are_right_to_both_checkers(category: str) -> None:
    figures = checked(read_bfcl(category))
    assert figures["cases"] >= 200
    assert figures["ours_right"] == figures["official_right"] == figures["both_right"] == figures["cases"], figures
    assert not figures["differing"] and not figures["set_aside"]
