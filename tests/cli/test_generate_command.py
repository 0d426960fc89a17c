"""`generate` with a judge and an executor, as a team configures them, and what `inspect` shows of it."""

import json
from pathlib import Path

import pytest

from tests.cli.projects import json_lines, run_cli
from tests.paths import ROOT

CONFIG = """
generate:
  tools: tools.json
  seeds: seeds.jsonl
  out: runs
  teacher: {backend: scripted, answers: answers.jsonl}
  num_call_first: 0
  executor: house:run
  judge: {backend: scripted, answers: judge.jsonl}
  judge_grounding: true
"""
HOUSE = """
def run(name, arguments):
    if arguments["room"] == "bedroom":
        raise LookupError("there is no light")
"""


def light(room: str) -> str:
    return json.dumps({"name": "set_light", "arguments": {"room": room, "state": "on"}})


def test_a_judge_and_an_executor_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    requests = {"kitchen light on": "kitchen", "bedroom light on": "bedroom", "light where I cook": "kitchen"}
    question = f"Request: light where I cook\nA: [{light('kitchen')}]\nReply with A or none, a colon and the reason."
    for name, text in {
        "config.yaml": CONFIG,
        "house.py": HOUSE,
        "tools.json": (ROOT / "schemas/smart_home.json").read_text(),
        "seeds.jsonl": json_lines([{"id": text[:4], "text": text, "category": "simple"} for text in requests]),
        "answers.jsonl": json_lines([{"request": text, "text": light(room)} for text, room in requests.items()]),
        "judge.jsonl": json_lines([{"request": question, "text": "A: people cook in the kitchen"}]),
    }.items():
        Path(name).write_text(text)
    ended = run_cli(capsys, "generate", "config.yaml")
    assert ended.code == 0 and ended.out.startswith("2 of 3 planned traces kept in 4 attempts"), ended
    ended = run_cli(capsys, "inspect", "runs", "--passed", "judge")
    assert "1 of 2 traces and 0 of 1 rejects selected" in ended.out, ended
    assert "scripted:judge.jsonl picks these calls: people cook in the kitchen" in ended.out.replace("\n", " ")
    ended = run_cli(capsys, "inspect", "runs", "--check", "execution")
    assert "rejected by execution: set_light: LookupError: there is no light" in ended.out, ended
