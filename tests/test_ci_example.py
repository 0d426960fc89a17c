"""The workflow and the script of `data/ci`, run in a repository as their README lays it out, as far as a shell can."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.projects import invoke, json_lines
from tests.paths import ROOT

EXAMPLE = ROOT / "data/ci"
WORKFLOW: dict[Any, Any] = yaml.safe_load((EXAMPLE / "tool-calls.yml").read_text())
STEPS: list[dict[str, Any]] = WORKFLOW["jobs"]["gate"]["steps"]
NUM_CASES = 40


def answers(num_right: int) -> str:
    texts = [json.dumps({"name": "dim", "arguments": {"level": level}}) for level in range(NUM_CASES)]
    return json_lines([{"id": f"c{n}", "text": text if n < num_right else "no"} for n, text in enumerate(texts)])


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A team's repository with a committed baseline of 36 right answers of 40, and `fcdistill` on the path."""
    cases = [
        {
            "id": f"c{level}",
            "messages": [{"role": "user", "content": f"dim to {level}"}],
            "behaviour": "call",
            "expected": [[{"name": "dim", "arguments": {"level": level}}]],
            "category": "simple",
        }
        for level in range(NUM_CASES)
    ]
    parameters = {"type": "object", "properties": {"level": {"type": "integer"}}, "required": ["level"]}
    files = {
        "cases.jsonl": json_lines(cases),
        "tools.json": json.dumps([{"name": "dim", "parameters": parameters}]),
        "home.yaml": "eval: {cases: cases.jsonl, tools: tools.json, out: runs/home/eval, model: runs/home/student}\n",
        "answers.jsonl": answers(36),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "ci").mkdir()
    shutil.copy(EXAMPLE / "gate.sh", tmp_path / "ci/gate.sh")
    command = tmp_path / "bin/fcdistill"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m fcdistill.cli "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.chdir(tmp_path)
    baseline = WORKFLOW["jobs"]["gate"]["env"]["FCDISTILL_BASELINE"]
    saved = ["--set", "model=null", "--set", "predictions=answers.jsonl"]
    assert invoke("eval", "home.yaml", *saved, "--set", "out=runs/before", "--write-baseline", baseline) == 0
    (tmp_path / "summary.md").unlink()
    return tmp_path


def gate(*options: str) -> subprocess.CompletedProcess[str]:
    """The workflow's gate step, with options of the script, in the environment of its job."""
    (step,) = [step for step in STEPS if step.get("name") == "Gate"]
    command = step["run"].partition(" #")[0] + "".join(f" {option}" for option in options)
    environment = os.environ | WORKFLOW["jobs"]["gate"]["env"]
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)


def test_the_gate_step_passes_an_unchanged_student_and_fails_a_worse_one(repository: Path) -> None:
    saved = ("--set", "model=null", "--set", "predictions=answers.jsonl")
    ended = gate(*saved)
    assert ended.returncode == 0, ended.stderr
    assert "Gate: passed" in (repository / "summary.md").read_text()
    (repository / "answers.jsonl").write_text(answers(28))
    shutil.rmtree(repository / "runs/home/eval")
    ended = gate(*saved)
    assert ended.returncode == 1 and "the gate failed: call accuracy is 70.0%" in ended.stderr, ended.stderr
    assert "Gate: FAILED" in (repository / "summary.md").read_text()
    (kept,) = [step["with"]["path"] for step in STEPS if step.get("if") == "always()"]
    assert {"report.html", "junit.xml"} <= {path.name for path in (repository / kept).iterdir()}


def test_the_workflow_is_one_that_github_can_run() -> None:
    assert set(WORKFLOW) == {"name", True, "permissions", "concurrency", "jobs"}  # YAML 1.1 reads the key `on` as true
    assert "pull_request" in WORKFLOW[True] and WORKFLOW["permissions"] == {"contents": "read"}
    for step in STEPS:
        assert ("uses" in step) != ("run" in step), step
        assert "uses" not in step or "@v" in step["uses"], step
    assert (EXAMPLE / "gate.sh").stat().st_mode & stat.S_IXUSR
