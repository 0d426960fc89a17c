"""Adapters that change something, for the tests of `fcdistill.models`."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fcdistill.config import LoraTuning
from fcdistill.models.loading import load_model
from fcdistill.models.students import StudentCard, apply_lora, cut_layers, save_student
from fcdistill.records import ModelRef

IDS = torch.arange(3, 33)[None]


def card(base: str, **params: object) -> StudentCard:
    return StudentCard(tools_in_prompt="none", tools=(), base=ModelRef(model=base, params=params))


def trained_adapter(
    base: Path, directory: Path, keep: list[int] | None = None, token_ids: Sequence[int] = ()
) -> torch.Tensor:
    """Save an adapter that changes something; its logits on `IDS`."""
    loaded = load_model(str(base), dtype="float32")
    tuning = LoraTuning(lora_rank=2, lora_alpha=4)
    model = apply_lora(loaded.model if keep is None else cut_layers(loaded.model, keep), tuning, token_ids)
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_" in name or "trainable_tokens" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=generator)
    save_student(model, loaded.tokenizer, directory, card(str(base), **({"keep_layers": keep} if keep else {})))
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(IDS).logits
    return logits
