import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema

from fcdistill.evaluation.stats import summarise
from fcdistill.records import GateCheck, GateVerdict
from fcdistill.reporting.junit import render_junit
from tests.reporting.three_cases import CASES, PREDICTIONS, SCORES, report

SCHEMAS = [Path(__file__).with_name(f"junit_{name}.xsd") for name in ("ant", "jenkins")]
FINISHED_AT = datetime(2026, 5, 3, 18, 30, 1, 250_000, tzinfo=UTC)


def rendered(gate: GateVerdict | None = None) -> str:
    return render_junit(report(gate), SCORES, PREDICTIONS, CASES, finished_at=FINISHED_AT)


def test_every_case_is_a_test_case_and_the_counts_are_theirs() -> None:
    root = ElementTree.fromstring(rendered())
    (suite,) = root
    assert (suite.get("timestamp"), suite.get("hostname")) == ("2026-05-03T18:30:01", "localhost")
    figures = {each.get("name"): each.get("value") for each in suite.iter("property")}
    assert figures == {"call_accuracy": "0.5000", "cases_sha256": "x"}
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "time")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "time": "0.250",
    }
    right, wrong, unanswered = suite.findall("testcase")
    assert [case.get("name") for case in (right, wrong, unanswered)] == ["right", "wrong", "unanswered"]
    assert right.get("classname") == "eval.irrelevance" and right.get("time") == "0.250" and len(right) == 0
    assert unanswered[0].tag == "error" and unanswered[0].get("message") == "timed out"
    assert wrong[0].tag == "failure" and wrong[0].get("type") == "unexpected_call"


def test_a_failure_holds_all_errors_and_the_answer_as_far_as_xml_can() -> None:
    root = ElementTree.fromstring(rendered())
    text = root.findtext("testsuite/testcase/failure")
    assert text is not None
    assert "unexpected_call dim: no call was expected" in text and "wrong_type dim.level: a string" in text
    assert "<tool_call>\ufffd]]>&\U0001f600" in text


def test_the_rules_of_the_gate_are_test_cases_too() -> None:
    checks = (
        GateCheck(rule="min_accuracy", passed=True, detail="fine"),
        GateCheck(rule="max_drop", passed=False, detail="dropped"),
    )
    root = ElementTree.fromstring(rendered(GateVerdict(passed=False, checks=checks)))
    gate = root[1]
    assert (gate.get("name"), gate.get("tests"), gate.get("failures")) == ("gate", "2", "1")
    passed, failed = gate.findall("testcase")
    assert len(passed) == 0 and failed[0].get("message") == "dropped"


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.stem)
@pytest.mark.parametrize("gated", [False, True])
def test_the_schemas_of_ci_servers_accept_the_file(schema: Path, gated: bool) -> None:
    checks = (GateCheck(rule="max_drop", passed=False, detail="dropped"),)
    xmlschema.validate(rendered(GateVerdict(passed=False, checks=checks) if gated else None), schema)


def test_an_evaluation_without_an_answer_satisfies_them_too() -> None:
    made = summarise([], {}, unscored_ids=[case.id for case in CASES], cases_sha256="x")
    text = render_junit(made, [], {}, CASES, finished_at=FINISHED_AT)
    for schema in SCHEMAS:
        xmlschema.validate(text, schema)


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (r' timestamp="[^"]*"', ""),
        (r' hostname="[^"]*"', ""),
        (r' time="0.250"', ' time="soon"'),
        (r"<system-out />", ""),
        (r"<testsuites>", '<testsuites name="eval">'),
        (r'<failure type="\w+"', "<failure"),
    ],
)
def test_the_strict_schema_tells_what_would_be_missing(pattern: str, instead: str) -> None:
    broken, count = re.subn(pattern, instead, rendered())
    assert count
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        xmlschema.validate(broken, SCHEMAS[0])
