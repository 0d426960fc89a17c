"""Tests of `fcdistill.distillation.packed.recomputation`."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from fcdistill.distillation.packed import recomputation
from fcdistill.distillation.packed.forward import forward_rows
from fcdistill.distillation.packed.recomputation import keep_recipes, recompute_cheap_parts
from fcdistill.distillation.student.lora import fuse_lora
from tests.distillation.tiny_data import noisy_lora
from tests.tiny import tiny_model

IDS = torch.arange(24).view(2, 12)


def _student(family: str, *, lora: bool, autocast: torch.dtype | None = None) -> Any:
    """A student as it is trained: weights that are frozen have the precision of the products."""
    model = tiny_model(family, 60)  # type: ignore[arg-type]
    if not lora:
        return model
    torch.manual_seed(0)
    model.to(autocast or torch.float32)
    adapted = noisy_lora(model)
    assert fuse_lora(adapted)
    return adapted


def _logits(model: Any, *, autocast: torch.dtype | None = None) -> Tensor:
    rows_N = torch.arange(IDS.numel())
    return forward_rows(model, model.get_output_embeddings(), {"input_ids": IDS}, rows_N, autocast=autocast).logits_NV


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_logits_and_gradients_are_those_of_the_model_as_it_is(
    family: str, lora: bool, autocast: torch.dtype | None
) -> None:
    found = []
    for lean in (False, True):
        model = _student(family, lora=lora, autocast=autocast)
        if lean:
            assert recompute_cheap_parts(model) > 8
        logits_NV = _logits(model, autocast=autocast)
        logits_NV.float().pow(2).sum().backward()
        found.append((logits_NV, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    (plain_NV, plain), (lean_NV, lean_gradients) = found
    assert torch.equal(plain_NV, lean_NV) and plain.keys() == lean_gradients.keys() and plain
    tolerance = 1e-6 if autocast is None else 0.01  # a gradient's summands are added in another order
    assert all((plain[name] - found).norm() <= tolerance * plain[name].norm() for name, found in lean_gradients.items())


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("part", ["down_proj", "q_proj", "gate_proj"])
def test_what_products_read_is_not_kept(part: str, lora: bool) -> None:
    plain, lean = _student("llama", lora=lora), _student("llama", lora=lora)
    recompute_cheap_parts(lean)
    assert _is_kept(plain, part) and not _is_kept(lean, part)


def _is_kept(model: Any, part: str) -> bool:
    """Whether what this part of the first layer reads is still there after the forward pass."""
    seen: list[StorageWeakRef] = []
    module = next(module for name, module in model.named_modules() if name.endswith(part))
    module.register_forward_pre_hook(lambda _, inputs: seen.append(StorageWeakRef(inputs[0].untyped_storage())))
    logits_NV = _logits(model)
    assert len(seen) == 1 and logits_NV.requires_grad
    return not seen[0].expired()


def test_mlps_of_another_formula_and_norms_of_several_inputs_are_left_alone() -> None:
    model = tiny_model("llama", 60)
    num_norms = sum(type(module).__name__ == "LlamaRMSNorm" for module in model.modules())

    class Shifted(LlamaMLP):  # type: ignore[misc]
        def forward(self, hidden_states: Tensor) -> Tensor:
            return super().forward(hidden_states) + 1.0

    class OfTwoRMSNorm(LlamaRMSNorm):  # type: ignore[misc]
        def forward(self, hidden_states: Tensor, gate: Tensor | None = None) -> Tensor:
            return super().forward(hidden_states)

    for layer in model.model.layers:
        layer.mlp = Shifted(model.config)
    model.model.norm = OfTwoRMSNorm(32)
    assert recompute_cheap_parts(model) == num_norms - 1


def test_what_was_changed_in_place_is_kept_as_it_is() -> None:
    model = _lean(tiny_model("llama", 60))
    norm, weight = model.model.norm, torch.full((1, 32), 2.0, requires_grad=True)
    states = torch.linspace(-1.0, 1.0, 32).view(1, 32).requires_grad_()
    with keep_recipes():
        changed = norm(states).mul_(3.0)
        (changed * weight).sum().backward()
    assert torch.equal(weight.grad, changed.detach())


def test_nothing_is_remembered_after_the_backward_pass() -> None:
    model = _lean(tiny_model("llama", 60))
    _logits(model).sum().backward()
    gc.collect()
    assert not recomputation._results


def _lean(model: Any) -> Any:
    assert recompute_cheap_parts(model)
    return model
