"""Tests of `fcdistill eval` and `fcdistill generate` with a server that answers, through the config file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from tests.backends.openai.faulty_server import FaultyServer, Reply, chat, failure, question
from tests.cli.projects import Ended, run_cli

KEY = "sk-very-secret-key-0123456789"
LEVEL = {"type": "integer", "minimum": 0, "maximum": 100}
TOOL = {
    "name": "lamp.dim",
    "description": "Dims the lamp.",
    "inputSchema": {"type": "object", "properties": {"level": LEVEL}, "required": ["level"]},
}

Run = Callable[..., Ended]


def dims(body: dict[str, Any], earlier: int) -> Reply:
    """Calls the tool by its original name with the number of the request, after a server error."""
    if earlier == 0:
        return failure(503, retry_after="0.01")
    (level,) = (word for word in question(body).split() if word.isdigit())
    function = {"name": "lamp.dim", "arguments": json.dumps({"level": int(level)})}
    return chat(finish_reason="tool_calls", tool_calls=[{"id": "1", "type": "function", "function": function}])


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer(dims).running() as running:
        yield running


@pytest.fixture
def run(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Path("tools.json").write_text(json.dumps({"tools": [TOOL]}))
    case = {"behaviour": "call", "category": "simple"}
    cases = [
        {
            "id": f"c{level}",
            "messages": [{"role": "user", "content": f"dim to {level} please"}],
            "expected": [[{"name": "lamp.dim", "arguments": {"level": level}}]],
            **case,
        }
        for level in range(4)
    ]
    Path("cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in cases))
    seeds = [{"id": f"s{level}", "text": f"set the lamp to {level} now", "category": "simple"} for level in (7, 8)]
    Path("seeds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in seeds))
    backend = {
        "backend": "openai_http",
        "base_url": server.base_url,
        "model": "served",
        "prompt_price": 1000.0,
        "completion_price": 0.0,
    }
    sections = {
        "eval": {"cases": "cases.jsonl", "tools": "tools.json", "out": "evaluated", "model": backend},
        "generate": {
            "tools": "tools.json",
            "seeds": "seeds.jsonl",
            "out": "generated",
            "num_call_first": 0,
            "teacher": backend,
        },
    }
    Path("config.yaml").write_text(json.dumps(sections))
    return lambda *arguments: run_cli(capsys, *arguments)


def require_no_key(ended: Ended, directory: Path) -> None:
    assert KEY not in ended.out and KEY not in ended.err
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files and not any(KEY.encode() in path.read_bytes() for path in files)


def test_a_server_is_evaluated(run: Run, server: FaultyServer) -> None:
    ended = run("eval", "config.yaml")
    assert ended.code == 0, ended
    report = json.loads(Path("evaluated/report.json").read_text())
    assert report["num_cases"] == 4 and report["num_unscored"] == 0
    assert report["model"] == {
        "model": "served",
        "revision": "",
        "params": {"base_url": server.base_url, "api": "chat"},
    }
    predictions = [json.loads(line) for line in Path("evaluated/predictions.jsonl").read_text().splitlines()]
    assert [line["calls"] for line in predictions] == [
        [{"name": "lamp_dim", "arguments": {"level": level}}] for level in range(4)
    ]
    scores = [json.loads(line) for line in Path("evaluated/scores.jsonl").read_text().splitlines()]
    assert len(scores) == 4 and all(score["correct"] for score in scores)
    assert "4 answers, 0 failed, 4 retries; 40 prompt and 8 completion tokens; cost 0.0400" in ended.err
    require_no_key(ended, Path())


def test_a_server_is_a_teacher(run: Run) -> None:
    ended = run("generate", "config.yaml")
    assert ended.code == 0, ended
    traces = [json.loads(line) for line in Path("generated/traces.jsonl").read_text().splitlines()]
    called = sorted(
        call["function"]["arguments"]["level"] for trace in traces for call in trace["messages"][-1]["tool_calls"]
    )
    assert called == [7, 8] and {trace["meta"]["teacher"]["model"] for trace in traces} == {"served"}
    assert "Asked of the server: 2 answers" in ended.err
    require_no_key(ended, Path())


def test_a_refused_key_ends_the_command_and_a_second_run_goes_on(run: Run, server: FaultyServer) -> None:
    server.behaviour = lambda body, earlier: (
        failure(401, f"no such key: {KEY}") if "dim to 3" in question(body) else dims(body, 1)
    )
    ended = run("eval", "config.yaml", "--set", "model.max_concurrency=1")
    assert ended.code == 3 and "refuses the key (HTTP 401)" in ended.err and "Traceback" not in ended.err
    require_no_key(ended, Path())
    num_asked = len(server.bodies)
    server.behaviour = lambda body, earlier: dims(body, 1)
    ended = run("eval", "config.yaml", "--set", "model.max_concurrency=1")
    assert ended.code == 0 and len(server.bodies) == num_asked + 1


def test_without_a_key_nothing_is_asked(run: Run, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    ended = run("eval", "config.yaml")
    assert ended.code == 2 and "OPENAI_API_KEY is not set" in ended.err and server.bodies == []
    ended = run("eval", "config.yaml", "--set", "model.api_key_env=null")
    assert ended.code == 0 and server.keys == {"Bearer none"}
