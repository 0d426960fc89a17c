"""The planted regression, in small and in this process."""

import random
import sys
from pathlib import Path

import planted_regression
import pytest

from fcdistill.evaluation.predictions import prediction_from_text
from fcdistill.evaluation.scoring import Scorer
from fcdistill.evaluation.suites import read_suite
from fcdistill.storage import read_json
from tests.cli.projects import invoke
from tests.paths import ROOT

CASES, TOOLS = ROOT / "evals/smart_home/cases.jsonl", ROOT / "schemas/smart_home.json"


def test_whole_answers_score_right_and_broken_ones_wrong() -> None:
    suite = read_suite(CASES, TOOLS)
    scorer = Scorer(suite.specs[suite.cases[0].id])
    rng = random.Random(0)
    errors = set()
    for case in suite.cases:
        for is_right in (True, False):
            text = planted_regression.answer(case, is_right, rng)
            score = scorer.score(case, prediction_from_text(case.id, text))
            assert score.correct is is_right, (case.id, text)
            errors.add(score.primary_error)
    assert len(errors) >= 6


def test_the_gate_says_what_was_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planted_regression, "run_cli", lambda arguments: invoke(*arguments))
    files = ["--cases", str(CASES), "--tools", str(TOOLS), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["planted_regression", "--seeds", "1", *files])
    assert planted_regression.main() == 0
    assert "5 verdicts on 272 cases, 0 of them not as planted." in capsys.readouterr().out
    rows = read_json(tmp_path / "summary.json")
    assert [row["exit_code"] for row in rows] == [0, 0, 1, 1, 1]
    assert [row["broken"] for row in rows] == [[], [], ["max_drop"], ["max_drop"], ["critical"]]
