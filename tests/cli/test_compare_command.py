import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fcdistill.records import PairedComparison, Report
from tests.cli.projects import Ended, files_below, run_cli
from tests.evaluation.saved_run import write_run

Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `compare` where three evaluations on ten cases lie: 4 right, 8 right (one regression), and 4 right again."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("base"), [True] * 4 + [False] * 6)
    write_run(Path("student"), [False] + [True] * 8 + [False])
    write_run(Path("same"), [True] * 4 + [False] * 6)
    return lambda *arguments: run_cli(capsys, "compare", *arguments)


def cells(text: str, label: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if line.strip().startswith(label)]


def test_each_run_stands_beside_and_against_the_first(run: Run) -> None:
    ended = run("base", "student", "same/report.json")
    assert ended.code == 0 and not ended.err, ended
    assert [row[:2] for row in cells(ended.out, "base")] == [["base", "40.0%"]]
    beside, against = cells(ended.out, "student")
    assert beside[:2] == ["student", "80.0%"]
    assert [against[1], *against[3:]] == ["+40.0", "1", "5", "0.219"]  # 2 * (1 + 6) / 64
    assert "Against base, in percentage points" in ended.out
    assert cells(ended.out, "same")[1] == ["same", "+0.0", "+0.0 to +0.0", "0", "0", "1.000"]


def test_the_document_holds_reports_comparisons_and_the_changed_cases(run: Run) -> None:
    ended = run("base", "student", "same", "--json")
    document = json.loads(ended.out)
    assert ended.code == 0 and document["baseline"] == "base"
    assert [each["run"] for each in document["runs"]] == ["base", "student", "same"]
    assert [Report.model_validate(each["report"]).call_accuracy.successes for each in document["runs"]] == [4, 8, 4]
    student, same = document["comparisons"]
    assert (student.pop("run"), same["run"]) == ("student", "same")
    assert student.pop("regressed_ids") == ["c0"] and student.pop("fixed_ids") == ["c4", "c5", "c6", "c7", "c8"]
    comparison = PairedComparison.model_validate(student)
    assert (comparison.num_pairs, comparison.both_right, comparison.difference) == (10, 3, 0.4)


def test_what_may_differ_is_noted_beside_the_document(run: Run) -> None:
    write_run(Path("renamed"), [True] * 10, tools_sha256="e" * 64)
    ended = run("base", "renamed", "--json")
    assert ended.code == 0 and json.loads(ended.out)["comparisons"][0]["difference"] == 0.6
    assert ended.err == "fcdistill: note: renamed and base differ in their tool catalogue\n"


def test_misuse_is_explained_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    write_run(Path("other"), [True] * 10, cases_sha256="e" * 64)
    write_run(Path("open"), [True] * 9, unscored_ids=["c9"])
    before = files_below(tmp_path)
    for arguments, message in (
        (["base"], "one run is given, base"),
        (["base", "student", "./base/report.json"], "the run base is given twice"),
        (["base", "missing"], "missing does not exist"),
        (["base", "other"], "other can't be compared with base: cases_sha256"),
        (["open", "base"], "1 of 10 cases are unscored (c9)"),
    ):
        ended = run(*arguments)
        assert ended.code == 2 and not ended.out and message in ended.err, ended
        assert "\nRequired: " in ended.err and "\nFix: " in ended.err and "Traceback" not in ended.err, ended
    assert run().code == 2
    assert files_below(tmp_path) == before
