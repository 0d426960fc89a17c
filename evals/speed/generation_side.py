"""One contender of the generation benchmark, in a process of its own.

Started by `generate.py`: `generation_side.py JOB DIRECTORY`. The jobs are `prepare`, which renders the prompts that all
contenders are given, the contenders, and `explain`, which looks at the logits where two of them chose other tokens.
The last line of stdout is the result as JSON, or with exit code 2 what is wrong with the input.

Forward passes are timed by hooks on the model, which all contenders share: a pass over several tokens per row reads
prompts, one over a single token writes. Model loading and a warm-up are not timed.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from generation_workload import Prompt, Settings, read_differences, read_prompts, read_settings, write_prompts
from measuring import peak_bytes
from transformers import GenerationConfig

from fcdistill.backends import Request
from fcdistill.backends.local import local_backend
from fcdistill.backends.local.continuation import Row, continued
from fcdistill.config import DecodeSettings
from fcdistill.errors import DataError, FcdistillError
from fcdistill.models.loading import LoadedModel, load_model, load_tokenizer
from fcdistill.prompts.rendering import render_prompt, stop_token_ids
from fcdistill.prompts.worked_examples import with_context
from fcdistill.records import Message, SeedRequest
from fcdistill.storage import read_jsonl
from fcdistill.tools.catalog import load_catalog

__all__ = ["main"]

_WARM_UP = "Say hello."
Write = Callable[[LoadedModel, Settings, list[Prompt]], dict[str, list[int]]]
"""Writes the answers to prompts: token ids by prompt id."""


def main(job: str, directory: Path) -> dict[str, Any]:
    """Do one job in a run's directory; returns its result."""
    settings = read_settings(directory)
    if job == "prepare":
        return _prepare(settings, directory)
    loaded = load_model(settings.model, dtype=settings.dtype, device=settings.device)
    if job == "explain":
        return _explain(loaded, settings, directory)
    return _timed(_CONTENDERS[job], loaded, settings, read_prompts(directory))


def _prepare(settings: Settings, directory: Path) -> dict[str, Any]:
    """Render the prompts: the first tools of the catalogue in full, and one request each."""
    seeds = read_jsonl(Path(settings.requests), SeedRequest, "requests")
    specs = load_catalog(settings.tools).specs
    counts = {"requests": (len(seeds), settings.num_requests), "tools": (len(specs), settings.num_tools)}
    for flag, (found, asked) in counts.items():
        if found < asked:
            raise DataError(
                f"--{flag} names a file with {found}",
                required=f"at least {asked}",
                fix=f"lower --num-{flag}, or name another file",
            )
    tokenizer = load_tokenizer(settings.model)
    prompts = [
        Prompt(
            id=seed.id,
            text=with_context(seed.system, seed.text),
            ids=tuple(render_prompt(tokenizer, _messages(seed), specs[: settings.num_tools], "full")),
        )
        for seed in seeds[: settings.num_requests]
    ]
    write_prompts(directory, prompts)
    ids = [prompt.ids for prompt in prompts]
    shared = next(index for index, tokens in enumerate(zip(*ids, strict=False)) if len(set(tokens)) > 1)
    return {"prompt_tokens": sum(map(len, ids)), "shared_tokens": shared}


def _messages(seed: SeedRequest) -> tuple[Message, ...]:
    return (Message(role="user", content=with_context(seed.system, seed.text)),)


def _timed(write: Write, loaded: LoadedModel, settings: Settings, prompts: list[Prompt]) -> dict[str, Any]:
    warm_up = Prompt("warm-up", _WARM_UP, tuple(loaded.tokenizer(_WARM_UP)["input_ids"]))
    write(loaded, settings, [warm_up])
    with _watched(loaded, settings.device) as passes:
        started, started_cpu = time.perf_counter(), time.process_time()
        written = write(loaded, settings, prompts)
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        **asdict(passes),
        "written_tokens": sum(map(len, written.values())),
        "peak_bytes": peak_bytes(settings.device),
        "written": written,
    }


@dataclass
class _Passes:
    """The forward passes of a contender, padding included."""

    prefill_s: float = 0.0
    prefill_tokens: int = 0
    decode_s: float = 0.0
    decode_passes: int = 0


