"""Tests of `fcdistill.backends.openai.http_backend` against a faulty server on loopback."""

import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("openai")

from fcdistill.backends import Completion, Request, open_backend
from fcdistill.backends.openai.client import OpenAIClient
from fcdistill.backends.openai.http_backend import OpenAIBackend
from fcdistill.config import DecodeSettings, OpenAIBackendConfig
from fcdistill.errors import BackendError, ConfigError, MissingDependencyError
from fcdistill.models.loading import load_tokenizer
from fcdistill.prompts.rendering import render_prompt
from fcdistill.records import Message, ToolCall, ToolSpec
from tests.backends.openai.faulty_server import FaultyServer, Reply, chat, failure, question

KEY = "sk-very-secret-key-0123456789"
GREEDY = DecodeSettings()

Serve = Callable[[Callable[[dict[str, Any], int], Reply]], FaultyServer]
Open = Callable[..., OpenAIBackend]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda behaviour: stack.enter_context(FaultyServer(behaviour).running())


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:

        def make(server: FaultyServer | str, **fields: Any) -> OpenAIBackend:
            base_url = server if isinstance(server, str) else server.base_url
            config = OpenAIBackendConfig(backend="openai_http", base_url=base_url, model="m", **fields)
            backend = OpenAIBackend(config, OpenAIClient(config, api_key=KEY, first_wait_s=0.002))
            stack.callback(backend.close)
            return backend

        yield make


def request(identity: str, text: str = "", *specs: ToolSpec) -> Request:
    return Request(identity, (Message(role="user", content=text or identity),), specs)


def requests(count: int) -> list[Request]:
    return [request(f"r{number}") for number in range(count)]


def only(completions: Iterator[Completion]) -> Completion:
    (completion,) = completions
    return completion


def echo(body: dict[str, Any], earlier: int) -> Reply:
    return chat(f"answer to {question(body)}")


def test_a_request_travels_whole_and_its_answer_comes_back(serve: Serve, opened: Open) -> None:
    server = serve(echo)
    settings = DecodeSettings(max_new_tokens=7, sampling_temperature=0.5, top_p=0.9, seed=3)
    completion = only(opened(server).complete([request("a", "hi", ToolSpec(name="t"))], settings))
    assert (completion.id, completion.text, completion.finish_reason) == ("a", "answer to hi", "stop")
    assert (completion.prompt_tokens, completion.completion_tokens, completion.error) == (10, 2, None)
    assert completion.latency_s is not None and 0 < completion.latency_s < 5
    (body,) = server.bodies
    seed = body.pop("seed")
    assert isinstance(seed, int) and 0 <= seed < 2**31
    assert body == {
        "model": "m",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [
            {
                "type": "function",
                "function": {"name": "t", "description": "", "parameters": {"type": "object", "properties": {}}},
            }
        ],
    }
    assert server.paths == {"/v1/chat/completions"} and server.keys == {f"Bearer {KEY}"}


def test_nothing_is_lost_or_doubled_under_every_fault_at_once(serve: Serve, opened: Open) -> None:
    faults = [
        Reply(drop=True),
        failure(500),
        failure(503, retry_after="0.01"),
        failure(429, retry_after_ms="5"),
        Reply(body=b'{"choices": [', cut=50),
        Reply(delay_s=1.0),
    ]

    def behaviour(body: dict[str, Any], earlier: int) -> Reply:
        number = int(question(body)[1:])
        fault = faults[(number + earlier) % len(faults)]
        if earlier >= number % 3 or (fault.delay_s and number % 40):
            return Reply(body=chat(f"answer to r{number}").body, delay_s=0.002)
        return fault

    server = serve(behaviour)
    backend = opened(server, max_concurrency=8, timeout_s=0.5, max_retries=8)
    completions = list(backend.complete(requests(120), GREEDY))
    assert Counter(completion.id for completion in completions) == Counter(f"r{number}" for number in range(120))
    assert all(completion.text == f"answer to {completion.id}" for completion in completions)
    assert server.most_at_once > 1
    assert backend.usage.num_answered == 120 and backend.usage.num_retries >= 80


@pytest.mark.parametrize("max_concurrency", [1, 3])
def test_no_more_are_under_way_than_allowed(serve: Serve, opened: Open, max_concurrency: int) -> None:
    server = serve(lambda body, earlier: Reply(body=chat("x").body, delay_s=0.01))
    assert len(list(opened(server, max_concurrency=max_concurrency).complete(requests(20), GREEDY))) == 20
    assert server.most_at_once == max_concurrency


