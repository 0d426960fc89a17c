"""A model on loopback that scores the texts it is sent, as vLLM (`prompt_logprobs`) and OpenAI (`echo`) answer."""

import functools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fcdistill.models.loading import load_model
from tests.backends.openai.faulty_server import Reply, failure

__all__ = ["served", "without"]

MOST_LOGPROBS = 20
"""vLLM's limit where nothing else is said."""


def served(directory: Path) -> Callable[[dict[str, Any], int], Reply]:
    """The behaviour of a server that has a model."""
    loaded = load_model(str(directory), dtype="float32", device="cpu")
    lock = threading.Lock()

    def logprobs(ids: list[int]) -> Tensor:
        with lock, torch.no_grad():
            return loaded.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)

    @functools.cache
    def text(token: int) -> str:
        return str(loaded.tokenizer.decode([token], skip_special_tokens=False))

    def answer(body: dict[str, Any], earlier: int) -> Reply:
        ids, top_k = body["prompt"], body.get("prompt_logprobs")
        assert isinstance(ids, list) and body["max_tokens"] == 1 and body["temperature"] == 1.0
        rows_NV = logprobs(ids)
        choice: dict[str, Any] = {"text": "x", "finish_reason": "length"}
        if top_k is not None:
            if top_k > MOST_LOGPROBS:
                return failure(400, f"Requested prompt logprobs of {top_k}, which is greater than max allowed: 20")
            own_N = rows_NV[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
            top = rows_NV[:-1].topk(top_k)
            entries = map(entry, ids[1:], own_N, top.indices.tolist(), top.values.tolist())
            choice["prompt_logprobs"] = [None, *entries]
        elif body.get("echo"):
            token_logprobs = [None, *rows_NV[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist(), -1.0]
            tokens = [*map(text, ids), "x"]
            choice["logprobs"] = {"tokens": tokens, "token_logprobs": token_logprobs, "top_logprobs": None}
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1}
        return Reply(body=json.dumps({"choices": [choice], "usage": usage}).encode())

    def entry(token: int, own: float, likeliest: list[int], logprobs: list[float]) -> dict[str, Any]:
        # The given token first, as vLLM has it.
        chosen = {token: own, **dict(zip(likeliest, logprobs, strict=True))}
        return {
            str(index): {"logprob": logprob, "rank": None, "decoded_token": text(index)}
            for index, logprob in chosen.items()
        }

    return answer


def without(reply: Reply, change: Callable[[dict[str, Any]], object]) -> Reply:
    """A sound reply with its choice changed."""
    document = json.loads(reply.body)
    change(document["choices"][0])
    return Reply(body=json.dumps(document).encode())
