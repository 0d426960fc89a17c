import logging
import random
from typing import Any

import pytest
import torch
from torch import nn

from fcdistill.distillation.packed import attention
from fcdistill.distillation.packed.attention import takes_block_masks
from fcdistill.distillation.packed.forward import Packing, choose_packing, forward_rows, model_inputs
from fcdistill.distillation.packed.packing import pack_tree
from tests.tiny import tiny_model


def _sequences(prefix: int, low: int, high: int, count: int = 6) -> list[list[int]]:
    generator = random.Random(prefix)
    shared = [generator.randrange(60) for _ in range(prefix)]
    return [shared + [generator.randrange(60) for _ in range(generator.randint(low, high))] for _ in range(count)]


def _check(model: nn.Module, sequences: list[list[int]], autocast: torch.dtype | None = None) -> bool:
    packing = _packing(model, sequences, autocast)
    assert packing in ("dense_mask", "none")
    return packing == "dense_mask"


def _packing(model: nn.Module, sequences: list[list[int]], autocast: torch.dtype | None = None) -> Packing:
    return choose_packing(model, model.get_output_embeddings(), sequences, name="student", autocast=autocast)  # type: ignore[operator]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "autocast"])
def test_packing_is_exact_for_plain_causal_attention(
    family: str, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model(family, 60)  # type: ignore[arg-type]
    autocast = torch.bfloat16 if precision == "autocast" else None
    assert _check(model.bfloat16() if precision == "bfloat16" else model, _sequences(30, 5, 30), autocast)
    assert not caplog.records


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sliding_windows_shorter_than_a_sequence_fall_back_with_a_warning(
    dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("gemma3", 60).to(dtype)
    with caplog.at_level(logging.WARNING):
        assert not _check(model, _sequences(30, 5, 30))
    assert "packing is not exact for the student" in caplog.text and "unpacked rows" in caplog.text


def test_sliding_windows_longer_than_all_sequences_can_be_packed() -> None:
    assert _check(tiny_model("gemma3", 60), _sequences(4, 2, 8))


def test_a_model_that_fails_on_packed_rows_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model("llama", 60)
    model.register_forward_pre_hook(_refuse_four_dimensional_masks, with_kwargs=True)
    with caplog.at_level(logging.WARNING):
        assert not _check(model, _sequences(3, 2, 8))
    assert "RuntimeError: two-dimensional masks only" in caplog.text


def _refuse_four_dimensional_masks(_: nn.Module, __: tuple[object, ...], kwargs: dict[str, torch.Tensor]) -> None:
    if kwargs["attention_mask"].ndim == 4:
        raise RuntimeError("two-dimensional masks only")


@pytest.mark.parametrize("training", [True, False])
def test_the_check_leaves_the_model_as_it_was(training: bool) -> None:
    model = tiny_model("llama", 60).train(training)
    _check(model, _sequences(3, 2, 8))
    assert model.training == training
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_selected_rows_are_those_of_a_whole_forward_pass_with_what_the_model_does_to_its_logits() -> None:
    model = tiny_model("gemma3", 60, final_logit_softcapping=2.0)
    rows = pack_tree([[1, 2, 3, 4], [1, 2, 5], [6, 7]], max_tokens=5)
    inputs = model_inputs(rows, "dense_mask")
    wanted = torch.tensor([4, 0, 0, 6])
    whole = model(**inputs, output_hidden_states=True)
    found = forward_rows(
        model, model.get_output_embeddings(), inputs, wanted, layers=(2, 4), hidden_rows_M=torch.tensor([1])
    )
    assert whole.logits.abs().max() <= 2.0
    assert torch.allclose(found.logits_NV, whole.logits.flatten(0, 1)[wanted], atol=1e-6)
    for layer in (2, 4):
        assert torch.equal(found.hidden_MH[layer], whole.hidden_states[layer].flatten(0, 1)[[1]])


@pytest.mark.usefixtures("flex_on_cpu")
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_flex_attention_is_chosen_where_it_runs(family: str, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_model(family, 60)  # type: ignore[arg-type]
    assert _packing(model, _sequences(4, 2, 8)) == "block_mask"
    assert not caplog.records
    assert model.config._attn_implementation == "sdpa"
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.usefixtures("flex_on_cpu")
def test_neither_kind_of_mask_makes_short_sliding_windows_exact(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert _packing(tiny_model("gemma3", 60), _sequences(30, 5, 30)) == "none"
    first, second = (record.getMessage() for record in caplog.records)
    assert "packing with flex attention is not exact for the student" in first and "every pair" in first
    assert "packing is not exact for the student" in second and "unpacked rows" in second


@pytest.mark.usefixtures("flex_on_cpu")
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_dense_masks_are_used_where_flex_attention_fails(
    direction: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(query_BHTD: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"no kernel for the way {direction}")

    run = attention.flex_attention_forward

    def flex(module: nn.Module, query_BHTD: torch.Tensor, *heads: torch.Tensor, **others: Any) -> Any:
        if direction == "forward":
            broken(query_BHTD)
        attended, rest = run(module, query_BHTD, *heads, **others)
        attended.register_hook(broken)
        return attended, rest

    monkeypatch.setattr(attention, "flex_attention_forward", flex)
    with caplog.at_level(logging.WARNING):
        assert _packing(tiny_model("llama", 60), _sequences(4, 2, 8)) == "dense_mask"
    assert f"no kernel for the way {direction}" in caplog.text


@pytest.mark.usefixtures("flex_on_cpu")
def test_flex_attention_is_not_tried_where_it_can_not_serve() -> None:
    dropout = tiny_model("llama", 60, attention_dropout=0.1)
    eager = tiny_model("llama", 60)
    eager.set_attn_implementation("eager")
    unable = tiny_model("llama", 60)
    unable._supports_flex_attn = False
    assert takes_block_masks(tiny_model("llama", 60))
    assert not any(map(takes_block_masks, (dropout, eager, unable, nn.Linear(2, 2))))


def test_flex_attention_is_not_tried_on_cpus() -> None:
    assert not takes_block_masks(tiny_model("llama", 60))
