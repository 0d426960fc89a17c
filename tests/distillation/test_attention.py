"""Tests of `fcdistill.distillation.attention`."""

import random

import pytest
import torch
from torch import Tensor

from fcdistill.distillation import attention
from fcdistill.distillation.attention import training_attention
from fcdistill.distillation.forward import forward_rows, model_inputs
from fcdistill.distillation.packing import pack_tree, pad_rows
from tests.tiny import Family, tiny_model


def _rows(length: int = 20, *, packed: bool = True) -> dict[str, Tensor]:
    generator = random.Random(length)
    shared = [generator.randrange(60) for _ in range(5)]
    sequences = [shared + [generator.randrange(60) for _ in range(length - n)] for n in range(4)]
    return model_inputs(pack_tree(sequences, max_tokens=4096) if packed else pad_rows(sequences))


def _outputs(family: Family, inputs: dict[str, Tensor], *, fast: bool, autocast: bool = False) -> list[Tensor]:
    """Logits, and the gradients of a random projection of them."""
    model = tiny_model(family, 60)
    torch.manual_seed(0)
    context = training_attention(model) if fast else torch.enable_grad()
    with context:
        rows_N = torch.arange(inputs["input_ids"].numel())
        precision = torch.bfloat16 if autocast else None
        logits_NV = forward_rows(model, model.get_output_embeddings(), inputs, rows_N, autocast=precision).logits_NV
        (logits_NV.float() * torch.randn(logits_NV.shape)).sum().backward()
    return [logits_NV.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("packed", [True, False])
def test_logits_and_gradients_are_those_of_the_fused_kernel(
    family: Family, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    grouped = attention._grouped
    monkeypatch.setattr(attention, "_grouped", lambda *tensors: calls.append(1) or grouped(*tensors))
    inputs = _rows(packed=packed)
    fast, fused = (_outputs(family, inputs, fast=fast) for fast in (True, False))
    assert calls and len(fast) == len(fused) > 10
    for ours, theirs in zip(fast, fused, strict=True):
        assert (ours - theirs).norm() < 2e-5 * theirs.norm()


def test_under_autocast_it_agrees_to_rounding() -> None:
    inputs = _rows()
    fast, fused = (_outputs("llama", inputs, fast=fast, autocast=True)[0].float() for fast in (True, False))
    assert (fast - fused).norm() < 0.02 * fused.norm()


def test_large_scores_are_not_rounded_before_the_softmax() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 24, 16).bfloat16() for _ in range(3))
    query += 4  # as where all keys have a direction in common: scores of some hundreds that differ by a few
    key += 4
    mask = torch.ones(1, 1, 24, 24, dtype=torch.bool).tril()
    found = attention._grouped(query, key, value, mask, 1.0).float()
    exact = (query.double() @ key.double().transpose(2, 3)).masked_fill(~mask, -torch.inf).softmax(-1) @ value.double()
    assert (found - exact.transpose(1, 2)).abs().max() < 0.02


def test_long_rows_go_to_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_LONGEST_ROW", 10)
    monkeypatch.setattr(attention, "_grouped", lambda *_: pytest.fail("a long row"))
    fast, fused = (_outputs("llama", _rows(), fast=fast)[0] for fast in (True, False))
    assert torch.equal(fast, fused)


def test_the_model_attends_as_before_afterwards_and_other_choices_are_respected() -> None:
    model = tiny_model("llama", 60)
    with training_attention(model):
        assert model.config._attn_implementation == "fcdistill_grouped"
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    with training_attention(model):
        assert model.config._attn_implementation == "eager"
