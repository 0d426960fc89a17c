"""The bridge to the leaderboard: its gold answers are right for its checker and for our scorer."""

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from fcdistill.evaluation.bfcl import BfclEntry, read_bfcl
from fcdistill.evaluation.bfcl_official import official_verdict
from fcdistill.evaluation.scoring import score_case
from fcdistill.records import EvalCase, ParseError, Prediction, ToolCall
from tests.evaluation.bfcl_data import DIM

with_package = pytest.mark.skipif(
    importlib.util.find_spec("bfcl_eval") is None, reason="needs pip install --no-deps bfcl-eval"
)


def gold(case: EvalCase) -> Prediction:
    """The first acceptable answer, with the first acceptable value of every argument."""
    calls = tuple(
        ToolCall(name=call.name, arguments={name: values[0] for name, values in call.arguments.items()})
        for call in case.expected[0]
    )
    return Prediction(id=case.id, text="x", calls=calls)


@with_package
@pytest.mark.parametrize(
    ("category", "num_unsatisfiable"),
    [
        ("simple_python", 0),
        ("multiple", 0),
        ("parallel", 0),
        ("parallel_multiple", 0),
        ("live_simple", 2),
        ("live_parallel", 0),
        ("live_parallel_multiple", 0),
    ],
)
def test_gold_answers_are_right_for_both(category: str, num_unsatisfiable: int) -> None:
    found = read_bfcl(category)
    assert len(found.unsatisfiable) == num_unsatisfiable
    wrong: dict[str, Any] = {}
    for case in found.suite.cases:
        score = score_case(case, found.suite.specs[case.id], gold(case))
        official = official_verdict(category, found.entries[case.id], gold(case))
        if not (score.correct and official.correct):
            wrong[case.id] = score.errors, official.error
    assert wrong == {}


@with_package
def test_the_checker_comes_without_any_vendors_sdk() -> None:
    program = (
        "import sys; from fcdistill.evaluation.bfcl_official import load_ast_checker; load_ast_checker()\n"
        "loaded = {'openai', 'anthropic', 'cohere', 'mistralai', 'google', 'bfcl_eval.constants.model_config'}\n"
        "assert not loaded & sys.modules.keys(), loaded & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@with_package
@pytest.mark.parametrize(
    ("room", "error"), [("The-Hall", ""), ("attic", "value_error:string: Invalid value for parameter 'room': 'attic'.")]
)
def test_the_checker_forgives_spelling_and_says_what_it_does_not(room: str, error: str) -> None:
    entry = BfclEntry((DIM,), ({"lamp.dim": {"room": ["the hall"], "level": [1.0]}},))
    call = ToolCall(name="lamp_dim", arguments={"room": room, "level": 1})
    found = official_verdict("simple_python", entry, Prediction(id="a", calls=(call,)))
    assert found.correct is (error == "")
    assert found.error.startswith(error)


@pytest.mark.parametrize(
    ("category", "called", "malformed", "right"),
    [
        ("irrelevance", False, False, True),
        ("irrelevance", True, False, False),
        ("live_irrelevance", True, True, True),
        ("live_relevance", True, False, True),
        ("live_relevance", True, True, False),
        ("live_relevance", False, False, False),
    ],
)
def test_relevance_is_whether_anything_can_be_read_as_a_call(
    category: str, called: bool, malformed: bool, right: bool
) -> None:
    prediction = Prediction(
        id="a",
        calls=(ToolCall(name="lamp_dim"),) if called else (),
        parse_errors=(ParseError(kind="unclosed", detail="", start=0, end=1),) if malformed else (),
    )
    assert official_verdict(category, BfclEntry((DIM,), None), prediction).correct is right
