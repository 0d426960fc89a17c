"""Catalogues as teams have them, through the commands that take one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fcdistill.config import load_config
from fcdistill.storage import write_text
from tests.cli.projects import Ended, json_lines, run_cli

Run = Callable[..., Ended]
LEVEL = {
    "type": "object",
    "properties": {"level": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["level"],
}
LONG = "a tool with a very long name, " * 4
GOOD = [
    {"name": "home/light:dim", "inputSchema": LEVEL, "securitySchemes": []},
    {"name": LONG, "inputSchema": LEVEL},
]
BAD = {"name": "bad", "inputSchema": {"type": "object", "properties": {"p": {"type": "int"}}}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    write_text(Path("tools.json"), json.dumps({"tools": [*GOOD, BAD]}))
    write_text(Path("good.json"), json.dumps({"tools": GOOD}))
    return lambda *arguments: run_cli(capsys, *arguments)


def conversation(name: str) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": json.dumps({"level": 3})}}
    return {
        "messages": [
            {"role": "user", "content": f"Level 3 please for {name[:4]}"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
    }


def test_a_project_without_a_bad_tool_goes_on_without_it(run: Run) -> None:
    ended = run("init", "tools.json", "--out", "project")
    assert ended.code == 2 and "'bad'" in ended.err and not Path("project").exists()
    ended = run("init", "tools.json", "--out", "project", "--skip-invalid")
    assert ended.code == 0 and "'securitySchemes' (home/light:dim)" in ended.err
    assert "note: left out" in ended.err and "'bad'" in ended.err
    config = Path("project/fcdistill.yaml")
    assert load_config(config, "generate").skip_invalid and load_config(config, "eval").skip_invalid
    ended = run("init", "good.json", "--out", "other")
    assert ended.code == 0 and "left out" not in ended.err
    assert not load_config(Path("other/fcdistill.yaml"), "generate").skip_invalid


def test_original_names_hold_from_an_import_to_its_check(run: Run) -> None:
    names = [tool["name"] for tool in GOOD]
    write_text(Path("rows.jsonl"), json_lines([conversation(str(name)) for name in names]))
    arguments = ("traces", "import", "rows.jsonl", "--format", "openai-messages", "--out", "made")
    assert run(*arguments, "--tools", "tools.json").code == 2
    ended = run(*arguments, "--tools", "tools.json", "--skip-invalid")
    assert (ended.code, "2 traces kept" in ended.out, "left out" in ended.err) == (0, True, True), ended
    assert "home_light_dim" in Path("made/traces.jsonl").read_text()
    ended = run("traces", "check", "made/traces.jsonl", "--tools", "tools.json")
    assert ended.code == 2
    ended = run("traces", "check", "made/traces.jsonl", "--tools", "tools.json", "--skip-invalid")
    assert ended.code == 0 and "left out" in ended.err


def test_tools_of_rows_are_left_out_too_and_said_once(run: Run) -> None:
    rows = [{**conversation("home/light:dim"), "tools": [*GOOD, BAD], "id": number} for number in range(2)]
    rows[1]["messages"][0]["content"] = "Something else at level 3"
    write_text(Path("rows.jsonl"), json_lines(rows))
    arguments = ("traces", "import", "rows.jsonl", "--format", "openai-messages", "--out")
    assert run(*arguments, "strict").code != 0
    ended = run(*arguments, "made", "--skip-invalid")
    assert (ended.code, "2 traces kept" in ended.out, ended.err.count("left out")) == (0, True, 1), ended


def test_original_names_are_scored_alike(run: Run) -> None:
    names = [str(tool["name"]) for tool in GOOD]
    cases = [
        {
            "id": str(number),
            "messages": [{"role": "user", "content": "x"}],
            "behaviour": "call",
            "expected": [[{"name": name, "arguments": {"level": 3}}]],
            "category": "simple",
            "comparators": {f"{name}.level": "numeric(0.5)"},
        }
        for number, name in enumerate(names)
    ]
    answers = [
        {"id": str(number), "tool_calls": conversation(name)["messages"][1]["tool_calls"]}
        for number, name in enumerate(names)
    ]
    write_text(Path("cases.jsonl"), json_lines(cases))
    write_text(Path("saved.jsonl"), json_lines(answers))
    arguments = (
        "eval",
        "--predictions",
        "saved.jsonl",
        "--cases",
        "cases.jsonl",
        "--tools",
        "tools.json",
        "--out",
        "runs",
    )
    ended = run(*arguments)
    assert ended.code == 2 and "'bad'" in ended.err
    ended = run(*arguments, "--skip-invalid")
    assert ended.code == 0 and "left out" in ended.err
    assert json.loads(Path("runs/report.json").read_text())["call_accuracy"]["value"] == 1


def test_message_rows_are_cases_without_their_bad_tools(run: Run) -> None:
    row = {**conversation("home/light:dim"), "tools": [*GOOD, BAD], "id": "a"}
    write_text(Path("rows.jsonl"), json_lines([row]))
    answer = {"id": "a", "tool_calls": row["messages"][1]["tool_calls"]}
    write_text(Path("saved.jsonl"), json_lines([answer]))
    arguments = ("eval", "--predictions", "saved.jsonl", "--cases", "rows.jsonl", "--cases-format", "openai-messages")
    assert run(*arguments, "--out", "runs").code == 2
    ended = run(*arguments, "--out", "runs", "--skip-invalid")
    assert ended.code == 0 and ended.err.count("left out") == 1
    assert json.loads(Path("runs/report.json").read_text())["call_accuracy"]["value"] == 1


def test_a_teacher_is_asked_without_a_bad_tool(run: Run) -> None:
    write_text(Path("script.jsonl"), json_lines([{"request": "nothing of this", "text": "no"}]))
    section = {
        "tools": "tools.json",
        "out": "traces",
        "teacher": {"backend": "scripted", "answers": "script.jsonl"},
        "num_call_first": 2,
        "attempts": 1,
    }
    write_text(Path("generate.yaml"), json.dumps({"generate": section}))
    ended = run("generate", "generate.yaml")
    assert ended.code == 2 and "'bad'" in ended.err
    ended = run("generate", "generate.yaml", "--skip-invalid")
    assert ended.code == 3 and "no trace was kept of 2" in ended.err and "left out" in ended.err
    write_text(Path("generate.yaml"), json.dumps({"generate": {**section, "skip_invalid": True}}))
    again = run("generate", "generate.yaml")
    assert (again.code, "no trace was kept of 2" in again.err) == (3, True), "the run goes on, however that was said"


def test_a_call_is_made_without_a_bad_tool(run: Run) -> None:
    arguments = ("call", "dim it", "--model", "./no/model", "--tools", "tools.json")
    ended = run(*arguments)
    assert ended.code == 2 and "'bad'" in ended.err
    ended = run(*arguments, "--skip-invalid")
    assert "left out" in ended.err and "no/model" in ended.err, "the model is what is missing now"
