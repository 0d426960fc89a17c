"""An evaluation as JUnit XML, which CI servers show case by case.

One test case per eval case: a wrong one is a failure, one without an answer an error. The gate's rules are test
cases of a suite of their own, so that what turns a build red is named there too. The file satisfies both schemas in
use, that of Ant's tasks (which asks for a package, a time and a host, and for empty elements) and that of Jenkins.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.etree import ElementTree

from fcdistill.records import EvalCase, Prediction, Report, Score
from fcdistill.reporting.wording import describe_error

__all__ = ["render_junit"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 can't hold, not even escaped."""
_HOST = "localhost"
"""The schema's word for a host that is not named: reports are passed on, and no reader needs the name."""


def render_junit(
    report: Report,
    scores: Sequence[Score],
    predictions: Mapping[str, Prediction],
    cases: Sequence[EvalCase],
    *,
    finished_at: datetime,
) -> str:
    """The report as JUnit XML.

    Args:
        report: the figures, and the gate's verdict where there is one.
        scores: the verdicts, one per scored case.
        predictions: the answers that these speak of by case id, for what was said and how long it took.
        cases: all cases of the run, in their order.
        finished_at: when the run ended; the file holds it without a time zone, as its schema has it.
    """
    by_id = {score.id: score for score in scores}
    root = ElementTree.Element("testsuites")
    accuracy = report.call_accuracy.value
    properties = {
        "model": "" if report.model is None else f"{report.model.model} {report.model.revision}".strip(),
        "call_accuracy": "" if accuracy is None else f"{accuracy:.4f}",
        "cases_sha256": report.cases_sha256,
    }
    suite = _open_suite(root, "cases", finished_at, {name: value for name, value in properties.items() if value})
    seconds = 0.0
    for case in cases:
        given = predictions.get(case.id)
        latency = (given.latency_s or 0.0) if given is not None else 0.0
        seconds += latency
        found = _test_case(suite, f"eval.{case.category}", case.id, latency)
        score = by_id.get(case.id)
        if score is None:
            reason = given.error if given is not None and given.error else "there is no prediction"
            ElementTree.SubElement(found, "error", type="unscored", message=_text(reason))
        elif not score.correct:
            details = [describe_error(error) for error in score.errors]
            failure = ElementTree.SubElement(found, "failure", type=str(score.primary_error), message=_text(details[0]))
            said = given.text if given is not None else ""
            failure.text = _text("\n".join([*details, "", "The answer:", said]))
    _close_suite(suite, seconds)
    if report.gate is not None:
        gate = _open_suite(root, "gate", finished_at, {})
        for check in report.gate.checks:
            found = _test_case(gate, "eval.gate", check.rule, 0.0)
            if not check.passed:
                ElementTree.SubElement(found, "failure", type=check.rule, message=_text(check.detail))
        _close_suite(gate, 0.0)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _open_suite(
    root: ElementTree.Element, name: str, finished_at: datetime, properties: Mapping[str, str]
) -> ElementTree.Element:
    moment = finished_at.strftime("%Y-%m-%dT%H:%M:%S")
    suite = ElementTree.SubElement(
        root, "testsuite", name=name, package="fcdistill", id=str(len(root)), timestamp=moment, hostname=_HOST
    )
    listed = ElementTree.SubElement(suite, "properties")
    for key, value in properties.items():
        ElementTree.SubElement(listed, "property", name=key, value=_text(value))
    return suite


def _close_suite(suite: ElementTree.Element, seconds: float) -> None:
    """Count the test cases, and end with what the schema asks for after them."""
    for name, found in (("tests", "testcase"), ("failures", "testcase/failure"), ("errors", "testcase/error")):
        suite.set(name, str(len(suite.findall(found))))
    suite.set("skipped", "0")
    suite.set("time", f"{seconds:.3f}")
    for name in ("system-out", "system-err"):
        ElementTree.SubElement(suite, name)


def _test_case(suite: ElementTree.Element, classname: str, name: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=_text(name), time=f"{seconds:.3f}")


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
