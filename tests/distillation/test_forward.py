import logging
import random

import pytest
import torch
from torch import nn

from fcdistill.distillation.forward import forward_rows, model_inputs, packing_is_exact
from fcdistill.distillation.packing import pack_tree
from tests.tiny import tiny_model


def _sequences(prefix: int, low: int, high: int, count: int = 6) -> list[list[int]]:
    generator = random.Random(prefix)
    shared = [generator.randrange(60) for _ in range(prefix)]
    return [shared + [generator.randrange(60) for _ in range(generator.randint(low, high))] for _ in range(count)]


def _check(model: nn.Module, sequences: list[list[int]], autocast: torch.dtype | None = None) -> bool:
    return packing_is_exact(model, model.get_output_embeddings(), sequences, name="student", autocast=autocast)  # type: ignore[operator]


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
    inputs = model_inputs(rows)
    wanted = torch.tensor([4, 0, 0, 6])
    whole = model(**inputs, output_hidden_states=True)
    found = forward_rows(
        model, model.get_output_embeddings(), inputs, wanted, layers=(2, 4), hidden_rows_M=torch.tensor([1])
    )
    assert whole.logits.abs().max() <= 2.0
    assert torch.allclose(found.logits_NV, whole.logits.flatten(0, 1)[wanted], atol=1e-6)
    for layer in (2, 4):
        assert torch.equal(found.hidden_MH[layer], whole.hidden_states[layer].flatten(0, 1)[[1]])
