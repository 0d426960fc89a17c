"""Scored cases, their report and how a terminal shows it, as the tests of reports share them."""

import io

from rich.console import Console

from fcdistill.evaluation.stats import summarise
from fcdistill.records import EvalCase, ModelRef, Prediction, Report, Score


def score(name: str, *, correct: bool = True, **fields: object) -> Score:
    wrong = [{"code": "wrong_value", "path": "set_light.room", "detail": 'expected "office", got "kitchen"'}]
    values: dict[str, object] = {
        "id": name,
        "category": "simple",
        "behaviour": "call",
        "tools": ["set_light"],
        "correct": correct,
        "primary_error": None if correct else "wrong_value",
        "errors": [] if correct else wrong,
        "parsed": True,
        "schema_valid": True,
        "names_correct": True,
        "called": True,
    }
    return Score.model_validate(values | fields)


def case(name: str, request: str = "the office light") -> EvalCase:
    return EvalCase.model_validate(
        {
            "id": name,
            "messages": [{"role": "user", "content": request}],
            "behaviour": "call",
            "expected": [[{"name": "set_light", "arguments": {"room": "office"}}]],
            "category": "simple",
        }
    )


def report_of(scores: list[Score], unscored: tuple[str, ...] = (), latency_s: float | None = 0.1234) -> Report:
    answers = [Prediction(id=item.id, latency_s=latency_s, prompt_tokens=21) for item in scores]
    return summarise(scores, answers, unscored_ids=unscored, model=ModelRef(model="tiny|model"), cases_sha256="c" * 64)


def printed(renderable: object, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">\''
