import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fcdistill.distillation.student.lora import adapter_off, fuse_lora
from tests.distillation.tiny_data import VOCABULARY, noisy_lora
from tests.tiny import tiny_model

IDS = torch.arange(24).view(2, 12)


def tied_model(family: str, tied: bool) -> Any:
    """A tiny model whose input and output embeddings are one matrix, or two."""
    model = tiny_model(family, VOCABULARY)  # type: ignore[arg-type]
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return model


def _gradients(model: nn.Module, autocast: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(IDS).logits.float()
    logits.log_softmax(-1).square().mean().backward()
    grads = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    return logits.detach(), grads


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_fused_layers_compute_what_peft_computes(family: str) -> None:
    model = noisy_lora(tiny_model(family, VOCABULARY))  # type: ignore[arg-type]
    logits, grads = _gradients(model)
    assert fuse_lora(model) == 4 * 7
    fused_logits, fused_grads = _gradients(model)
    assert torch.allclose(fused_logits, logits, atol=1e-5)
    assert fused_grads.keys() == grads.keys() and all("lora_" in name for name in grads)
    for name, value in grads.items():
        assert torch.allclose(fused_grads[name], value, atol=1e-6, rtol=1e-4), name


def test_a_bfloat16_base_agrees_up_to_its_rounding_and_the_adapters_have_float32_gradients() -> None:
    exact = noisy_lora(tiny_model("llama", VOCABULARY))
    _, grads = _gradients(exact)
    model = copy.deepcopy(exact).bfloat16()
    for (_, parameter), (_, precise) in zip(model.named_parameters(), exact.named_parameters(), strict=True):
        if parameter.requires_grad:
            parameter.data = precise.data.clone()
    fuse_lora(model)
    _, fused_grads = _gradients(model, autocast=True)
    for name, value in grads.items():
        assert fused_grads[name].dtype == torch.float32
        assert (fused_grads[name] - value).norm() < 0.1 * value.norm(), name


def test_adapters_can_still_be_disabled_and_merged() -> None:
    base = tiny_model("llama", VOCABULARY)
    plain = base(IDS).logits
    model = noisy_lora(base)
    fuse_lora(model)
    adapted = model(IDS).logits
    assert not torch.allclose(adapted, plain, atol=1e-2)
    with model.disable_adapter():
        assert torch.allclose(model(IDS).logits, plain, atol=1e-6)
    assert torch.allclose(model.merge_and_unload()(IDS).logits, adapted, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("tied", [True, False])
def test_trained_rows_compute_what_peft_computes(family: str, tied: bool) -> None:
    model = noisy_lora(tied_model(family, tied), token_ids=[5, 20])
    rows = {name: weight for name, weight in model.named_parameters() if "trainable_tokens" in name}
    assert len(rows) == (1 if tied else 2) and all(weight.requires_grad for weight in rows.values())
    for seed, weight in enumerate(rows.values()):
        weight.data += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    logits, grads = _gradients(model)
    assert fuse_lora(model) == 4 * 7 + 2
    fused_logits, fused_grads = _gradients(model)
    assert torch.allclose(fused_logits, logits, atol=1e-5)
    assert fused_grads.keys() == grads.keys() >= rows.keys()
    for name, value in grads.items():
        assert value.norm() > 0 and torch.allclose(fused_grads[name], value, atol=1e-6, rtol=1e-4), name


@pytest.mark.parametrize("tied", [True, False])
def test_trained_rows_are_disabled_and_merged_with_the_adapters(tied: bool) -> None:
    base = tied_model("qwen2", tied)
    plain = base(IDS).logits
    model = noisy_lora(base, token_ids=[5, 20])
    fuse_lora(model)
    assert "trainable_tokens" in str([name for name, _ in model.named_parameters()])
    for name, weight in model.named_parameters():
        if "trainable_tokens" in name:
            weight.data += 0.5
    adapted = model(IDS).logits
    with adapter_off(model):
        assert torch.equal(model(IDS).logits, plain)
    assert not torch.allclose(adapted[..., 5], plain[..., 5], atol=1e-2)
    assert torch.allclose(model.merge_and_unload()(IDS).logits, adapted, atol=1e-4)


def test_layers_with_dropout_are_left_to_peft() -> None:
    assert fuse_lora(noisy_lora(tiny_model("llama", VOCABULARY), lora_dropout=0.1)) == 0


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("training", [False, True])
def test_without_its_adapter_a_model_is_exactly_its_base(dropout: float, training: bool) -> None:
    model = noisy_lora(tiny_model("llama", VOCABULARY), lora_dropout=dropout).train(training)
    fused = fuse_lora(model)
    assert (fused > 0) == (dropout == 0)
    with torch.no_grad():
        adapted = model.eval()(IDS).logits
        model.train(training)
        with adapter_off(model):
            assert torch.equal(model(IDS).logits, tiny_model("llama", VOCABULARY)(IDS).logits)
        assert all(module.training == training for module in model.modules())
        assert torch.equal(model.eval()(IDS).logits, adapted)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {
        name for name, _ in model.named_parameters() if "lora_" in name
    }


def test_an_error_puts_the_adapter_back() -> None:
    model = noisy_lora(tiny_model("llama", VOCABULARY)).train()
    with torch.no_grad():
        adapted = model(IDS).logits
        with pytest.raises(RuntimeError), adapter_off(model):
            raise RuntimeError
        assert model.training and torch.equal(model(IDS).logits, adapted)
