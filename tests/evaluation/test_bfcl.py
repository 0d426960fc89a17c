"""The leaderboard's cases become cases here: schemas, names, acceptable values."""

import importlib.util
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from fcdistill.config import EvalConfig, parse_config
from fcdistill.config.eval_section import EvalSuite
from fcdistill.errors import ConfigError, DataError, MissingDependencyError
from fcdistill.evaluation import bfcl, runner
from fcdistill.evaluation.bfcl import BFCL_CATEGORIES, BfclEntry, data_directory, json_schema, read_bfcl
from fcdistill.evaluation.bfcl_official import OfficialVerdict
from fcdistill.evaluation.scoring import score_case
from fcdistill.records import Prediction, Score, ToolCall
from fcdistill.reporting.tables import render_markdown
from tests.evaluation.bfcl_data import DIM, ROUTE, write_category


def answered(data: Path, category: str, *calls: tuple[str, dict[str, Any]]) -> Score:
    """The verdict on these calls for the first case of a category."""
    suite = read_bfcl(category, data).suite
    case = suite.cases[0]
    made = tuple(ToolCall(name=name, arguments=arguments) for name, arguments in calls)
    return score_case(case, suite.specs[case.id], Prediction(id=case.id, text="x", calls=made))


def test_the_dialect_becomes_json_schema() -> None:
    assert json_schema(ROUTE["parameters"]) == {  # type: ignore[arg-type]
        "type": "object",
        "properties": {
            "between": {"type": "array", "items": {"type": "number"}, "description": "Two places."},
            "options": {
                "type": "object",
                "properties": {"toll": {"type": "boolean"}, "via": {"type": "string"}},
                "description": "Wishes.",
            },
            "note": {"description": "Anything."},
        },
        "required": ["between"],
    }


def test_an_enum_beside_an_array_constrains_its_elements() -> None:
    schema = {"type": "array", "items": {"type": "string"}, "enum": ["a", "b"], "optional": True}
    assert json_schema(schema) == {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}


def test_undeclared_required_names_are_dropped_and_a_bare_dict_takes_any_property() -> None:
    assert json_schema({"type": "dict", "properties": {}, "required": ["ghost"]}) == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": True,
    }


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"room": "hall", "level": 0.5}, True),
        ({"room": "the hall", "level": 0.5, "mode": "fade"}, True),
        ({"room": "hall", "level": 0.5, "mode": "jump"}, False),
        ({"room": "attic", "level": 0.5}, False),
        ({"level": 0.5}, False),
    ],
)
def test_acceptable_values_and_what_may_be_left_out(tmp_path: Path, arguments: dict[str, Any], right: bool) -> None:
    answer = [{"lamp.dim": {"room": ["hall", "the hall"], "level": [0.5], "mode": ["fade", ""]}}]
    write_category(tmp_path, "simple_python", [("Dim the hall.", [DIM])], [answer])
    assert answered(tmp_path, "simple_python", ("lamp_dim", arguments)).correct is right
    assert read_bfcl("simple_python", tmp_path).suite.safe_names == {"lamp.dim": "lamp_dim"}


def test_an_argument_whose_schema_requires_it_is_never_left_out(tmp_path: Path) -> None:
    answer = [{"lamp.dim": {"room": ["hall", ""], "level": [0.5]}}]
    write_category(tmp_path, "simple_python", [("Dim.", [DIM])], [answer])
    assert answered(tmp_path, "simple_python", ("lamp_dim", {"level": 0.5})).primary_error == "missing_required"


@pytest.mark.parametrize(
    ("modes", "right"),
    [(("fade", "fade"), True), ((None, "fade"), True), (("fade", None), False), ((None, None), False)],
)
def test_of_parallel_calls_only_some_may_leave_an_argument_out(
    tmp_path: Path, modes: tuple[str | None, str | None], right: bool
) -> None:
    answer = [
        {"lamp.dim": {"room": ["hall"], "level": [1.0], "mode": ["fade", ""]}},
        {"lamp.dim": {"room": ["attic"], "level": [1.0], "mode": ["fade"]}},
    ]
    write_category(tmp_path, "parallel", [("Dim both.", [DIM])], [answer])
    calls = [
        ("lamp_dim", {"room": room, "level": 1, **({} if mode is None else {"mode": mode})})
        for room, mode in zip(("hall", "attic"), modes, strict=True)
    ]
    assert answered(tmp_path, "parallel", *calls).correct is right


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"toll": False, "via": "Ulm"}, True),
        ({"toll": False}, True),
        ({"toll": True}, False),
        ({"via": "Ulm"}, False),
    ],
)
def test_objects_below_an_argument_list_acceptable_values_too(
    tmp_path: Path, options: dict[str, Any], right: bool
) -> None:
    answer = [{"plan_route": {"between": [[1, 2.5]], "options": [{"toll": [False], "via": ["Ulm", ""]}]}}]
    write_category(tmp_path, "simple_python", [("Go.", [ROUTE])], [answer])
    score = answered(tmp_path, "simple_python", ("plan_route", {"between": [1.0, 2.5], "options": options}))
    assert score.correct is right