@contextmanager
def _watched(loaded: LoadedModel, device: str) -> Iterator[_Passes]:
    """Time the model's forward passes inside the block."""
    passes, began = _Passes(), [0.0]

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        began[0] = now()

    def after(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        seconds, ids_BT = now() - began[0], kwargs["input_ids"]
        if ids_BT.shape[1] > 1:
            passes.prefill_s += seconds
            passes.prefill_tokens += ids_BT.numel()
        else:
            passes.decode_s += seconds
            passes.decode_passes += 1

    hooks = [
        loaded.model.register_forward_pre_hook(before, with_kwargs=True),
        loaded.model.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def _with_fcdistill(loaded: LoadedModel, settings: Settings, prompts: list[Prompt]) -> dict[str, list[int]]:
    """What `generate` and `eval` use, with the token ids of the rows that it wrote."""
    rows: list[Row] = []

    def recorded(decoder: Any, given: list[Row], *args: Any, **kwargs: Any) -> Any:
        rows.extend(given)
        return continued(decoder, given, *args, **kwargs)

    specs = load_catalog(settings.tools).specs[: settings.num_tools]
    requests = [Request(prompt.id, (Message(role="user", content=prompt.text),), specs) for prompt in prompts]
    backend = local_backend.LocalBackend(loaded, batch_size=settings.batch_size)
    with mock.patch.object(local_backend, "continued", recorded):
        list(backend.complete(requests, DecodeSettings(max_new_tokens=settings.max_new_tokens)))
    return {row.id: row.generated for row in rows}


def _with_generate(loaded: LoadedModel, settings: Settings, prompts: list[Prompt]) -> dict[str, list[int]]:
    """Plain batches of `transformers.generate`, prompts of like length together, padded on the left."""
    stops = stop_token_ids(loaded.tokenizer)
    greedy = GenerationConfig(
        do_sample=False, max_new_tokens=settings.max_new_tokens, eos_token_id=list(stops), pad_token_id=stops[0]
    )
    ordered = sorted(prompts, key=lambda prompt: -len(prompt.ids))
    written: dict[str, list[int]] = {}
    for first in range(0, len(ordered), settings.batch_size):
        batch = ordered[first : first + settings.batch_size]
        width = len(batch[0].ids)
        ids_BT = torch.tensor([[stops[0]] * (width - len(prompt.ids)) + list(prompt.ids) for prompt in batch])
        mask_BT = torch.tensor([[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in batch])
        with torch.inference_mode():
            out_BT = loaded.model.generate(
                input_ids=ids_BT.to(loaded.model.device),
                attention_mask=mask_BT.to(loaded.model.device),
                generation_config=greedy,
            )
        for prompt, row in zip(batch, out_BT[:, width:].tolist(), strict=True):
            end = next((index for index, token in enumerate(row) if token in stops), len(row))
            written[prompt.id] = row[: end + 1]
    return written


_CONTENDERS: dict[str, Write] = {"fcdistill": _with_fcdistill, "generate": _with_generate}


def _explain(loaded: LoadedModel, settings: Settings, directory: Path) -> dict[str, Any]:
    """Where contenders part: how far apart a plain forward pass over the single prompt puts the tokens they chose."""
    prompts = {prompt.id: prompt for prompt in read_prompts(directory)}
    found = []
    for each in read_differences(directory):
        ids_T = torch.tensor([[*prompts[each.id].ids, *each.before]], device=loaded.model.device)
        with torch.inference_mode():
            logits_V = loaded.model(input_ids=ids_T, logits_to_keep=1).logits[0, -1].float()
        top = logits_V.topk(2)
        highest = float(top.values[0])
        # Neighbouring numbers of the model's precision lie so far apart at this height.
        spacing = 2.0 ** math.floor(math.log2(abs(highest))) * torch.finfo(loaded.model.dtype).eps
        gap = abs(float(logits_V[each.ours] - logits_V[each.theirs]))
        found.append(
            {
                "id": each.id,
                "position": len(each.before),
                "tokens": [loaded.tokenizer.decode([token]) for token in (each.ours, each.theirs)],
                "are_top_two": {each.ours, each.theirs} == set(top.indices.tolist()),
                "logit_gap": round(gap, 4),
                "rounding_steps": round(gap / spacing, 2),
            }
        )
    return {"differences": found}


if __name__ == "__main__":
    torch.set_num_threads(read_settings(Path(sys.argv[2])).num_threads)
    try:
        print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))
    except FcdistillError as error:
        print(error)
        sys.exit(error.exit_code)
