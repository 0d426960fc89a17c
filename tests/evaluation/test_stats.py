import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from fcdistill.evaluation import stats
from fcdistill.evaluation.stats import clustered_interval, summarise, wilson_interval
from fcdistill.records import ModelRef, Prediction, Report, Score
from tests.evaluation.scores import repeated, score


def report_of(scores: list[Score], answers: list[Prediction] | None = None, unscored: tuple[str, ...] = ()) -> Report:
    predictions = {item.id: Prediction(id=item.id) for item in scores}
    predictions |= {item.id: item for item in answers or []}
    return summarise(scores, predictions.values(), unscored_ids=unscored, cases_sha256="0" * 64)


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

    reference = binomtest(successes, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((reference.low, reference.high), abs=1e-12)


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


def test_the_usual_quantile_is_scipys() -> None:
    assert stats._USUAL_QUANTILE == norm.isf((1 - 0.95) / 2)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError):
        wilson_interval(successes, n)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_of_single_answers_the_clustered_interval_is_wilsons(outcomes: list[bool]) -> None:
    shares = [float(outcome) for outcome in outcomes]
    assert clustered_interval(shares, len(shares)) == wilson_interval(sum(outcomes), len(outcomes))
    # Answers that only repeat one another tell no more.
    assert clustered_interval(shares, 5 * len(shares)) == wilson_interval(sum(outcomes), len(outcomes))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_the_clustered_interval_lies_between_those_of_cases_and_of_answers(right: list[int]) -> None:
    shares, mean = [each / 4 for each in right], sum(right) / (4 * len(right))
    low, high = clustered_interval(shares, 4 * len(right))
    widest, narrowest = wilson_interval(mean * len(right), len(right)), wilson_interval(sum(right), 4 * len(right))
    assert 0 <= low <= mean + 1e-12 and mean - 1e-12 <= high <= 1
    assert widest[0] - 1e-12 <= low <= narrowest[0] + 1e-12
    assert narrowest[1] - 1e-12 <= high <= widest[1] + 1e-12


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.1), (2.0, 2.0), (9.0, 1.0), (0.2, 0.2), (50.0, 50.0)])
def test_the_clustered_interval_covers_the_true_mean(a: float, b: float) -> None:
    """Cases whose chances of a right answer are beta-distributed, from nearly always alike to nearly independent."""
    generator, trials, num_cases, repeat = numpy.random.default_rng(5), 400, 60, 4
    covered = 0
    for _ in range(trials):
        shares = generator.binomial(repeat, generator.beta(a, b, num_cases)) / repeat
        low, high = clustered_interval(list(shares), num_cases * repeat)
        covered += low <= a / (a + b) <= high
    # Four standard errors below 95%.
    assert covered / trials >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / trials)


def test_repeated_cases() -> None:
    scores = [*repeated("a", "1111"), *repeated("b", "1101"), *repeated("c", "0100", tools=["x"])]
    answers = [Prediction(id=item.id, repetition=item.repetition, completion_tokens=5) for item in scores]
    report = summarise(scores, answers, repeat=4, unscored_ids=["d"], cases_sha256="0")
    assert (report.num_cases, report.repeat, report.num_unscored) == (4, 4, 1)
    rate = report.call_accuracy
    assert (rate.value, rate.successes, rate.n) == (8 / 12, 8, 12)
    assert (rate.low, rate.high) == clustered_interval([1, 3 / 4, 1 / 4], 12)
    assert report.by_tool["x"].n == 4
    assert report.errors == {"wrong_value": 1}  # of cases
    assert report.call_confusion.call_wanted_and_made == 3
    assert report.completion_tokens.n == 12
    found = report.repeats
    assert found is not None
    assert (found.num_always_right, found.num_sometimes_right, found.num_never_right) == (1, 2, 0)
    assert [each.value for each in found.pass_hat] == pytest.approx([8 / 12, 0.5, 1.25 / 3, 1 / 3])
    assert (found.pass_hat[0].low, found.pass_hat[0].high) == pytest.approx((rate.low, rate.high))
    assert found.consistency.value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_reports_of_single_answers_say_nothing_of_repeats() -> None:
    report = report_of([score("a")])
    assert report.repeats is None and not {"repeat", "repeats"} & report.model_dump(mode="json").keys()
    assert summarise([], [], repeat=3, unscored_ids=["a"], cases_sha256="0").repeats is None


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
        [], [], model=model, cases_sha256="1", tools_sha256="2", decode_sha256="3", default_equals_omitted=True
    )
    assert (report.model, report.cases_sha256, report.tools_sha256, report.decode_sha256) == (model, "1", "2", "3")
    assert report.default_equals_omitted
    assert report.scorer_version >= 1


def test_answers_are_counted_by_the_format_of_their_calls_and_thoughts_apart() -> None:
    scores = [score(f"case-{number}") for number in range(4)]
    found = (("hermes",), ("json", "hermes"), ("unknown",), ())
    answers = [
        Prediction(id=each.id, dialects=dialects, completion_tokens=9, thought_tokens=number)
        for number, (each, dialects) in enumerate(zip(scores, found, strict=True))
    ]
    report = summarise(scores, answers, cases_sha256="0" * 64, dialect="hermes")
    assert report.dialects == {"hermes": 2, "json": 1, "unknown": 1}
    assert (report.dialect, report.num_other_dialect, report.num_unknown_dialect) == ("hermes", 2, 1)
    assert (report.thought_tokens.n, report.thought_tokens.mean) == (4, 1.5)
    assert summarise(scores, answers, cases_sha256="0" * 64).num_other_dialect is None
