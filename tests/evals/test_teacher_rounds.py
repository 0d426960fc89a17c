"""The study of rounds on a tiny project, in this process."""

import sys
from pathlib import Path

import pytest
import teacher_rounds

from fcdistill.storage import read_json
from tests.cli.projects import SEEDS, invoke, json_lines, write_project


def config_text(teacher: str) -> str:
    local = f"{{model: {teacher}, dtype: float32, device: cpu}}"
    return f"""\
generate:
  tools: tools.json
  seeds: seeds.jsonl
  values: values.json
  examples: examples.jsonl
  out: unused
  teacher: {local}
  attempts: 1
  max_new_tokens: 4
  adaptation: {{dtype: float32, device: cpu}}
eval:
  cases: cases.jsonl
  tools: tools.json
  out: unused
  model: {local}
  decode: {{max_new_tokens: 4}}
"""


def test_rounds_are_compared_with_retries(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, tiny_models)
    monkeypatch.chdir(tmp_path)
    teacher = f"{tiny_models}/teacher"
    Path("study.yaml").write_text(config_text(teacher))
    Path("seeds.jsonl").write_text(json_lines([{**seed, "id": f"s{n}"} for n, seed in enumerate((*SEEDS, *SEEDS))]))

    def run(stage: str, overrides: list[str], *flags: str) -> int:
        return invoke(stage, "study.yaml", *(part for each in overrides for part in ("--set", each)), *flags)

    monkeypatch.setattr(teacher_rounds, "run", run)
    monkeypatch.setattr(teacher_rounds, "RAW", teacher)
    monkeypatch.setattr(sys, "argv", ["teacher_rounds", "--quick", "--out", "study"])
    for _ in range(2):  # a finished study is only summarised again
        assert teacher_rounds.main() == 0
        summary = read_json(tmp_path / "study" / "summary.json")
        assert summary["teachers"].keys() == {"raw", "round 2"}
        assert {arm: [each["round"] for each in found["rounds"]] for arm, found in summary["arms"].items()} == {
            "retried": [1],
            "adapted": [1, 2, 2],
        }
    assert "| the teacher that has learned | 2 | study/adapted/teacher-round-2 |" in capsys.readouterr().out
