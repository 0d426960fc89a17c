"""Attention for short training rows on CPUs, where the fused kernel's backward pass is slow.

PyTorch's fused attention spends most of a short row's step in its backward pass, which repeats each key and value head
for all its query heads and finds little to do in parallel. Two batched matrix products over the key/value heads do the
same work several times faster, at the price of keeping the probabilities. Long rows and everything that is not plain
softmax attention over a boolean mask go to the fused kernel as before.

Axes: B rows, T positions of a row, H query heads, G key/value heads, D head width.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["training_attention"]

_NAME = "fcdistill_grouped"
_LONGEST_ROW = 768
"""Beyond it the probabilities no longer fit into the caches, and the fused kernel is as fast."""
_NOT_PLAIN = ("softcap", "s_aux", "sinks", "position_bias", "cache")


@contextlib.contextmanager
def training_attention(model: nn.Module) -> Iterator[None]:
    """Let a model that attends through PyTorch's fused kernel on a CPU do it the fast way; others stay as they are."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(base, PreTrainedModel) or base.config._attn_implementation != "sdpa" or base.device.type != "cpu":
        yield
        return
    base.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        base.set_attn_implementation("sdpa")


def _attend(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BGTD: Tensor,
    value_BGTD: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention in transformers' calling convention."""
    length, width = query_BHTD.shape[2:]
    plain = (
        attention_mask is not None
        and attention_mask.dtype == torch.bool
        and attention_mask.shape[1] == 1
        and key_BGTD.shape[2] == length <= _LONGEST_ROW
        and not dropout
        and all(others.get(name) is None for name in _NOT_PLAIN)
    )
    if not plain:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query_BHTD, key_BGTD, value_BGTD, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return attended
    assert attention_mask is not None
    place = query_BHTD.device.type
    dtype = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else query_BHTD.dtype
    # Autocast itself would undo the precision that is chosen here.
    with torch.autocast(place, enabled=False):
        attended_BTHD = _grouped(
            query_BHTD.to(dtype),
            key_BGTD.to(dtype),
            value_BGTD.to(dtype),
            attention_mask,
            width**-0.5 if scaling is None else scaling,
        )
    return attended_BTHD, None


def _grouped(query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, mask_B1TT: Tensor, scaling: float) -> Tensor:
    """softmax(scaling * q k^T, where the mask allows it) v, as [B, T, H, D]; scores and softmax in float32.

    Rounded to bfloat16, the large scores of trained heads would let single tokens look elsewhere.
    """
    num_rows, num_heads, length, width = query_BHTD.shape
    num_groups = key_BGTD.shape[1]
    precise = torch.promote_types(query_BHTD.dtype, torch.float32)
    blocked_B1TT = torch.zeros(mask_B1TT.shape, dtype=precise).masked_fill_(~mask_B1TT, torch.finfo(precise).min)
    # All query heads of a key/value head are rows of one product.
    scores = torch.bmm(
        query_BHTD.to(precise).mul(scaling).reshape(num_rows * num_groups, -1, width),
        key_BGTD.to(precise).reshape(-1, length, width).transpose(1, 2),
    )
    scores_BHTT = scores.view(num_rows, num_heads, length, length) + blocked_B1TT
    probs = scores_BHTT.softmax(-1).to(value_BGTD.dtype).view(num_rows * num_groups, -1, length)
    attended_BHTD = torch.bmm(probs, value_BGTD.reshape(-1, length, value_BGTD.shape[-1])).view(
        num_rows, num_heads, length, -1
    )
    return attended_BHTD.transpose(1, 2).contiguous()


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