def test_a_case_that_no_answer_satisfies_is_set_aside_with_the_reason(tmp_path: Path) -> None:
    rows = [("Dim.", [DIM]), ("Dim.", [DIM]), ("Dim.", [DIM]), ("Dim.", [DIM])]
    answers: list[list[dict[str, Any]]] = [
        [{"lamp.dim": {"room": ["hall"], "level": [""]}}],
        [{"lamp.dim": {"room": ["hall"], "level": [1], "colour": ["red"]}}],
        [{"lamp.dim": {"room": ["hall"]}}],
        [{"lamp.dim": {"room": ["hall"], "level": [1]}}],
    ]
    write_category(tmp_path, "live_simple", rows, answers)
    found = read_bfcl("live_simple", tmp_path)
    assert [case.id for case in found.suite.cases] == ["live_simple_3"]
    assert found.unsatisfiable == {
        "live_simple_0": 'lamp_dim.level: no acceptable value ([""]) is a value for it',
        "live_simple_1": 'lamp_dim.colour: no acceptable value (["red"]) fits a function that has no such parameter',
        "live_simple_2": "lamp_dim.level is required and no value is acceptable",
    }


@pytest.mark.parametrize(
    ("level", "error"), [("full", None), (1, None), (None, "wrong_type"), ("half", "wrong_type"), (2, "wrong_value")]
)
def test_what_the_data_list_is_acceptable_though_it_breaks_the_schema(
    tmp_path: Path, level: object, error: str | None
) -> None:
    answer = [{"lamp.dim": {"room": ["hall"], "level": ["full", 1]}}]
    write_category(tmp_path, "simple_python", [("Dim.", [DIM])], [answer])
    assert answered(tmp_path, "simple_python", ("lamp_dim", {"room": "hall", "level": level})).primary_error == error


OWNED = {
    "name": "find",
    "description": "Finds.",
    "parameters": {
        "type": "dict",
        "properties": {
            "owner": {"type": "string", "description": "Whose.", "default": None},
            "size": {"type": "integer", "description": "How large; default null."},
            "place": {"type": "string", "description": "Where."},
        },
        "required": [],
    },
}


@pytest.mark.parametrize(
    ("owner", "size", "given", "right"),
    [
        ([""], [""], {"owner": None}, True),
        (["", "ann"], [""], {"owner": None}, True),
        (["ann"], [""], {"owner": None}, False),
        ([""], ["", None], {"size": None}, True),
        ([""], ["", 3, None], {"size": None}, True),
        ([""], ["", 3], {"size": None}, False),
        ([""], ["", None], {"size": "None"}, False),
        ([""], ["", None], {"place": None}, False),
        ([""], ["", None], {}, True),
    ],
)
def test_null_is_right_where_it_is_listed_or_the_default(
    tmp_path: Path, owner: list[Any], size: list[Any], given: dict[str, Any], right: bool
) -> None:
    answer = [{"find": {"owner": owner, "size": size, "place": [""]}}]
    write_category(tmp_path, "live_simple", [("Find.", [OWNED])], [answer])
    assert answered(tmp_path, "live_simple", ("find", given)).correct is right


def test_irrelevance_wants_no_call(tmp_path: Path) -> None:
    write_category(tmp_path, "irrelevance", [("Sing.", [DIM])])
    assert answered(tmp_path, "irrelevance").correct
    call = ("lamp_dim", {"room": "hall", "level": 1})
    assert answered(tmp_path, "irrelevance", call).primary_error == "unexpected_call"


