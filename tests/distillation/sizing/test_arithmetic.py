import pytest
import torch
from torch import nn

from fcdistill.config import LoraTuning
from fcdistill.distillation.losses.chunks import CHUNK_ROWS
from fcdistill.distillation.packed import recomputation
from fcdistill.distillation.sizing.arithmetic import (
    ModelShapes,
    logits_bytes,
    optimizer_bytes,
    shapes_of,
    student_activation_bytes,
    teacher_activation_bytes,
    trained_parameters,
    weight_bytes,
)
from fcdistill.models.students import apply_lora
from tests.tiny import tiny_model


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_counted_as_they_lie_in_memory(tied: bool) -> None:
    model = tiny_model("llama", 100, tie_word_embeddings=tied)
    assert shapes_of(model).num_parameters == _count(model)
    assert weight_bytes(model, "float32") == 4 * _count(model)
    assert weight_bytes(model, "bfloat16") == sum(value.numel() * 2 for value in model.parameters())
    linear = [module for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]
    in_linear = sum(module.weight.numel() for module in linear)
    rows = sum(module.out_features for module in linear)
    assert weight_bytes(model, "bfloat16", "8bit") == 2 * (_count(model) - in_linear) + in_linear + 4 * rows
    assert weight_bytes(model, "bfloat16", "4bit") == pytest.approx(
        2 * (_count(model) - in_linear) + in_linear * 4.127 / 8, rel=1e-3
    )


def test_adapters_are_counted_exactly_without_weights() -> None:
    with torch.device("meta"):
        skeleton = type(tiny_model())(tiny_model().config)
        found = trained_parameters(apply_lora(skeleton, LoraTuning(lora_rank=3)))
    real = apply_lora(tiny_model(), LoraTuning(lora_rank=3))
    assert found == trained_parameters(real) == sum(p.numel() for p in real.parameters() if p.requires_grad) > 0
    assert optimizer_bytes(found) == 2 * 4 * found


def test_shapes_of_grouped_heads_and_experts() -> None:
    model = tiny_model("llama", 100, hidden_size=32)
    shapes = shapes_of(model)
    assert (shapes.query_width, shapes.key_width, shapes.mlp_width) == (32, 16, 64)
    model.config.num_experts_per_tok, model.config.moe_intermediate_size = 3, 10
    assert shapes_of(model).mlp_width == 30


SHAPES = ModelShapes(
    num_parameters=0, num_layers=3, width=8, query_width=8, key_width=4, mlp_width=16, vocabulary_size=50
)


def test_activations_are_the_formula_of_the_docstring() -> None:
    layer = 2 * (2 * 8 + 2 * 8 + 2 * 4 + 2 * 16)
    assert student_activation_bytes(SHAPES, 10, "bfloat16", checkpointing=False) == 10 * 3 * layer
    again = student_activation_bytes(SHAPES, 10, "bfloat16", checkpointing=True)
    assert again == 10 * (3 * 2 * 8 + layer + 2 * 2 * 16 + 8 * 8)
    assert teacher_activation_bytes(SHAPES, 10, "float32", keeps_hidden=False) == 10 * 4 * (4 * 8 + 3 * 16)


def test_logits_have_a_gradient_on_the_students_side_and_a_chunk_in_float32() -> None:
    assert logits_bytes(7, 50, "bfloat16") == 7 * 2 * 2 * 50 + 5 * 4 * 7 * 50
    assert logits_bytes(1000, 50, "bfloat16") == 1000 * 2 * 2 * 50 + 5 * 4 * CHUNK_ROWS * 50
    assert logits_bytes(7, 50, "float16") == logits_bytes(7, 50, "float32") == 7 * 2 * 4 * 50 + 5 * 4 * 7 * 50


@pytest.mark.parametrize("lean", [True, False])
def test_what_autograd_keeps_of_a_layer_is_near_the_formula(lean: bool) -> None:
    """Saved tensors of a whole pass of a wide model with adapters, each storage once, weights and logits aside."""
    model = apply_lora(tiny_model("llama", 50, hidden_size=256, num_layers=3), LoraTuning(lora_rank=4))
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    if lean:
        recomputation.recompute_cheap_parts(model)

    def pack(tensor: torch.Tensor) -> object:
        storage = tensor.untyped_storage()
        found = recomputation._pack(tensor)
        if isinstance(found, torch.Tensor) and storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return found

    num_tokens = 96
    with torch.autograd.graph.saved_tensors_hooks(pack, recomputation._unpack):
        outputs = model(torch.arange(num_tokens)[None] % 50, use_cache=False)
    shapes = shapes_of(model.get_base_model())
    expected = student_activation_bytes(shapes, num_tokens, "float32", checkpointing=False)
    if not lean:
        one_layer = student_activation_bytes(shapes, num_tokens, "float32", checkpointing=True)
        expected = 3 * (one_layer - 3 * 4 * num_tokens * shapes.width)
    assert sum(kept.values()) == pytest.approx(expected, rel=0.25)
    assert outputs.logits.requires_grad
