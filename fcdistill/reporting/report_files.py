"""The files of an evaluation that people and CI servers read, beside the records that the evaluation itself writes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fcdistill.machine.forked_work import beside
from fcdistill.records import EvalCase, Prediction, Report, Score
from fcdistill.reporting.html import render_html
from fcdistill.reporting.junit import render_junit
from fcdistill.reporting.tables import render_markdown
from fcdistill.storage import write_text

__all__ = ["write_reports"]

_SHOWN_FAILURES = 200


def write_reports(
    out: Path,
    report: Report,
    scores: Sequence[Score],
    predictions: Mapping[str, Prediction],
    cases: Sequence[EvalCase],
) -> tuple[Path, Path, Path]:
    """Write report.md, report.html and junit.xml; their paths, in this order.

    Args:
        out: the run's directory.
        report: the figures, and the gate's verdict where there is one.
        scores: the verdicts.
        predictions: the answers by case id.
        cases: all cases of the run, in their order.

    Raises:
        StorageError: the disk refused.
    """
    judged = (report, scores, predictions, cases)
    markdown, html, junit = out / "report.md", out / "report.html", out / "junit.xml"

    def write_html() -> None:
        write_text(html, render_html(*judged, title=out.resolve().name))

    with beside(write_html) as written:
        write_text(markdown, render_markdown(*judged, max_failures=_SHOWN_FAILURES))
        write_text(junit, render_junit(*judged, finished_at=datetime.now(UTC)))
        written()
    return markdown, html, junit
