"""`generate` and `eval` with a real server on loopback: `transformers serve` with a tiny model of random weights."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from fcdistill.records import Outcome, Prediction
from fcdistill.storage import iter_jsonl, read_json
from tests.cli.projects import Ended, run_process, write_project
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

START_S = 120.0
"""Longest start of the server: it imports torch."""


@dataclass(frozen=True)
class Served:
    """A running server, and the name by which it knows its model."""

    model: str
    base_url: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    model = directory / "model"
    tokenizer = tiny_tokenizer("qwen")
    tiny_model("llama", len(tokenizer), num_layers=2).save_pretrained(model)
    tokenizer.save_pretrained(model)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--device", "cpu"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(server, f"http://127.0.0.1:{port}/health", directory / "log")
        yield Served(str(model), f"http://127.0.0.1:{port}/v1")
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not start:\n{log.read_text()}")


def run(directory: Path, served: Served, stage: str, teacher: str, **fields: Any) -> Ended:
    """A stage of the small project, with the server as its model."""
    write_project(directory, directory)
    backend = {"backend": "openai_http", "base_url": served.base_url, "model": served.model, "api_key_env": None}
    sets = [f"{teacher}={json.dumps(backend)}", *(f"{name}={json.dumps(value)}" for name, value in fields.items())]
    overrides = [part for each in sets for part in ("--set", each)]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    return run_process(directory, stage, "config.yaml", *overrides, env=environment)


def test_a_generation_asks_it_and_keeps_every_answer(served: Served, tmp_path: Path) -> None:
    ended = run(tmp_path, served, "generate", "teacher", num_call_first=3, max_new_tokens=12)
    # Random weights write no call, so that the worked example alone is kept: each answer came, and has its reason.
    assert ended.code == 0 and "1 of 10 planned traces kept in 18 attempts" in ended.out, ended
    outcomes = list(iter_jsonl(tmp_path / "runs" / "traces" / "journal.jsonl", Outcome))
    assert len(outcomes) == 18 and {outcome.candidate.meta.teacher.model for outcome in outcomes} == {served.model}
    assert all(outcome.prompt_tokens > 0 and outcome.completion_tokens > 0 for outcome in outcomes)
    assert not {check.name for outcome in outcomes if (check := outcome.failed) is not None} & {"backend"}
    assert "0 failed" in ended.err


def test_an_evaluation_asks_it(served: Served, tmp_path: Path) -> None:
    ended = run(tmp_path, served, "eval", "model", **{"decode.max_new_tokens": 12})
    assert ended.code == 0, ended
    report = read_json(tmp_path / "runs" / "eval" / "report.json")
    assert report["num_cases"] == 2 and report["num_unscored"] == 0
    predictions = list(iter_jsonl(tmp_path / "runs" / "eval" / "predictions.jsonl", Prediction))
    assert all(each.error is None and each.prompt_tokens and each.completion_tokens for each in predictions)


def test_another_model_than_its_own_ends_the_run_at_once(served: Served, tmp_path: Path) -> None:
    ended = run(tmp_path, Served("other", served.base_url), "eval", "model")
    assert ended.code == 3 and "knows no model 'other'" in ended.err and served.model in ended.err, ended
