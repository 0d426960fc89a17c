from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from fcdistill.reporting.report_files import write_reports
from tests.reporting.three_cases import CASES, PREDICTIONS, SCORES, report


def test_all_files_tell_of_the_same_run(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    paths = write_reports(tmp_path / "a run", report(), SCORES, PREDICTIONS, CASES)
    assert [path.name for path in paths] == ["report.md", "report.html", "junit.xml"]
    assert sorted(paths) == sorted((tmp_path / "a run").iterdir())
    markdown, html, junit = (path.read_text(encoding="utf-8") for path in paths)
    assert "50.0%" in markdown and "50.0%" in html and "<h1>a run</h1>" in html
    (suite,) = ElementTree.fromstring(junit)
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    written_at = datetime.fromisoformat(suite.get("timestamp", ""))
    assert before <= written_at <= datetime.now(UTC).replace(tzinfo=None)
