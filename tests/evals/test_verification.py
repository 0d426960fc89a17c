"""The study of witnesses, on the worked examples of a domain and without a model."""

import sys
from pathlib import Path

import pytest
import verification

from fcdistill.errors import DataError
from fcdistill.evidence.judge_run import Judging
from fcdistill.generation.verification.planted_errors import KINDS
from fcdistill.records import Counted, JudgeStats, WitnessRates
from fcdistill.storage import read_json
from tests.generation.home import EXAMPLES, TOOLS, VALUES


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["verification.py", *arguments])
    return verification.main()


def test_words_and_policies_are_measured_and_a_study_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(EXAMPLES), "--tools", str(TOOLS), "--values", str(VALUES), "--out", str(tmp_path), "--quick"]
    first = ""
    for _ in range(2):
        assert run(monkeypatch, *arguments) == 0
        printed = capsys.readouterr().out
        assert printed == (first or printed)
        first = printed
    rates = {each["name"]: each for each in read_json(tmp_path / "summary.json")["witnesses"]}
    assert list(rates) == ["words", "policy strict", "policy balanced", "policy trusting"]
    assert all(set(each["let_through"]) <= set(KINDS) for each in rates.values())
    # The team's own examples are right, and written so that words bear them out.
    assert rates["policy balanced"]["kept"]["num"] == rates["policy balanced"]["kept"]["of"] > 20
    let = {name: sum(part["num"] for part in each["let_through"].values()) for name, each in rates.items()}
    assert let["policy strict"] < let["policy balanced"] < let["policy trusting"]
    assert "| policy strict | 100.0% |" in first and "right answers" in first


def test_rows_of_all_three_forms_become_conversations() -> None:
    call = {"name": "f", "arguments": {"a": 1}}
    answer = verification.calling([call])
    user = {"role": "user", "content": "hi"}
    for row in (
        {"request": "hi", "calls": [call]},
        {"messages": [user], "expected": [[call]]},
        {"messages": [user, answer]},
    ):
        assert verification.is_answered(row) and verification.conversation_of(row) == [user, answer]
    assert not verification.is_answered({"request": "hi", "calls": []})
    assert not verification.is_answered({"messages": [user], "expected": [[]]})


def test_a_file_without_calls_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"request": "hi", "calls": [], "text": "no"}\n')
    with pytest.raises(DataError, match="no row with a call"):
        run(monkeypatch, str(rows), "--tools", str(TOOLS), "--out", str(tmp_path / "out"))


def test_with_a_model_the_table_is_that_of_the_judging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = WitnessRates(
        name="model, 97% kept",
        speaks=Counted(num=4, of=4),
        kept=Counted(num=3, of=4),
        let_through={"number": Counted(num=1, of=8)},
    )
    stats = JudgeStats(
        candidates=4, kept=3, readmitted=2, relabelled=1, withdrawn=1, prior_error_rate=0.05, precision=0.97,
        estimated_precision=0.991, threshold=0.5, weights={}, witnesses=(rates,),
    )  # fmt: skip
    judged: list[Judging] = []

    def judge(directory: Path, out: Path, judging: Judging, **_: object) -> JudgeStats:
        assert (directory / "traces.jsonl").exists() and out == tmp_path / "judged"
        judged.append(judging)
        return stats

    monkeypatch.setattr(verification, "judge_traces", judge)
    arguments = ["--tools", str(TOOLS), "--out", str(tmp_path), "--quick", "--model", "m", "--seed", "3"]
    assert run(monkeypatch, str(EXAMPLES), *arguments) == 0
    assert judged == [Judging("m", epochs=0.03, seed=3)]
    printed = capsys.readouterr().out
    assert "| model, 97% kept | 100.0% | 75.0% (30.1%–95.4%) | 12.5% (2.2%–47.1%) | 12.5% |" in printed
    assert "2 of them readmitted, 1 relabelled, 1 withdrawn; estimated precision 99.1%" in printed