def test_a_slow_answer_does_not_hold_up_the_others(serve: Serve, opened: Open) -> None:
    server = serve(lambda body, earlier: Reply(body=chat("x").body, delay_s=0.5 if question(body) == "r0" else 0))
    order = [completion.id for completion in opened(server, max_concurrency=2).complete(requests(6), GREEDY)]
    assert order[-1] == "r0" and len(order) == 6


def test_what_is_asked_does_not_run_ahead_of_the_consumer(serve: Serve, opened: Open) -> None:
    server = serve(echo)
    completions = opened(server, max_concurrency=2).complete(requests(50), GREEDY)
    next(completions)
    time.sleep(0.2)
    assert len(server.bodies) <= 5, "one taken, four asked or waiting"
    assert len(list(completions)) == 49


def test_a_consumer_that_stops_early_cancels_what_is_under_way(serve: Serve, opened: Open) -> None:
    server = serve(lambda body, earlier: Reply(body=chat("x").body, delay_s=0 if question(body) == "r0" else 0.3))
    backend = opened(server, max_concurrency=2)
    completions = backend.complete(requests(50), GREEDY)
    next(completions)
    completions.close()  # type: ignore[attr-defined]
    time.sleep(0.5)
    assert len(server.bodies) <= 3, "the answered one and the two that were under way"
    server.behaviour = echo
    assert only(backend.complete([request("again")], GREEDY)).text == "answer to again"


@pytest.mark.parametrize("spelling", ["seconds", "milliseconds", "date"])
def test_retry_after_is_honoured(serve: Serve, opened: Open, spelling: str) -> None:
    def busy() -> Reply:
        if spelling == "milliseconds":
            return failure(429, retry_after_ms="300")
        return failure(429, retry_after="0.3" if spelling == "seconds" else formatdate(time.time() + 1.5, usegmt=True))

    server = serve(lambda body, earlier: busy() if earlier == 0 else chat("x"))
    assert only(opened(server).complete([request("a")], GREEDY)).text == "x"
    first, second = server.times
    assert second - first >= 0.3


def test_in_a_storm_the_others_wait_too_and_use_up_no_tries(serve: Serve, opened: Open) -> None:
    opened_at = time.monotonic() + 0.4

    def behaviour(body: dict[str, Any], earlier: int) -> Reply:
        left_s = opened_at - time.monotonic()
        return failure(429, retry_after=f"{left_s + 0.01:.3f}") if left_s > 0 else chat("x")

    server = serve(behaviour)
    completions = list(opened(server, max_concurrency=4, max_retries=1).complete(requests(40), GREEDY))
    assert len(completions) == 40 and all(completion.error is None for completion in completions)
    assert len(server.bodies) <= 44


