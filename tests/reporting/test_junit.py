from xml.etree import ElementTree

from fcdistill.evaluation.stats import summarise
from fcdistill.records import EvalCase, GateCheck, GateVerdict, Prediction, Report, Score, ScoreError
from fcdistill.reporting.junit import render_junit

CASES = [
    EvalCase.model_validate(
        {
            "id": name,
            "messages": [{"role": "user", "content": "dim"}],
            "behaviour": "no_call",
            "expected": [[]],
            "category": "irrelevance",
        }
    )
    for name in ("right", "wrong", "unanswered")
]
PREDICTIONS = {
    "right": Prediction(id="right", text="no", latency_s=0.25),
    "wrong": Prediction(id="wrong", text="<tool_call>\x00]]>&\U0001f600"),
    "unanswered": Prediction(id="unanswered", error="timed out"),
}


def score(name: str, *errors: ScoreError) -> Score:
    return Score(
        id=name,
        category="irrelevance",
        behaviour="no_call",
        tools=(),
        correct=not errors,
        primary_error=errors[0].code if errors else None,
        errors=errors,
        parsed=True,
        schema_valid=True,
        names_correct=True,
    )


SCORES = [
    score("right"),
    score(
        "wrong",
        ScoreError(code="unexpected_call", path="dim", detail="no call was expected"),
        ScoreError(code="wrong_type", path="dim.level", detail="a string"),
    ),
]


def report(gate: GateVerdict | None = None) -> Report:
    made = summarise(SCORES, PREDICTIONS.values(), unscored_ids=["unanswered"], cases_sha256="x")
    return made.model_copy(update={"gate": gate})


def test_every_case_is_a_test_case_and_the_counts_are_theirs() -> None:
    root = ElementTree.fromstring(render_junit(report(), SCORES, PREDICTIONS, CASES))
    (suite,) = root
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "time")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "time": "0.250",
    }
    right, wrong, unanswered = suite
    assert [case.get("name") for case in suite] == ["right", "wrong", "unanswered"]
    assert right.get("classname") == "eval.irrelevance" and right.get("time") == "0.250" and len(right) == 0
    assert unanswered[0].tag == "error" and unanswered[0].get("message") == "timed out"
    assert wrong[0].tag == "failure" and wrong[0].get("type") == "unexpected_call"


def test_a_failure_holds_all_errors_and_the_answer_as_far_as_xml_can() -> None:
    root = ElementTree.fromstring(render_junit(report(), SCORES, PREDICTIONS, CASES))
    text = root[0][1][0].text
    assert text is not None
    assert "unexpected_call dim: no call was expected" in text and "wrong_type dim.level: a string" in text
    assert "<tool_call>\ufffd]]>&\U0001f600" in text


def test_the_rules_of_the_gate_are_test_cases_too() -> None:
    checks = (
        GateCheck(rule="min_accuracy", passed=True, detail="fine"),
        GateCheck(rule="max_drop", passed=False, detail="dropped"),
    )
    root = ElementTree.fromstring(
        render_junit(report(GateVerdict(passed=False, checks=checks)), SCORES, PREDICTIONS, CASES)
    )
    gate = root[1]
    assert (gate.get("name"), gate.get("tests"), gate.get("failures")) == ("gate", "2", "1")
    assert len(gate[0]) == 0 and gate[1][0].get("message") == "dropped"
