"""Tests of `evals/speed/score.py`: the workload is what it says, and a small measurement runs."""

import json
import random

import pytest
import score

from fcdistill.evaluation.predictions import prediction_from_text
from fcdistill.evaluation.scoring import Scorer
from fcdistill.records import EvalCase
from fcdistill.storage import read_jsonl
from fcdistill.tools.catalog import read_catalog
from tests.paths import ROOT

CASES = read_jsonl(ROOT / "evals" / "smart_home" / "cases.jsonl", EvalCase)


def test_the_workload_is_half_right_and_says_other_words_each_time() -> None:
    cases = score.tiled(CASES, 2 * len(CASES))
    assert len({case.id for case in cases}) == len(cases)
    wordy = [case.expected for case in cases if case.id.startswith("sh-simple-075-")]
    assert len(wordy) == 2 and wordy[0] != wordy[1]
    answers = score.predictions_of(cases, random.Random(0))
    assert answers == score.predictions_of(cases, random.Random(0)) != score.predictions_of(cases, random.Random(1))
    assert all(prediction_from_text(each.id, each.text).calls == each.calls for each in answers)
    scorer = Scorer(read_catalog(ROOT / "schemas" / "smart_home.json").specs)
    verdicts = [scorer.score(case, each) for case, each in zip(cases, answers, strict=True)]
    calling = [verdict for verdict in verdicts if verdict.behaviour == "call"]
    assert 0.4 < sum(verdict.correct for verdict in calling) / len(calling) < 0.6
    assert {error.code for verdict in calling for error in verdict.errors} >= {"missing_required", "extra_arg"}
    assert all(verdict.correct for verdict in verdicts if verdict.behaviour != "call")


def test_figures_are_medians_over_the_rounds() -> None:
    rounds = [{"s": seconds, "cpu_s": 0.5} for seconds in (4.0, 1.0, 2.0)]
    assert score.figures(rounds, 100) == {
        "cases_per_s": 50,
        "cases_per_s_range": [25, 100],
        "cases_per_cpu_s": 200,
        "cases_per_cpu_s_range": [200, 200],
    }


def test_a_small_measurement_ends_with_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert score.main(["--num-cases", "30", "--rounds", "1", "--json", "--categories"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["num_cases"], report["rounds"], report["seed"]) == (30, 1, 0)
    assert report["command"]["cases_per_s"] > 0 and report["scoring"]["cases_per_cpu_s"] > 0
    assert report["bfcl"] == {"status": "left out"}
