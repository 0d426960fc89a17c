"""What a completions API says of a text that it is given: token ids out, log-probabilities in. Pure.

Two ways are known. vLLM's `prompt_logprobs` is a list over the prompt's tokens, each a mapping of token id to
log-probability, rank and text: the given token and the likeliest ones. OpenAI's `echo` with `logprobs` repeats the
prompt's tokens as texts in front of what is generated. Either is asked with token ids, so that nothing is tokenised
twice, and must come back for the same tokens: their number, ids where there are any, and texts are compared.

Source: vLLM's OpenAI-compatible server (`CompletionRequest.prompt_logprobs`); OpenAI's API reference, legacy
completions.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fcdistill.backends.openai.chat_wire import MalformedAnswerError, first_choice, token_counts
from fcdistill.config import ServedTeacherConfig

__all__ = ["GivenText", "ScoredText", "TokenLogprobs", "read_scores", "score_fields"]

_MOST = 1e-3
"""By so much a log-probability, or the sum of probabilities, may exceed its bound through rounding."""

_LEAST = -9999.0
"""What JSON, which has no minus infinity, mostly has in its place."""


@dataclass(frozen=True)
class GivenText:
    """A text whose last tokens are scored.

    Attributes:
        id: names it.
        prompt_ids: the tokens before; at least one.
        completion_ids: the tokens that are scored.
        completion_texts: what each of these tokens writes, as far as it can be written by itself.
    """

    id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    completion_texts: tuple[str, ...]


@dataclass(frozen=True)
class TokenLogprobs:
    """What is said of one token.

    Attributes:
        logprob: its log-probability at temperature 1, given all tokens before.
        likeliest: ids and log-probabilities of the likeliest tokens in its place, the likeliest first.
    """

    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class ScoredText:
    """The answer to a `GivenText`.

    Attributes:
        id: the text's.
        tokens: one per token of the completion.
        prompt_tokens: as the server counts them; None where it does not.
        completion_tokens: likewise.
    """

    id: str
    tokens: tuple[TokenLogprobs, ...]
    prompt_tokens: int | None
    completion_tokens: int | None


def score_fields(config: ServedTeacherConfig, given: GivenText, top_k: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request for a text: the fields of OpenAI's API, and those that vLLM adds.

    A token is generated too, and ignored: not all servers take a request for none.
    """
    body = {
        "model": config.model,
        "prompt": [*given.prompt_ids, *given.completion_ids],
        "max_tokens": 1,
        "temperature": 1.0,
    }
    if config.logprobs == "echo":
        # 1, although the alternatives are not read: 0 means none at all to some servers.
        return {**body, "echo": True, "logprobs": 1}, {}
    return body, {"prompt_logprobs": top_k}


def read_scores(config: ServedTeacherConfig, body: bytes, given: GivenText, top_k: int) -> ScoredText:
    """What a response says of the text's completion.

    Args:
        config: how it was asked.
        body: as it arrived.
        given: the text.
        top_k: how many of the likeliest tokens are wanted.

    Raises:
        MalformedAnswerError: there are no log-probabilities, or not those of these tokens.
    """
    document, choice = first_choice(body)
    read = _read_echo if config.logprobs == "echo" else _read_prompt_logprobs
    return ScoredText(given.id, read(choice, given, top_k), *token_counts(document))


def _read_prompt_logprobs(choice: Mapping[str, Any], given: GivenText, top_k: int) -> tuple[TokenLogprobs, ...]:
    entries = choice.get("prompt_logprobs")
    if not isinstance(entries, list):
        raise MalformedAnswerError("the response holds no prompt_logprobs")
    num_given = len(given.prompt_ids) + len(given.completion_ids)
    if len(entries) != num_given:
        raise MalformedAnswerError(f"prompt_logprobs of {len(entries)} tokens, where {num_given} were given")
    found = []
    for place, entry in enumerate(entries[len(given.prompt_ids) :]):
        token, text = given.completion_ids[place], given.completion_texts[place]
        own = entry.get(str(token)) if isinstance(entry, dict) else None
        if not isinstance(own, dict):
            raise MalformedAnswerError(f"prompt_logprobs without token {token} ({text!r}) where it was given")
        _require_text(own.get("decoded_token"), text, token)
        named = dict(_named(entry))
        likeliest = sorted(named.items(), key=lambda each: -each[1])[:top_k]
        if len(likeliest) < top_k:
            raise MalformedAnswerError(f"{len(named)} log-probabilities per token, where {top_k} were asked for")
        if math.fsum(math.exp(logprob) for _, logprob in likeliest) > 1 + _MOST:
            raise MalformedAnswerError("probabilities that add up to more than 1")
        found.append(TokenLogprobs(named[token], tuple(likeliest)))
    return tuple(found)


def _read_echo(choice: Mapping[str, Any], given: GivenText, _: int) -> tuple[TokenLogprobs, ...]:
    logprobs = choice.get("logprobs")
    logprobs = logprobs if isinstance(logprobs, dict) else {}
    texts, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(texts, list) or not isinstance(values, list) or len(texts) != len(values):
        raise MalformedAnswerError("the response holds no logprobs")
    start, end = len(given.prompt_ids), len(given.prompt_ids) + len(given.completion_ids)
    if len(texts) not in (end, end + 1):  # the generated token is omitted where it ends the text
        raise MalformedAnswerError(f"logprobs of {len(texts)} tokens, where {end} were given and one was to follow")
    for text, expected, token in zip(texts[start:end], given.completion_texts, given.completion_ids, strict=True):
        _require_text(text, expected, token)
    return tuple(TokenLogprobs(_logprob(value)) for value in values[start:end])


def _named(entry: Mapping[str, Any]) -> Iterator[tuple[int, float]]:
    for name, of in entry.items():
        if not name.isdecimal() or not isinstance(of, dict):
            raise MalformedAnswerError(f"prompt_logprobs with {name!r} in place of a token id")
        yield int(name), _logprob(of.get("logprob"))


def _logprob(found: Any) -> float:
    if not isinstance(found, int | float) or isinstance(found, bool) or not found <= _MOST:
        raise MalformedAnswerError(f"{found!r} in place of a log-probability")
    return min(max(float(found), _LEAST), 0.0)


def _require_text(found: Any, expected: str, token: int) -> None:
    """Servers write a token as text, as their vocabulary spells it, or as its id; half a character as they can."""
    if not isinstance(found, str) or found in ("", f"token_id:{token}") or found.startswith("bytes:"):
        return
    if "\ufffd" not in found + expected and _plain(found) != _plain(expected):
        raise MalformedAnswerError(
            f"{found!r} for token {token}, which is {expected!r} here: the served model has another tokenizer"
        )


def _plain(text: str) -> str:
    """Without the spaces around it, which not all servers show, and in whatever way they are spelt."""
    for spelt, meant in (("\u2581", " "), ("\u0120", " "), ("\u010a", "\n")):
        text = text.replace(spelt, meant)
    return text.strip(" ")
