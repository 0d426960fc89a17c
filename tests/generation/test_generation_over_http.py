"""Generations whose teacher is behind a faulty server: nothing is lost or doubled, and every reject has a reason."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from fcdistill.backends.openai.client import OpenAIClient
from fcdistill.backends.openai.http_backend import OpenAIBackend
from fcdistill.config import GenerateConfig, OpenAIBackendConfig
from fcdistill.errors import BackendError
from fcdistill.generation import generator
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import GenerationStats, SeedRequest
from fcdistill.storage import write_jsonl
from tests.backends.openai.faulty_server import FaultyServer, Reply, chat, failure, question
from tests.generation.home import TOOLS, catalog_of, tool
from tests.generation.runs import journal_keys, reasons, traces

NUM = 48
TIMER = tool("set_timer", {"minutes": {"type": "integer", "minimum": 1, "maximum": 600}}, ("minutes",))


def minutes(body: dict[str, Any]) -> int:
    (number,) = (word for word in question(body).split() if word.isdigit())
    return int(number)


def call(name: str, arguments: str, identity: str = "call_1") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def sound(body: dict[str, Any]) -> Reply:
    """The right call, with a tool id that says nothing."""
    calls = [call("set_timer", json.dumps({"minutes": minutes(body)}), identity="")]
    return chat(finish_reason="tool_calls", tool_calls=calls)


def generate(out: Path, server: FaultyServer, *, timeout_s: float = 30.0) -> GenerationStats:
    seeds = out.parent / "seeds.jsonl"
    texts = [(number, f"wake me in {number} minutes") for number in range(1, NUM + 1)]
    write_jsonl(seeds, [SeedRequest(id=f"s{number}", text=text, category="simple") for number, text in texts])
    teacher = OpenAIBackendConfig(
        backend="openai_http",
        base_url=server.base_url,
        model="m",
        max_concurrency=8,
        timeout_s=timeout_s,
        max_retries=4,
    )
    config = GenerateConfig(tools=TOOLS, out=out, teacher=teacher, seeds=seeds, num_call_first=0)
    client = OpenAIClient(teacher, api_key="k", first_wait_s=0.002)
    return run_generation(config, lambda: OpenAIBackend(teacher, client), catalog_of(TIMER))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(generator, "_CHUNK", 16)


def called_minutes(out: Path) -> Counter[int]:
    return Counter(made.arguments["minutes"] for trace in traces(out) for made in trace.answer.calls)


PASSING = {
    "drops": Reply(drop=True),
    "storm": failure(429, retry_after="0.01"),
    "server errors": failure(503),
    "cut bodies": Reply(body=b'{"choices": [', cut=50),
    "late bodies": Reply(body=b"{}", delay_s=1.5),
    "slow bodies": Reply(body=b'{"choices": []}' + b" " * 185, drip_s=0.01),
}


@pytest.mark.parametrize("fault", PASSING)
def test_faults_that_pass_leave_no_mark(fault: str, tmp_path: Path) -> None:
    def behaviour(body: dict[str, Any], earlier: int) -> Reply:
        return PASSING[fault] if earlier == 0 and (fault == "storm" or minutes(body) % 12 == 0) else sound(body)

    # Short only where it is waited for: a busy machine is no fault.
    timeout_s = 0.75 if PASSING[fault].delay_s or PASSING[fault].drip_s else 30.0
    with FaultyServer(behaviour).running() as server:
        stats = generate(tmp_path / "out", server, timeout_s=timeout_s)
    assert called_minutes(tmp_path / "out") == Counter(range(1, NUM + 1))
    assert (stats.kept, stats.rejected, stats.attempts) == (NUM, 0, NUM)
    assert len(journal_keys(tmp_path / "out")) == NUM
    assert len(server.bodies) > NUM


def test_answers_that_stay_unusable_are_rejects_with_their_reasons(tmp_path: Path) -> None:
    unusable = {
        0: (Reply(body=b'{"choices": [{"message": {"content": "I wo'), "backend"),
        1: (chat(finish_reason="tool_calls", tool_calls=[call("set_timer", '{"minutes": 1')]), "parse"),
        2: (chat(finish_reason="tool_calls", tool_calls=[call("wake_me", "{}")]), "tool"),
        3: (chat(finish_reason="tool_calls", tool_calls=[call("set_timer", '{"minutes": 99999}')] * 2), "schema"),
        4: (failure(400, "too long"), "backend"),
        5: (Reply(drop=True), "backend"),
    }

    def behaviour(body: dict[str, Any], earlier: int) -> Reply:
        number = minutes(body)
        return unusable[number // 8][0] if number % 8 == 0 and number < NUM else sound(body)

    out = tmp_path / "out"
    with FaultyServer(behaviour).running() as server:
        stats = generate(out, server)
    bad = {f"request-first-s{number}": unusable[number // 8][1] for number in range(8, NUM, 8)}
    assert reasons(out) == bad
    assert called_minutes(out) == Counter(set(range(1, NUM + 1)) - set(range(8, NUM, 8)))
    assert stats.attempts == NUM + len(bad) == len(journal_keys(out))


def test_a_server_that_goes_away_costs_no_finished_chunk(tmp_path: Path) -> None:
    out, answered = tmp_path / "out", []

    def behaviour(body: dict[str, Any], earlier: int) -> Reply:
        answered.append(minutes(body))
        return failure(401) if len(answered) == 25 else sound(body)

    with FaultyServer(behaviour).running() as server:
        with pytest.raises(BackendError, match="refuses the key"):
            generate(out, server)
        finished = {identity for identity, _ in journal_keys(out)}
        assert len(finished) == 16 and not (out / "traces.jsonl").exists()
        before = len(server.bodies)
        stats = generate(out, server)
        asked_again = [minutes(body) for body in server.bodies[before:]]
    assert len(asked_again) == NUM - 16 and not {f"request-first-s{number}" for number in asked_again} & finished
    assert stats.kept == NUM and called_minutes(out) == Counter(range(1, NUM + 1))
