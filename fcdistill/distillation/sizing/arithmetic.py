"""How much memory training takes: arithmetic on shapes, no weights and no measurement.

Parameters are counted exactly. What a forward pass keeps for the backward pass is estimated from the operations of a
decoder layer in transformers (two RMS norms, fused attention, a gated MLP), with frozen base weights: a frozen product
keeps its input, nothing is kept twice, and norms and gates keep their inputs alone (`recomputation`). Per token and
layer, b bytes per value:

    b * (2 H + 2 Q + 2 G + 2 I)        the inputs of norms and gate, what attention keeps, its result
    b * 2 I + 8 H                      besides, where they are not computed again: what norms and gates keep themselves

With gradient checkpointing each layer keeps its input, and one layer at a time all of it. Hidden states that are given
out are the inputs of norms.

Axes: T tokens of a micro batch, N supervised tokens, V vocabulary, H width, Q and G widths of all query and of all key
heads, I width of the MLP (of the experts that a token meets), L layers.
"""

import os
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from fcdistill.config import Dtype, Quantization
from fcdistill.distillation.losses.chunks import CHUNK_ROWS
from fcdistill.models.quantization import quantized_bytes

__all__ = [
    "DTYPE_BYTES",
    "ModelShapes",
    "available_bytes",
    "chunk_bytes",
    "logits_bytes",
    "optimizer_bytes",
    "shapes_of",
    "student_activation_bytes",
    "teacher_activation_bytes",
    "trained_parameters",
    "weight_bytes",
]

DTYPE_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}

_LOGIT_BYTES = DTYPE_BYTES | {"float16": DTYPE_BYTES["float32"]}
"""Bytes of one of the student's logits: accelerate widens what a model that is trained in float16 gives."""

_CHUNK_COPIES = 5
"""[rows, V] float32 tensors of a chunk that exist at once: both sides' log-probabilities, what the divergence keeps of
them, and gradients."""


@dataclass(frozen=True)
class ModelShapes:
    """What the arithmetic needs of an architecture."""

    num_parameters: int
    num_layers: int
    width: int
    query_width: int
    key_width: int
    mlp_width: int
    """Of all experts that a token meets."""
    vocabulary_size: int
    """Columns of the head."""


def shapes_of(model: PreTrainedModel) -> ModelShapes:
    """The shapes of a model, which may be on the meta device."""
    config = model.config.get_text_config()
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    num_key_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    mlp_width = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    if experts := getattr(config, "num_experts_per_tok", None):
        mlp_width = experts * (getattr(config, "moe_intermediate_size", None) or mlp_width)
    return ModelShapes(
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_layers=config.num_hidden_layers,
        width=config.hidden_size,
        query_width=head_width * config.num_attention_heads,
        key_width=head_width * num_key_heads,
        mlp_width=mlp_width,
        vocabulary_size=config.vocab_size,
    )


def weight_bytes(model: PreTrainedModel, dtype: Dtype, quantization: Quantization = "none") -> int:
    """Bytes of a model's weights in memory; tied ones count once, and the head is never quantised."""
    total = float(sum(parameter.numel() for parameter in model.parameters()) * DTYPE_BYTES[dtype])
    if quantization != "none":
        head = model.get_output_embeddings()
        for module in model.modules():
            if isinstance(module, nn.Linear) and module is not head:
                outputs, inputs = module.weight.shape
                total += quantized_bytes(quantization, outputs, inputs) - outputs * inputs * DTYPE_BYTES[dtype]
    return round(total)


def trained_parameters(model: nn.Module) -> int:
    """How many parameters training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def optimizer_bytes(num_trained: int) -> int:
    """AdamW's two moments, float32."""
    return 8 * num_trained


def student_activation_bytes(shapes: ModelShapes, num_tokens: int, dtype: Dtype, *, checkpointing: bool) -> int:
    """Bytes that a forward pass over T tokens keeps until its backward pass, logits aside.

    Args:
        shapes: of the student.
        num_tokens: T, padding included.
        dtype: precision of products.
        checkpointing: whether layers are computed again.
    """
    width = DTYPE_BYTES[dtype]
    layer = 2 * width * (shapes.width + shapes.query_width + shapes.key_width + shapes.mlp_width)
    if checkpointing:
        whole_layer = layer + 2 * width * shapes.mlp_width + 8 * shapes.width
        return num_tokens * (shapes.num_layers * width * shapes.width + whole_layer)
    return shapes.num_layers * num_tokens * layer


def teacher_activation_bytes(shapes: ModelShapes, num_tokens: int, dtype: Dtype, *, keeps_hidden: bool) -> int:
    """Bytes that a pass over T tokens without gradients needs at once: the widest layer's, and kept hidden states."""
    width = DTYPE_BYTES[dtype]
    transient = 4 * shapes.width + 3 * max(shapes.mlp_width, shapes.query_width)
    kept = (shapes.num_layers + 1) * shapes.width if keeps_hidden else 0
    return num_tokens * width * (transient + kept)


def logits_bytes(num_rows: int, vocabulary_size: int, dtype: Dtype) -> int:
    """Bytes of the loss over N rows: the student's logits, their gradient, and a chunk of them; the teacher's aside."""
    return 2 * num_rows * vocabulary_size * _LOGIT_BYTES[dtype] + chunk_bytes(num_rows, vocabulary_size)


def chunk_bytes(num_rows: int, vocabulary_size: int) -> int:
    """Bytes of what is computed in float32 from as many of N rows of logits as are worked on at once."""
    return _CHUNK_COPIES * DTYPE_BYTES["float32"] * min(num_rows, CHUNK_ROWS) * vocabulary_size


def available_bytes(device: torch.device) -> int | None:
    """Memory of a device of this machine; None where there is no such device here."""
    if device.type == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device.type == "cuda" and torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count():
        return int(torch.cuda.get_device_properties(device.index or 0).total_memory)
    return None