def test_a_wait_that_is_too_long_gives_the_request_up(serve: Serve, opened: Open) -> None:
    server = serve(lambda body, earlier: failure(429, "slow down", retry_after="3600"))
    completion = only(opened(server).complete([request("a")], GREEDY))
    assert completion.finish_reason == "error" and "asks to wait 3600 s" in str(completion.error)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (failure(500, "boom"), "HTTP 500: .*boom"),
        (failure(429, "slow down"), "HTTP 429: .*slow down"),
        (Reply(drop=True), "connection failed"),
        (Reply(body=b"{", cut=9), "connection failed"),
        (Reply(body=chat("x").body, delay_s=0.4), "no answer within 0.25 s"),
        (Reply(body=chat("x").body, drip_s=0.01), "no answer within 0.25 s"),
    ],
)
def test_tries_are_counted_and_the_last_failure_is_told(serve: Serve, opened: Open, reply: Reply, message: str) -> None:
    server = serve(lambda body, earlier: reply if question(body) == "bad" else chat("x"))
    backend = opened(server, max_retries=2, timeout_s=0.25 if reply.delay_s or reply.drip_s else 30.0)
    by_id = {each.id: each for each in backend.complete([request("bad"), request("good")], GREEDY)}
    assert server.num_asked("bad") == 3
    assert by_id["bad"].finish_reason == "error" and by_id["bad"].text == "" and by_id["good"].text == "x"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(by_id["bad"].error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"choices": [{"mess',
        b"<html>busy</html>",
        b"[]",
        b"null",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b"\xff",
    ],
)
def test_a_malformed_body_is_an_error_of_its_request_alone(serve: Serve, opened: Open, body: bytes) -> None:
    server = serve(lambda sent, earlier: Reply(body=body) if question(sent) == "bad" else chat("x"))
    by_id = {each.id: each for each in opened(server).complete([request("bad"), request("good")], GREEDY)}
    assert by_id["bad"].finish_reason == "error" and "response" in str(by_id["bad"].error)
    assert by_id["good"].text == "x" and server.num_asked("bad") == 1


def test_a_request_that_the_server_refuses_is_an_error_of_its_own(serve: Serve, opened: Open) -> None:
    told = "maximum context length is 4096 tokens"
    refusals = {"long": failure(400, told, "context_length_exceeded"), "other": Reply(422, b'{"detail": "no tools"}')}
    server = serve(lambda body, earlier: refusals.get(question(body), chat("x")))
    asked = [request("long"), request("other"), request("good")]
    by_id = {each.id: each for each in opened(server).complete(asked, GREEDY)}
    assert "HTTP 400" in str(by_id["long"].error) and "4096" in str(by_id["long"].error)
    assert "HTTP 422" in str(by_id["other"].error) and "no tools" in str(by_id["other"].error)
    assert by_id["good"].text == "x" and server.num_asked("long") == 1


@pytest.mark.parametrize(
    ("reply", "found", "fix"),
    [
        (failure(401, f"Incorrect API key provided: {KEY}"), "refuses the key", "OPENAI_API_KEY"),
        (failure(403), "refuses the key", "OPENAI_API_KEY"),
        (failure(404, "Not Found"), "knows no model 'm'", "/models"),
        (failure(400, "The model `m` does not exist", "model_not_found"), "knows no model 'm'", "/models"),
        (Reply(400, b"{\"detail\": \"Server is pinned to '/a'; requested 'm'.\"}"), "pinned to '/a'", "/models"),
        (failure(429, "You exceeded your quota", "insufficient_quota"), "no quota left", "finished answers"),
    ],
)
def test_what_would_fail_every_request_ends_the_run_at_once(
    serve: Serve, opened: Open, reply: Reply, found: str, fix: str
) -> None:
    server = serve(lambda body, earlier: reply)
    backend = opened(server, max_concurrency=2)
    with pytest.raises(BackendError) as raised:
        list(backend.complete(requests(100), GREEDY))
    assert found in raised.value.found and raised.value.required and fix in raised.value.fix
    assert KEY not in str(raised.value) and len(server.bodies) <= 2


def test_answers_before_the_end_of_a_run_stay(serve: Serve, opened: Open) -> None:
    server = serve(lambda body, earlier: failure(401) if question(body) == "r5" else chat("x"))
    taken = []
    with pytest.raises(BackendError):
        for completion in opened(server, max_concurrency=1).complete(requests(10), GREEDY):
            taken.append(completion.id)
    assert taken == ["r0", "r1", "r2", "r3", "r4"]


def test_where_nobody_listens_the_run_ends(opened: Open) -> None:
    server = FaultyServer(echo)
    with server.running():
        base_url = server.base_url
    with pytest.raises(BackendError, match="no server can be reached at http://127.0.0.1") as raised:
        list(opened(base_url, max_retries=1).complete(requests(3), GREEDY))
    assert "tried 2 times" in str(raised.value)


def test_calls_are_read_whatever_their_ids(serve: Serve, opened: Open) -> None:
    calls = [
        {"id": "same", "type": "function", "function": {"name": "set", "arguments": '{"a": "</tool_call>", "b": [1]}'}},
        {"id": "same", "type": "function", "function": {"name": "set", "arguments": '{"a": 1'}},
        {"type": "function", "function": {"name": "get", "arguments": ""}},
    ]
    server = serve(lambda body, earlier: chat(None, finish_reason="tool_calls", tool_calls=calls))
    completion = only(opened(server).complete([request("a")], GREEDY))
    parsed = completion.parsed()
    assert parsed.calls == (
        ToolCall(name="set", arguments={"a": "</tool_call>", "b": [1]}),
        ToolCall(name="get", arguments={}),
    )
    assert len(parsed.errors) == 1 and parsed.text == "" and completion.finish_reason == "stop"


def test_the_key_is_in_no_answer_error_reference_or_log(
    serve: Serve, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(lambda body, earlier: failure(400 if question(body) == "r0" else 500, f"your key {KEY} is odd"))
    backend = opened(server, max_retries=1)
    completions = list(backend.complete(requests(2), GREEDY))
    assert all("[key] is odd" in str(completion.error) for completion in completions)
    shown = [*map(repr, completions), backend.ref.model_dump_json(), str(backend.usage), caplog.text]
    assert server.keys == {f"Bearer {KEY}"} and not any(KEY in text for text in shown)


def test_tokens_and_cost_are_added_up(serve: Serve, opened: Open) -> None:
    server = serve(lambda body, earlier: failure(400) if question(body) == "r0" else chat("x"))
    backend = opened(server, prompt_price=2.0, completion_price=10.0)
    list(backend.complete(requests(3), GREEDY))
    list(backend.complete([request("more")], GREEDY))
    usage = backend.usage
    assert (usage.num_answered, usage.num_failed, usage.prompt_tokens, usage.completion_tokens) == (3, 1, 30, 6)
    assert usage.cost == pytest.approx((30 * 2 + 6 * 10) / 1e6)


def test_the_completions_api_is_asked_with_the_kits_own_prompt(serve: Serve) -> None:
    choice = {"text": '<tool_call>\n{"name": "t", "arguments": {}}\n</tool_call>', "finish_reason": "length"}
    server = serve(lambda body, earlier: Reply(body=json.dumps({"choices": [choice]}).encode()))
    config = OpenAIBackendConfig(
        backend="openai_http", base_url=server.base_url, model="m", api="completions", tokenizer="unused"
    )
    client = OpenAIClient(config, api_key=None)
    backend = OpenAIBackend(config, client, render_prompt=lambda asked: [1, len(asked.id)])
    completion = only(backend.complete([request("abc")], GREEDY))
    backend.close()
    assert server.paths == {"/v1/completions"} and KEY not in str(server.keys)
    assert server.bodies == [{"model": "m", "max_tokens": 256, "temperature": 0.0, "prompt": [1, 3]}]
    assert (completion.text, completion.finish_reason) == (choice["text"], "length")
    assert completion.prompt_tokens is None


def test_answers_are_constrained_at_the_server_only(opened: Open) -> None:
    backend = opened("http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match="can't be constrained from here"):
        next(backend.complete([request("abc")], GREEDY.model_copy(update={"constrained": True})))


@pytest.mark.parametrize("style", ["full", "none"])
def test_the_prompt_of_the_completions_api_is_the_one_that_models_train_on(
    serve: Serve, tiny_models: Path, style: Literal["full", "none"]
) -> None:
    server = serve(lambda body, earlier: Reply(body=b'{"choices": [{"text": "x"}]}'))
    student = str(tiny_models / "student")
    config = OpenAIBackendConfig(
        backend="openai_http",
        base_url=server.base_url,
        model="m",
        api="completions",
        tokenizer=student,
        tools_in_prompt=style,
    )
    backend = open_backend(config)
    asked = request("a", "hi", ToolSpec(name="t"))
    assert only(backend.complete([asked], GREEDY)).text == "x"
    backend.close()
    assert server.bodies[0]["prompt"] == render_prompt(load_tokenizer(student), asked.messages, asked.specs, style)


def test_a_chat_server_is_sent_the_values_of_its_template(serve: Serve) -> None:
    server = serve(echo)
    values = {"enable_thinking": False, "reasoning_effort": "low"}
    fields: dict[str, Any] = {"base_url": server.base_url, "model": "m", "api_key_env": None}
    for given in (values, None):
        config = OpenAIBackendConfig(backend="openai_http", chat_template_kwargs=given, **fields)
        with contextlib.closing(open_backend(config)) as backend:
            only(backend.complete([request("abc")], GREEDY))
    assert server.bodies[0]["chat_template_kwargs"] == values and "chat_template_kwargs" not in server.bodies[1]


def test_open_backend_takes_the_key_from_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(echo)
    monkeypatch.setenv("MY_KEY", f" {KEY}2\n")
    config = OpenAIBackendConfig(backend="openai_http", base_url=server.base_url, model="m", api_key_env="MY_KEY")
    backend = open_backend(config)
    assert only(backend.complete([request("a")], GREEDY)).error is None
    backend.close()
    backend.close()
    assert server.keys == {f"Bearer {KEY}2"}


@pytest.mark.parametrize("value", ["", "  ", "two words", "schlüssel"])
def test_a_missing_or_odd_key_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value)
    config = OpenAIBackendConfig(backend="openai_http", base_url="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY (is not set|holds something)") as raised:
        open_backend(config)
    assert not value.strip() or value not in str(raised.value)
    assert "api_key_env to null" in raised.value.fix


@pytest.mark.parametrize("package", ["openai", "tenacity"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    config = OpenAIBackendConfig(backend="openai_http", base_url="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(MissingDependencyError, match=rf"the package {package}, .*\n.*\[http\]"):
        open_backend(config)
