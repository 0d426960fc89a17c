from typing import Any

from fcdistill.evaluation.scoring import score_case
from fcdistill.records import EvalCase, Prediction, ToolSpec
from fcdistill.reporting.diffs import CallDiff, diff_calls

VALUE: dict[str, Any] = {"type": "string"}
SPECS = tuple(
    ToolSpec(
        name=name,
        parameters={"type": "object", "properties": {"a": VALUE, "b": VALUE, "c": {"type": "string", "default": "z"}}},
    )
    for name in ("f", "g")
)
Call = tuple[str, dict[str, Any]]


def diff(expected: list[list[Call]], got: list[Call], **fields: Any) -> tuple[CallDiff, ...]:
    answers = [[{"name": name, "arguments": arguments} for name, arguments in answer] for answer in expected]
    calls = [{"name": name, "arguments": arguments} for name, arguments in got]
    case = EvalCase.model_validate(
        {
            "id": "x",
            "messages": [{"role": "user", "content": "do it"}],
            "behaviour": "call" if answers[0] else "no_call",
            "expected": answers,
            "category": "simple",
        }
        | fields
    )
    prediction = Prediction.model_validate({"id": "x", "text": "t", "calls": calls})
    score = score_case(case, SPECS, prediction, default_equals_omitted=True)
    return diff_calls(case, prediction.calls, score)


def marks(calls: tuple[CallDiff, ...]) -> list[tuple[str | None, str | None, str, dict[str, str]]]:
    return [(call.expected, call.got, call.mark, {each.name: each.mark for each in call.arguments}) for call in calls]


def test_arguments_that_differ_are_marked() -> None:
    found = diff([[("f", {"a": "1", "b": "2"})]], [("f", {"a": "1", "b": "3", "d": "4"})])
    assert marks(found) == [("f", "f", "same", {"a": "same", "b": "differs", "d": "extra"})]
    assert [(each.expected, each.got) for each in found[0].arguments] == [('"1"', '"1"'), ('"2"', '"3"'), (None, '"4"')]
    assert marks(diff([[("f", {"a": "1"})]], [("f", {})])) == [("f", "f", "same", {"a": "missing"})]


def test_what_the_scorer_forgave_is_accepted() -> None:
    found = diff(
        [[("f", {"a": "One", "b": "2"})]],
        [("f", {"a": "one", "b": "3", "c": "z"})],
        comparators={"f.a": "casefold"},
    )
    assert marks(found) == [("f", "f", "same", {"a": "accepted", "b": "differs", "c": "accepted"})]
    assert found[0].arguments[0].rule == "casefold"


def test_ignored_arguments_are_accepted_beside_a_call_that_is_blamed() -> None:
    found = diff([[("f", {"a": "1", "b": "x"})]], [("f", {"a": "2"})], comparators={"f.b": "ignore"})
    assert marks(found) == [("f", "f", "same", {"a": "differs", "b": "accepted"})]


def test_calls_of_one_tool_are_paired_by_their_arguments() -> None:
    expected = [[("f", {"a": "1", "b": "1"}), ("f", {"a": "2", "b": "2"})]]
    found = diff(expected, [("f", {"a": "2", "b": "2"}), ("f", {"a": "1", "b": "9"})])
    assert marks(found) == [
        ("f", "f", "same", {"a": "same", "b": "differs"}),
        ("f", "f", "same", {"a": "same", "b": "same"}),
    ]


def test_another_tool_stands_in_place_of_the_expected_one() -> None:
    found = diff([[("f", {"a": "1"})]], [("g", {"a": "1"})])
    assert marks(found) == [("f", "g", "differs", {"a": "same"})]


def test_missing_and_surplus_calls_have_no_counterpart() -> None:
    assert marks(diff([[("f", {"a": "1"})]], [])) == [("f", None, "missing", {"a": "missing"})]
    assert marks(diff([[]], [("f", {"a": "1"})])) == [(None, "f", "extra", {"a": "extra"})]
    found = diff([[("f", {"a": "1"})]], [("f", {"a": "1"}), ("g", {})])
    assert marks(found) == [("f", "f", "same", {"a": "same"}), (None, "g", "extra", {})]


def test_the_closest_acceptable_answer_is_shown() -> None:
    found = diff([[("g", {"a": "1"})], [("f", {"a": "1", "b": "2"})]], [("f", {"a": "1", "b": "3"})])
    assert marks(found) == [("f", "f", "same", {"a": "same", "b": "differs"})]


def test_errors_against_one_answer_do_not_whitewash_another() -> None:
    answers: list[list[Call]] = [[("f", {"b": "2", "c": "9"})], [("f", {"a": "1"})]]
    assert marks(diff(answers, [("f", {"a": "2"})])) == [("f", "f", "same", {"a": "differs"})]
