from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError
from fcdistill.evaluation.saved_runs import describe_differences, read_run, require_comparable
from fcdistill.evaluation.scoring import SCORER_VERSION
from fcdistill.storage import write_jsonl
from tests.evaluation.saved_run import write_run
from tests.evaluation.scores import score


def test_a_run_is_read_by_its_directory_or_its_report(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", [True, False]))
    assert run == read_run(tmp_path / "a/report.json")
    assert run.path == tmp_path / "a" and run.report.call_accuracy.successes == 1
    assert [(item.id, item.correct) for item in run.scores] == [("c0", True), ("c1", False)]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "report.json").unlink(), "report.json does not exist"),
        (lambda run: (run / "scores.jsonl").unlink(), "scores.jsonl does not exist"),
        (lambda run: (run / "report.json").write_text("{}"), "num_cases: required and not given"),
        (lambda run: (run / "scores.jsonl").write_text("{}\n"), "scores.jsonl, line 1"),
        (lambda run: write_jsonl(run / "scores.jsonl", [score("c0")] * 2), "of 1 of 2 answers right, .* of 2 of 2"),
        (lambda run: write_jsonl(run / "scores.jsonl", [score("c0")]), "of 1 of 2 answers right, .* of 1 of 1"),
        (lambda run: write_run(run, [True], unscored_ids=["c1"]), r"1 of 2 cases are unscored \(c1\)"),
    ],
)
def test_what_is_no_complete_run_is_refused(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    write_run(tmp_path, [True, False])
    spoil(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read_run(tmp_path)
    assert caught.value.required and caught.value.fix


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases_sha256": "e" * 64}, f"cases_sha256 {'c' * 64} there, {'e' * 64} here"),
        ({"scorer_version": 99}, f"scorer_version {SCORER_VERSION} there, 99 here"),
        ({"default_equals_omitted": True}, "default_equals_omitted False there, True here"),
    ],
)
def test_runs_of_other_cases_or_rules_are_not_compared(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    first, same = (read_run(write_run(tmp_path / name, [True])) for name in "ab")
    other = read_run(write_run(tmp_path / "other", [True], **changes))
    require_comparable([first, same])
    with pytest.raises(DataError) as caught:
        require_comparable([first, same, other])
    assert message in caught.value.found and f"{other.path} can't be compared with {first.path}" in caught.value.found


def test_other_tools_prompts_and_decode_settings_are_noted(tmp_path: Path) -> None:
    first = read_run(write_run(tmp_path / "a", [True], decode_sha256="1" * 64, tools_in_prompt="none"))
    saved = read_run(write_run(tmp_path / "b", [True]))
    other = read_run(
        write_run(tmp_path / "c", [True], tools_sha256="2" * 64, decode_sha256="3" * 64, tools_in_prompt="full")
    )
    require_comparable([first, saved, other])
    assert describe_differences([first, saved]) == []
    repeated = read_run(write_run(tmp_path / "d", [True], repeat=3))
    assert describe_differences([first, repeated]) == [
        f"{repeated.path} and {first.path} differ in their number of answers to each case"
    ]
    assert describe_differences([first, saved, other]) == [
        f"{other.path} and {first.path} differ in their tool catalogue",
        f"{other.path} and {first.path} differ in their tools_in_prompt",
        f"{other.path} and {first.path} differ in their decode settings",
    ]
