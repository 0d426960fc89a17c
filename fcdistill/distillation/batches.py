"""The tensors of a micro batch, field by field: what `collation` makes, and what models, losses and reports read.

They are dicts, since loaders and the Trainer pin and move dicts. How the fields come about, and what is computed from
them, is not known here.

Axes: R rows of a forward pass, T positions; N supervised tokens, M aligned rows of hidden states, K tokens that are
known of a teacher's distribution, H width; between two tokenizers also U completion tokens of the teacher, P tokens in
spans that are compared by distribution, Q other spans, I and J their student and teacher tokens. Rows and indices are
int64.
"""

from typing import Literal, NotRequired, TypedDict

import torch
from torch import Tensor

__all__ = ["CachedSignals", "MicroBatch", "ModelInputs", "SideBatch", "SpanTensors", "inputs_to", "side_to"]


class ModelInputs(TypedDict):
    """What `forward_rows` reads of padded or packed rows: a causal LM's arguments, or what one is made of."""

    input_ids: Tensor
    """[R, T]."""
    position_ids: NotRequired[Tensor]
    """[R, T], of packed rows: the depth of each token; padded rows have the model's default."""
    attention_mask: NotRequired[Tensor]
    """Of padded rows int64 [R, T], 0 at padding; of packed ones bool [R, 1, T, T], whether a query sees a key."""
    ends_RT: NotRequired[Tensor]
    """In the mask's place where it is a block mask's, see `PackedRows.ends_RT`."""


class SideBatch(TypedDict):
    """What one model reads of a micro batch, and which of its rows are selected."""

    inputs: ModelInputs
    logit_rows_N: Tensor
    """Flat indices (row * T + position) of the rows that predict the completion's tokens, in the order of
    `MicroBatch.targets_N`; of a teacher with another tokenizer, of its own U tokens."""
    hidden_rows_M: Tensor
    """Flat indices of the rows whose hidden states are aligned, in the same order on both sides."""


class CachedSignals(TypedDict):
    """What a cached teacher said of a micro batch's traces; without rows where only hidden states are wanted.

    N are the teacher's own U tokens where it has another tokenizer.
    """

    ids_NK: Tensor
    """Its likeliest tokens, the likeliest first, or the completion's own token alone."""
    logprobs_NK: Tensor
    """Their log-probabilities at kd_temperature, float32."""
    untempered_NK: Tensor
    """Their log-probabilities at temperature 1, float32."""
    target_logprobs_N: Tensor
    """Those of the completion's tokens at temperature 1, in or outside the top k."""
    hidden_MH: dict[int, Tensor]
    """HF hidden_states index to rows."""


class SpanTensors(TypedDict):
    """How the rows of two tokenizers belong together."""

    teacher_targets_U: Tensor
    """The teacher's tokens of the completions."""
    paired_student_P: Tensor
    """Indices in N of the tokens that are the same string on both sides."""
    paired_teacher_P: Tensor
    """Their indices in U."""
    span_tokens_student_I: Tensor
    """Indices in N of the tokens of other spans."""
    span_student_I: Tensor
    """The span of each, in 0..Q - 1."""
    span_tokens_teacher_J: Tensor
    """Indices in U of the tokens of other spans."""
    span_teacher_J: Tensor
    """The span of each, in 0..Q - 1."""
    span_weights_Q: Tensor
    """The mean weight of a span's student tokens, float32: its divergence already counts all its tokens."""


class MicroBatch(TypedDict):
    """What one forward and backward pass is computed from."""

    targets_N: Tensor
    """The token that each selected row of the student must predict."""
    classes_N: Tensor
    """Its class, an index of `CLASS_NAMES`."""
    weights_N: Tensor
    """The weight of its class, float32."""
    example_N: Tensor
    """Index of its example in the micro batch."""
    num_tokens: Tensor
    """Tokens that the student computes, without padding: a scalar, for the log."""
    num_examples: Tensor
    """A scalar, for the log."""
    student: SideBatch
    teacher: NotRequired[SideBatch]
    """Where a teacher runs beside the student."""
    cached: NotRequired[CachedSignals]
    """Where it has spoken before."""
    spans: NotRequired[SpanTensors]
    """Where it has another tokenizer."""
    num_valid: NotRequired[Tensor]
    """How many of the answers are valid, a scalar: only where the student sampled them."""


_OPTIONAL_INPUTS: tuple[Literal["position_ids", "attention_mask", "ends_RT"], ...] = (
    "position_ids",
    "attention_mask",
    "ends_RT",
)


def inputs_to(inputs: ModelInputs, device: torch.device) -> ModelInputs:
    """A model's inputs on a device."""
    moved: ModelInputs = {"input_ids": inputs["input_ids"].to(device)}
    for name in _OPTIONAL_INPUTS:
        if name in inputs:
            moved[name] = inputs[name].to(device)
    return moved


def side_to(side: SideBatch, device: torch.device) -> SideBatch:
    """One side of a micro batch on a device."""
    return {
        "inputs": inputs_to(side["inputs"], device),
        "logit_rows_N": side["logit_rows_N"].to(device),
        "hidden_rows_M": side["hidden_rows_M"].to(device),
    }
