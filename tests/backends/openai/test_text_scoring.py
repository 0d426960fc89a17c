import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("openai")

from fcdistill.backends.openai.client import OpenAIClient
from fcdistill.backends.openai.logprobs_wire import GivenText
from fcdistill.backends.openai.text_scoring import score_texts
from fcdistill.config import ServedTeacherConfig
from fcdistill.errors import BackendError
from tests.backends.openai.faulty_server import FaultyServer, Reply, failure

KEY = "sk-very-secret-key-0123456789"


def scores(body: dict[str, Any], earlier: int) -> Reply:
    """Of each text's last token, minus the first token's id."""
    if earlier == 0 and body["prompt"][0] % 3 == 0:
        return failure(429, retry_after_ms="1")
    first, last = body["prompt"]
    logprobs = {"tokens": ["a", "z"], "token_logprobs": [None, -float(first)]}
    assert last == 9 and body["echo"]
    usage = {"prompt_tokens": 2, "completion_tokens": 1}
    return Reply(body=json.dumps({"choices": [{"text": "", "logprobs": logprobs}], "usage": usage}).encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultyServer(scores).running() as running:
        yield running


@pytest.fixture
def config(server: FaultyServer) -> ServedTeacherConfig:
    prices = {"prompt_price": 1.0, "completion_price": 0.0}
    fields = {"base_url": server.base_url, "model": "m", "tokenizer": "t", "logprobs": "echo", **prices}
    return ServedTeacherConfig.model_validate({**fields, "max_concurrency": 4, "max_retries": 2})


@pytest.fixture
def client(config: ServedTeacherConfig) -> Iterator[OpenAIClient]:
    client = OpenAIClient(config, api_key=KEY, first_wait_s=0.002)
    yield client
    client.close()


def texts(count: int) -> list[GivenText]:
    return [GivenText(f"t{number}", (number,), (9,), ("z",)) for number in range(count)]


def test_every_text_is_scored_once_and_counted(
    client: OpenAIClient, config: ServedTeacherConfig, server: FaultyServer
) -> None:
    found = {scored.id: scored.tokens[0].logprob for scored in score_texts(client, config, texts(30), 0)}
    assert found == {f"t{number}": -float(number) for number in range(30)}
    assert 1 < server.most_at_once <= 4 and server.keys == {f"Bearer {KEY}"}
    usage = client.usage
    assert (usage.num_answered, usage.num_retries, usage.prompt_tokens, usage.cost) == (30, 10, 60, 60e-6)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (failure(500, f"boom {KEY}"), r"HTTP 500: .*boom \[key\] \(tried up to 3 times\)"),
        (
            failure(400, "too long"),
            r"'t5': asked for echo of 1 \+ 1 tokens, what came back is .*HTTP 400\): .*too long",
        ),
        (Reply(body=b"{}"), "the response holds no choice"),
        (failure(401), "refuses the key"),
    ],
)
def test_the_first_text_without_scores_ends_the_work(
    client: OpenAIClient, config: ServedTeacherConfig, server: FaultyServer, reply: Reply, message: str
) -> None:
    server.behaviour = lambda body, earlier: reply if body["prompt"][0] == 5 else scores(body, 1)
    with pytest.raises(BackendError, match=message) as raised:
        list(score_texts(client, config, texts(500), 0))
    assert raised.value.required and raised.value.fix and KEY not in str(raised.value)
    assert len(server.bodies) < 100
