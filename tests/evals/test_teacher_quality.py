"""The study of teachers on tiny models, in this process."""

import sys
from pathlib import Path

import pytest
import teacher_quality

from fcdistill.records import Trace
from fcdistill.storage import read_json, read_jsonl
from tests.cli.projects import invoke, local_student, write_project


def study(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    """Run the study in the working directory; the stages that ran."""
    ran: list[str] = []

    def run(stage: str, overrides: list[str]) -> int:
        ran.append(stage)
        return invoke(stage, "config.yaml", *(part for each in overrides for part in ("--set", each)))

    monkeypatch.setattr(teacher_quality, "run", run)
    monkeypatch.setattr(sys, "argv", ["teacher_quality", "--out", "study", *arguments])
    assert teacher_quality.main() == 0
    return ran


@pytest.mark.slow
def test_arms_are_paired_with_the_first(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, tiny_models)
    local_student(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(teacher_quality, "RAW", f"{tiny_models}/teacher")
    arms = ["sft", "kd_agree", "kd_hidden_adapted_agree"]
    arguments = ["--traces", "traces.jsonl", "--max-steps", "2", "--seeds", "0", "1", "--arms", *arms]
    assert study(monkeypatch, *arguments) == ["adapt", *["train", "eval"] * 6]
    summary = read_json(tmp_path / "study" / "summary.json")
    assert list(summary) == arms
    assert all(len(found["by_seed"]) == 2 for found in summary.values())
    assert summary["sft"]["difference"]["value"] == 0 and summary["sft"]["teacher_nll"] is None
    assert summary["kd_agree"]["teacher_nll"] != summary["kd_hidden_adapted_agree"]["teacher_nll"]
    assert "| sft, seed 1 |" in capsys.readouterr().out


def test_an_adapted_teacher_and_fields_of_its_students_are_taken(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path, tiny_models)
    local_student(tmp_path)
    monkeypatch.chdir(tmp_path)
    teacher = f"{tiny_models}/teacher"
    arguments = ["--traces", "traces.jsonl", "--max-steps", "1", "--seeds", "0", "--arms", "kd_hidden_adapted_agree"]
    arguments += ["--with-teacher", "objective.kd_weight=0.5", "objective.kd_temperature=2"]
    assert study(monkeypatch, *arguments, "--adapted-teacher", teacher) == ["train", "eval"]
    manifest = read_json(tmp_path / "study" / "kd_hidden_adapted_agree-0" / "manifest.json")
    assert manifest["config"]["teacher"] == teacher
    objective = manifest["config"]["objective"]
    assert (objective["kd_weight"], objective["kd_temperature"], objective["hidden_weight"]) == (0.5, 2, 1)


def test_students_of_fewer_traces(tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path, tiny_models)
    local_student(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = ["--traces", "traces.jsonl", "--max-steps", "1", "--seeds", "0", "--arms", "sft", "--one-trace-in", "3"]
    assert study(monkeypatch, *arguments) == ["train", "eval"]
    learned, all_traces = (read_jsonl(Path(name), Trace) for name in ("study/traces-1-in-3.jsonl", "traces.jsonl"))
    assert [trace.id for trace in learned] == [trace.id for trace in all_traces[::3]]
    assert read_json(tmp_path / "study" / "sft-0" / "data.json")["train_examples"] == len(learned) < len(all_traces)