def test_relevance_wants_calls_that_the_schemas_allow(tmp_path: Path) -> None:
    write_category(tmp_path, "live_relevance", [("Dim and go.", [DIM, ROUTE])])
    dim, route = ("lamp_dim", {"room": "x", "level": 0.1}), ("plan_route", {"between": [1, 2]})
    assert answered(tmp_path, "live_relevance", dim).correct
    assert answered(tmp_path, "live_relevance", route, dim).correct
    assert answered(tmp_path, "live_relevance").primary_error == "missing_call"
    assert answered(tmp_path, "live_relevance", ("lamp_dim", {"room": "x"})).primary_error == "missing_required"


def test_an_unknown_category_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no category 'multi_turn_base'"):
        read_bfcl("multi_turn_base", tmp_path)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    write_category(tmp_path, "live_simple", [("Sing.", [DIM])], [[]])
    with pytest.raises(DataError, match=r"holds no BFCL_v\*_irrelevance\.json"):
        read_bfcl("irrelevance", tmp_path)
    (tmp_path / "BFCL_v4_live_simple.json").write_text('{"id": "a"}\n')
    with pytest.raises(DataError, match=r"live_simple\.json: line 1 lacks one of id, question, function"):
        read_bfcl("live_simple", tmp_path)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install --no-deps bfcl-eval"):
        data_directory()


def test_the_config_names_exactly_the_categories() -> None:
    assert get_args(EvalSuite) == tuple(f"bfcl:{category}" for category in BFCL_CATEGORIES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of cases and suite"),
        ({"suite": "bfcl:simple_python", "cases": "c.jsonl"}, "exactly one of cases and suite"),
        ({"suite": "bfcl:simple_python", "tools": "t.json"}, "tools belongs to cases"),
        ({"suite": "bfcl:simple_python", "skip_invalid": True}, "skip_invalid belongs to cases"),
        ({"suite": "bfcl:multi_turn_base"}, "bfcl:live_relevance"),
    ],
)
def test_a_suite_excludes_cases_and_tools(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"predictions": "p.jsonl", "out": "out", **fields}, "eval", "the given options")


def test_a_run_reports_both_verdicts_and_why_they_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [{"lamp.dim": {"room": ["hall"], "level": [1.0]}}]
    unsatisfiable = [{"lamp.dim": {"room": ["hall"], "level": [""]}}]
    data = tmp_path / "data"
    write_category(data, "simple_python", [("Dim.", [DIM])] * 4, [answer, answer, answer, unsatisfiable])
    monkeypatch.setattr(bfcl, "data_directory", lambda: data)
    monkeypatch.setattr(runner, "load_ast_checker", lambda: None)
    monkeypatch.setattr(runner, "official_verdict", checker_that_ignores_case)
    said = [{"room": room, "level": 1} for room in ("hall", "Hall", "attic", "hall")]
    lines = [
        json.dumps({"id": f"simple_python_{index}", "tool_calls": [{"name": "lamp.dim", "arguments": arguments}]})
        for index, arguments in enumerate(said)
    ]
    (tmp_path / "answers.jsonl").write_text("\n".join(lines))
    found = runner.run_eval(
        EvalConfig(suite="bfcl:simple_python", predictions=tmp_path / "answers.jsonl", out=tmp_path / "out")
    )
    report = found.report
    assert (report.num_cases, report.call_accuracy.successes, report.num_unscored) == (3, 1, 0)
    assert report.official_accuracy is not None and report.official_accuracy.successes == 2
    assert [(each.id, each.correct, each.kind, each.detail) for each in report.official_disagreements] == [
        ("simple_python_1", False, "wrong_value", 'lamp_dim.room expected one of ["hall"], got "Hall"')
    ]
    assert list(report.set_aside) == ["simple_python_3"]
    markdown = render_markdown(report, found.scores, found.predictions, found.suite.cases)
    assert "| official checker | 66.7% |" in markdown
    assert "| wrong\\_value | wrong | right | 1 |" in markdown
    assert "| simple\\_python\\_1 | wrong | right |" in markdown
    assert "## Set aside: no answer could be right" in markdown


def checker_that_ignores_case(category: str, entry: BfclEntry, prediction: Prediction) -> OfficialVerdict:
    """Stands in for the official checker, which forgives case."""
    right = str(prediction.calls[0].arguments["room"]).lower() == "hall"
    return OfficialVerdict(right, "" if right else "value_error:string: another room")
