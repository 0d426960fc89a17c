"""The study of call formats on a tiny project, in this process."""

import sys
from pathlib import Path

import call_formats
import pytest

from fcdistill.records import EvalCase, Trace
from fcdistill.storage import read_json, read_jsonl
from tests.cli.projects import invoke, local_student, write_project


def test_both_formats_learn_and_answer_the_same(
    tmp_path: Path, tiny_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, tiny_models)
    local_student(tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(stage: str, overrides: list[str]) -> int:
        return invoke(stage, "config.yaml", *(part for each in overrides for part in ("--set", each)))

    monkeypatch.setattr(call_formats, "run", run)
    arguments = ["--traces", "traces.jsonl", "--out", "study", "--student", f"{tiny_models}/student"]
    arguments += ["--max-steps", "1", "--seeds", "0", "--held-out", "0.2"]
    monkeypatch.setattr(sys, "argv", ["call_formats", *arguments])
    assert call_formats.main() == 0
    learned = list(read_jsonl(Path("study/traces.jsonl"), Trace))
    cases = list(read_jsonl(Path("study/cases.jsonl"), EvalCase))
    assert learned and cases and not {trace.id for trace in learned} & {case.id for case in cases}
    summary = read_json(Path("study/summary.json"))
    assert summary["pythonic"]["answer_tokens"] < summary["hermes"]["answer_tokens"]
    assert {figure["num_cases"] for figure in summary.values()} == {len(cases)}
    for name in call_formats.FORMATS:
        assert read_json(Path(f"study/{name}-0/adapter/fcdistill.json"))["dialect"] == name
    assert "| `pythonic` |" in capsys.readouterr().out
