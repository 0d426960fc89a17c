import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.evaluation.stats import summarise, wilson_interval
from fcdistill.records import ModelRef, Prediction, Report, Score


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


def report_of(scores: list[Score], answers: list[Prediction] | None = None, unscored: tuple[str, ...] = ()) -> Report:
    predictions = {item.id: Prediction(id=item.id) for item in scores}
    predictions |= {item.id: item for item in answers or []}
    return summarise(scores, predictions, unscored_ids=unscored, cases_sha256="0" * 64)


@settings(deadline=None)
@given(st.integers(1, 500), st.data())
def test_the_interval_solves_wilsons_equation(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = wilson_interval(successes, n)
    share, z = successes / n, 1.959963984540054
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        # Each bound p is a root of (share - p)^2 = z^2 p (1 - p) / n.
        assert math.isclose((share - bound) ** 2, z * z * bound * (1 - bound) / n, rel_tol=1e-6, abs_tol=1e-12)


def test_known_intervals() -> None:
    # Newcombe 1998, table I, method 3 (Wilson): 81/263, 15/148, 0/20, 1/29.
    for (successes, n), (low, high) in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(5, 10, 0.5)[0] > wilson_interval(5, 10, 0.95)[0]


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError):
        wilson_interval(successes, n)


def test_rates_are_over_all_scored_cases() -> None:
    scores = [
        score("a"),
        score("b", correct=False, schema_valid=False, primary_error="enum_violation"),
        score("c", correct=False, parsed=False, schema_valid=False, names_correct=False, primary_error="parse_error"),
        score("d", category="irrelevance", behaviour="no_call", tools=[], called=False),
    ]
    report = report_of(scores, unscored=("e",))
    assert (report.num_cases, report.num_unscored, report.unscored_ids) == (5, 1, ("e",))
    found = {name: (rate.successes, rate.n) for name, rate in report if hasattr(rate, "successes")}
    assert found == {
        "call_accuracy": (2, 4),
        "parse_rate": (3, 4),
        "schema_valid_rate": (2, 4),
        "name_accuracy": (3, 4),
    }
    assert report.call_accuracy.value == 0.5
    assert (report.call_accuracy.low, report.call_accuracy.high) == wilson_interval(2, 4)
    assert report.errors == {"parse_error": 1, "enum_violation": 1}
    assert {name: (rate.successes, rate.n) for name, rate in report.by_category.items()} == {
        "irrelevance": (1, 1),
        "simple": (1, 3),
    }


def test_a_case_counts_for_each_of_its_tools() -> None:
    scores = [score("a", tools=["x", "y"]), score("b", tools=["y"], correct=False)]
    assert {name: (rate.successes, rate.n) for name, rate in report_of(scores).by_tool.items()} == {
        "x": (1, 1),
        "y": (1, 2),
    }


def test_arguments() -> None:
    scores = [
        score("a", arguments_matched=2, arguments_predicted=4, arguments_expected=2),
        score("b", arguments_matched=1, arguments_predicted=1, arguments_expected=3),
    ]
    report = report_of(scores)
    assert report.argument_precision == pytest.approx(3 / 5)
    assert report.argument_recall == pytest.approx(3 / 5)
    assert report.argument_f1 == pytest.approx(3 / 5)
    silent = report_of([score("a", arguments_expected=2)])
    assert (silent.argument_precision, silent.argument_recall, silent.argument_f1) == (None, 0.0, 0.0)


def test_call_confusion() -> None:
    pairs = [("call", True)] * 4 + [("call", False)] * 3 + [("no_call", True)] * 2 + [("clarify", False)]
    scores = [score(str(i), behaviour=behaviour, called=called) for i, (behaviour, called) in enumerate(pairs)]
    cells = report_of(scores).call_confusion
    assert (cells.call_wanted_and_made, cells.call_wanted_not_made) == (4, 3)
    assert (cells.no_call_wanted_but_made, cells.no_call_wanted_none_made) == (2, 1)


def test_quantiles_are_over_the_cases_that_have_the_quantity() -> None:
    answers = [Prediction(id=str(i), latency_s=i / 10, prompt_tokens=100 + i) for i in range(11)]
    report = report_of([score(str(i)) for i in range(12)], answers)
    assert report.latency_s.n == 11
    assert report.latency_s.mean == pytest.approx(0.5)
    assert report.latency_s.p50 == pytest.approx(0.5)
    assert report.latency_s.p95 == pytest.approx(0.95)
    assert report.prompt_tokens.p50 == 105
    assert (report.completion_tokens.n, report.completion_tokens.mean) == (0, None)


def test_nothing_scored_is_no_accuracy_of_zero() -> None:
    report = report_of([], unscored=("a", "b"))
    assert (report.num_cases, report.num_unscored) == (2, 2)
    assert report.call_accuracy.model_dump() == {"value": None, "successes": 0, "n": 0, "low": None, "high": None}
    assert report.argument_f1 is None
    assert report.latency_s.p50 is None
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_provenance_arrives() -> None:
    model = ModelRef(model="m", revision="r")
    report = summarise(
        [], {}, model=model, cases_sha256="1", tools_sha256="2", decode_sha256="3", default_equals_omitted=True
    )
    assert (report.model, report.cases_sha256, report.tools_sha256, report.decode_sha256) == (model, "1", "2", "3")
    assert report.default_equals_omitted
    assert report.scorer_version >= 1
