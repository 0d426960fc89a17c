"""An evaluation as JUnit XML, which CI servers show case by case.

One test case per eval case: a wrong one is a failure, one without an answer an error. The gate's rules are test
cases of a suite of their own, so that what turns a build red is named there too.
"""

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from fcdistill.records import EvalCase, Prediction, Report, Score

__all__ = ["render_junit"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 can't hold, not even escaped."""


def render_junit(
    report: Report, scores: Sequence[Score], predictions: Mapping[str, Prediction], cases: Sequence[EvalCase]
) -> str:
    """The report as JUnit XML.

    Args:
        report: the figures, and the gate's verdict where there is one.
        scores: the verdicts, one per scored case.
        predictions: the answers that these speak of by case id, for what was said and how long it took.
        cases: all cases of the run, in their order.
    """
    by_id = {score.id: score for score in scores}
    root = ElementTree.Element("testsuites", name="fcdistill eval")
    suite = ElementTree.SubElement(root, "testsuite", name="cases")
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
            details = [f"{error.code} {error.path}: {error.detail}" for error in score.errors]
            failure = ElementTree.SubElement(found, "failure", type=str(score.primary_error), message=_text(details[0]))
            said = given.text if given is not None else ""
            failure.text = _text("\n".join([*details, "", "The answer:", said]))
    _count(suite, report.num_cases, sum(not score.correct for score in scores))
    suite.set("errors", str(report.num_unscored))
    suite.set("time", f"{seconds:.3f}")
    if report.gate is not None:
        gate = ElementTree.SubElement(root, "testsuite", name="gate", time="0.000")
        for check in report.gate.checks:
            found = _test_case(gate, "eval.gate", check.rule, 0.0)
            if not check.passed:
                ElementTree.SubElement(found, "failure", type=check.rule, message=_text(check.detail))
        _count(gate, len(report.gate.checks), sum(not check.passed for check in report.gate.checks))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _test_case(suite: ElementTree.Element, classname: str, name: str, seconds: float) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=classname, name=_text(name), time=f"{seconds:.3f}")


def _count(suite: ElementTree.Element, tests: int, failures: int) -> None:
    suite.set("tests", str(tests))
    suite.set("failures", str(failures))
    suite.set("errors", "0")


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
