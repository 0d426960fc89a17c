import json
from typing import Any

import pytest

from fcdistill.backends.openai.chat_wire import MalformedAnswerError
from fcdistill.backends.openai.logprobs_wire import GivenText, read_scores, score_fields
from fcdistill.config import ServedTeacherConfig

PROMPT_LOGPROBS, ECHO = (
    ServedTeacherConfig(base_url="http://localhost/v1", model="m", tokenizer="t", logprobs=how)
    for how in ("prompt_logprobs", "echo")
)
GIVEN = GivenText("a", prompt_ids=(7, 8), completion_ids=(3, 4), completion_texts=(" hi", "<end>"))


def named(**logprobs: float) -> dict[str, Any]:
    """An entry of prompt_logprobs: `_3=-0.5` is token 3."""
    texts = {"3": " hi", "4": "<end>"}
    return {
        name[1:]: {"logprob": logprob, "rank": 1, "decoded_token": texts.get(name[1:], "?")}
        for name, logprob in logprobs.items()
    }


def prompt_logprobs(*entries: Any) -> bytes:
    choice = {"text": "x", "prompt_logprobs": [None, named(_8=-1.0), *entries]}
    usage = {"prompt_tokens": 4, "completion_tokens": 1}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def echo(*tokens: tuple[str, float | None]) -> bytes:
    logprobs = {"tokens": [text for text, _ in tokens], "token_logprobs": [value for _, value in tokens]}
    return json.dumps({"choices": [{"text": "x", "logprobs": logprobs}]}).encode()


def test_a_text_is_asked_about_as_token_ids() -> None:
    body = {"model": "m", "prompt": [7, 8, 3, 4], "max_tokens": 1, "temperature": 1.0}
    assert score_fields(PROMPT_LOGPROBS, GIVEN, 5) == (body, {"prompt_logprobs": 5})
    assert score_fields(ECHO, GIVEN, 0) == ({**body, "echo": True, "logprobs": 1}, {})


def test_prompt_logprobs_name_the_given_tokens_and_the_likeliest() -> None:
    entries = named(_3=-3.0, _5=-0.5, _6=-1.5), named(_4=-0.1, _9=-9999.0)
    scored = read_scores(PROMPT_LOGPROBS, prompt_logprobs(*entries), GIVEN, 2)
    assert [token.logprob for token in scored.tokens] == [-3.0, -0.1]
    assert [token.likeliest for token in scored.tokens] == [((5, -0.5), (6, -1.5)), ((4, -0.1), (9, -9999.0))]
    assert (scored.id, scored.prompt_tokens, scored.completion_tokens) == ("a", 4, 1)
    none = read_scores(PROMPT_LOGPROBS, prompt_logprobs(named(_3=-3.0), named(_4=1e-6)), GIVEN, 0)
    assert [(token.logprob, token.likeliest) for token in none.tokens] == [(-3.0, ()), (0.0, ())]


@pytest.mark.parametrize("generated", [[("x", -1.0)], []])
@pytest.mark.parametrize("text", [" hi", "hi", "\u2581hi", "\u0120hi", "token_id:3", "bytes:\\x20", "\ufffdi", ""])
def test_an_echo_is_read_however_a_token_is_spelt(generated: Any, text: str) -> None:
    body = echo(("a", None), ("b", -1.0), (text, -0.5), ("<end>", -0.25), *generated)
    assert [token.logprob for token in read_scores(ECHO, body, GIVEN, 0).tokens] == [-0.5, -0.25]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "no JSON"),
        (b'{"choices": []}', "no choice"),
        (b'{"choices": [{"text": "x"}]}', "holds no prompt_logprobs"),
        (prompt_logprobs(named(_3=-1.0, _5=-1.0)), "prompt_logprobs of 3 tokens, where 4 were given"),
        (prompt_logprobs(*[named(_3=-1.0, _5=-1.0)] * 2), r"without token 4 \('<end>'\) where it was given"),
        (prompt_logprobs(None, named(_4=-1.0, _5=-1.0)), r"without token 3 \(' hi'\)"),
        (prompt_logprobs(named(_3=-1.0), named(_4=-1.0)), "1 log-probabilities per token, where 2 were asked for"),
        (prompt_logprobs(named(_3=0.5, _5=-1.0), named(_4=-1.0)), "0.5 in place of a log-probability"),
        (prompt_logprobs(named(_3=float("nan"), _5=-1.0), named(_4=-1.0)), "nan in place of a log-probability"),
        (prompt_logprobs(named(_3=-0.1, _5=-0.2), named(_4=-1.0)), "add up to more than 1"),
        (prompt_logprobs({**named(_3=-1.0), "hi": {"logprob": -1.0}}, {}), "'hi' in place of a token id"),
        (prompt_logprobs({"3": {"logprob": -1.0, "decoded_token": "no"}}, {}), "'no' for token 3, which is ' hi' here"),
    ],
)
def test_prompt_logprobs_of_anything_else_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(MalformedAnswerError, match=message):
        read_scores(PROMPT_LOGPROBS, body, GIVEN, 2)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"choices": [{"text": "x", "logprobs": null}]}', "holds no logprobs"),
        (echo(("x", -1.0)), "logprobs of 1 tokens, where 4 were given"),
        (echo(*[("<bos>", None), ("a", -1.0), ("b", -1.0), (" hi", -1.0), ("<end>", -1.0)]), "'b' for token 3"),
        (echo(("a", None), ("b", -1.0), (" hi", None), ("<end>", -1.0)), "None in place of a log-probability"),
        (echo(*[("a", -1.0)] * 6), "logprobs of 6 tokens"),
    ],
)
def test_an_echo_of_anything_else_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(MalformedAnswerError, match=message):
        read_scores(ECHO, body, GIVEN, 0)
