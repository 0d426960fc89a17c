"""Scores of cases, as the tests of evaluations and reports share them."""

from fcdistill.records import Score


def score(name: str, *, correct: bool = True, **fields: object) -> Score:
    values: dict[str, object] = {
        "id": name,
        "category": "simple",
        "behaviour": "call",
        "tools": ["set_light"],
        "correct": correct,
        "primary_error": None if correct else "wrong_value",
        "parsed": True,
        "schema_valid": True,
        "names_correct": True,
        "called": True,
    }
    return Score.model_validate(values | fields)


def repeated(name: str, outcomes: str, **fields: object) -> list[Score]:
    """Verdicts on a case's answers, 1 for a right one."""
    return [score(name, correct=outcome == "1", repetition=i, **fields) for i, outcome in enumerate(outcomes)]
