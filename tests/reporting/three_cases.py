"""A right, a wrong and an unanswered case, with their report."""

from fcdistill.evaluation.stats import summarise
from fcdistill.records import EvalCase, GateVerdict, Prediction, Report, Score, ScoreError

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
