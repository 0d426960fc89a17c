"""Attention for training rows on CPUs, where the fused kernel's backward pass is slow and blind to the mask.

A packed row's mask is sparse: a token sees the shared prefix and its own branch, not its siblings. PyTorch's fused
attention computes every pair and masks most away; its backward pass besides repeats each key and value head for all
its query heads. Here the queries are cut into blocks, and each block meets only the keys that one of its queries may
see: in the fused kernel on the way forward, in products batched over the key/value heads on the way back, where the
scores are computed again instead of kept, as in FlashAttention (Dao et al. 2022, arXiv 2205.14135). Everything that is
not plain softmax attention over a boolean mask goes to the fused kernel whole.

Axes: B rows, T positions of a row, H query heads, G key/value heads, D head width, Q queries of a block, K keys that
a block sees, R = Q * H / G rows of a block's product.
"""

import contextlib
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["training_attention"]

_NAME = "fcdistill_blocks"
_BLOCK = 128
"""Queries of a block: enough for a product to be worth its call, few enough to see little that is not theirs."""
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
        and key_BGTD.shape[2] == length
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
    attended_BHTD: Tensor = _BlockAttention.apply(  # type: ignore[no-untyped-call]
        query_BHTD.to(dtype),
        key_BGTD.to(dtype),
        value_BGTD.to(dtype),
        _blocks(attention_mask),
        width**-0.5 if scaling is None else scaling,
    )
    return attended_BHTD.transpose(1, 2).contiguous(), None


@dataclass(frozen=True, slots=True)
class _Block:
    """Successive queries of one row, and the keys that at least one of them sees."""

    row: int
    queries: slice
    keys: slice | Tensor
    """A slice where the keys are successive, else their positions [K]."""
    visible_QK: Tensor
    """True where a query sees a key."""
    num_seen_by_all: int
    """Of the first keys: a shared prefix needs no mask."""


_known_blocks: MutableMapping[Tensor, list[_Block]] = WeakTensorKeyDictionary()
"""The blocks of the masks that are alive: all layers of a step share one mask."""


def _blocks(mask_B1TT: Tensor) -> list[_Block]:
    """The blocks of a mask's rows that see anything."""
    if mask_B1TT not in _known_blocks:
        _known_blocks[mask_B1TT] = list(_find_blocks(mask_B1TT[:, 0]))
    return _known_blocks[mask_B1TT]


def _find_blocks(mask_BTT: Tensor) -> Iterator[_Block]:
    length = mask_BTT.shape[1]
    for row, mask_TT in enumerate(mask_BTT):
        for start in range(0, length, _BLOCK):
            queries = slice(start, min(start + _BLOCK, length))
            keys_K = mask_TT[queries].any(0).nonzero()[:, 0]
            if not len(keys_K):
                continue
            first, last = int(keys_K[0]), int(keys_K[-1])
            keys = slice(first, last + 1) if len(keys_K) == last + 1 - first else keys_K
            visible_QK = mask_TT[queries, keys]
            yield _Block(row, queries, keys, visible_QK, int(visible_QK.all(0).cumprod(0).sum()))


class _BlockAttention(torch.autograd.Function):
    """softmax(scaling * q k^T, where the mask allows it) v; scores, softmax and their gradients in float32.

    Rounded to bfloat16, the large scores of trained heads would let single tokens look elsewhere.
    """

    @staticmethod
    def forward(
        ctx: Any, query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, blocks: list[_Block], scaling: float
    ) -> Tensor:
        """Attended values [B, H, T, D]; a query that sees nothing gets zeros."""
        ctx.save_for_backward(query_BHTD, key_BGTD, value_BGTD)
        ctx.blocks, ctx.scaling = blocks, scaling
        attended_BHTD = query_BHTD.new_zeros(*query_BHTD.shape[:3], value_BGTD.shape[-1])
        with _plain_arithmetic(query_BHTD):
            for block in blocks:
                row = slice(block.row, block.row + 1)  # the fused kernel wants rows
                attended_BHTD[row, :, block.queries] = nn.functional.scaled_dot_product_attention(
                    query_BHTD[row, :, block.queries],
                    key_BGTD[row, :, block.keys],
                    value_BGTD[row, :, block.keys],
                    attn_mask=block.visible_QK[None, None],
                    scale=scaling,
                    enable_gqa=True,
                )
        return attended_BHTD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of queries, keys and values; those of keys and values are summed over the blocks in float32."""
        query_BHTD, key_BGTD, value_BGTD = ctx.saved_tensors
        (grad_BHTD,) = gradients
        num_groups = key_BGTD.shape[1]
        precise = torch.promote_types(query_BHTD.dtype, torch.float32)
        grad_query_BHTD = torch.zeros_like(query_BHTD)
        grad_key_BGTD = torch.zeros_like(key_BGTD, dtype=precise)
        grad_value_BGTD = torch.zeros_like(value_BGTD, dtype=precise)
        with _plain_arithmetic(query_BHTD):
            for block in ctx.blocks:
                keys_GKD, values_GKD = key_BGTD[block.row, :, block.keys], value_BGTD[block.row, :, block.keys]
                queries_GRD = _queries(query_BHTD, block, num_groups)
                grad_GRD = _queries(grad_BHTD, block, num_groups)
                probs_GRK = _probs(queries_GRD, keys_GKD, block, ctx.scaling)
                grad_probs_GRK = torch.bmm(grad_GRD.to(precise), values_GKD.to(precise).transpose(1, 2))
                grad_scores_GRK = torch._softmax_backward_data(grad_probs_GRK, probs_GRK, -1, precise)
                grad_scores_GRK = grad_scores_GRK.to(queries_GRD.dtype)
                grad_queries_GRD = _scaled_bmm(grad_scores_GRK, keys_GKD, ctx.scaling)
                grad_query_BHTD[block.row, :, block.queries] = _heads(grad_queries_GRD, grad_query_BHTD, block)
                _add(grad_key_BGTD, block, torch.bmm(grad_scores_GRK.transpose(1, 2), queries_GRD))
                _add(grad_value_BGTD, block, torch.bmm(probs_GRK.to(grad_GRD.dtype).transpose(1, 2), grad_GRD))
        grad_key_BGTD.mul_(ctx.scaling)
        return grad_query_BHTD, grad_key_BGTD.to(key_BGTD.dtype), grad_value_BGTD.to(value_BGTD.dtype), None, None


def _probs(queries_GRD: Tensor, keys_GKD: Tensor, block: _Block, scaling: float) -> Tensor:
    """Attention probabilities [G, R, K] of a block, in float32."""
    precise = torch.promote_types(queries_GRD.dtype, torch.float32)
    scores_GRK = _scaled_bmm(queries_GRD.to(precise), keys_GKD.to(precise).transpose(1, 2), scaling)
    partly_seen = slice(block.num_seen_by_all, None)
    scores_GNQK = scores_GRK.view(len(scores_GRK), -1, *block.visible_QK.shape)
    scores_GNQK[..., partly_seen].masked_fill_(~block.visible_QK[:, partly_seen], torch.finfo(precise).min)
    return scores_GRK.softmax(-1)


def _scaled_bmm(left: Tensor, right: Tensor, scaling: float) -> Tensor:
    """The product `scaling * left right`, without a pass of its own for the factor."""
    product = left.new_empty(len(left), left.shape[1], right.shape[2])
    return torch.baddbmm(product, left, right, beta=0, alpha=scaling, out=product)


def _queries(heads_BHTD: Tensor, block: _Block, num_groups: int) -> Tensor:
    """A block's queries [G, R, D], or their gradients: all query heads of a key/value head are rows of one product."""
    return heads_BHTD[block.row, :, block.queries].reshape(num_groups, -1, heads_BHTD.shape[-1])


def _heads(rows_GRD: Tensor, like_BHTD: Tensor, block: _Block) -> Tensor:
    """The reverse of `_queries`: [H, Q, D]."""
    return rows_GRD.view(like_BHTD.shape[1], block.queries.stop - block.queries.start, -1)


def _add(total_BGTD: Tensor, block: _Block, part_GKD: Tensor) -> None:
    """Add what a block gives to its keys."""
    if isinstance(block.keys, slice):
        total_BGTD[block.row, :, block.keys] += part_GKD
    else:
        total_BGTD[block.row].index_add_(1, block.keys, part_GKD.to(total_BGTD.dtype))


@contextlib.contextmanager
def _plain_arithmetic(operand: Tensor) -> Iterator[None]:
    """No autocast, which would undo the precision that is chosen here, and fast products of widened bfloat16 numbers.

    A float32 product may round its operands to bfloat16 here: they are such numbers already, so the product is that
    of the bfloat16 units with a float32 result, which PyTorch has no other name for on CPUs.
    """
    with torch.autocast(operand.device.type, enabled=False):
        if operand.dtype != torch.bfloat16:
            yield
            return
        products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = products.fp32_precision
        products.fp32_precision = "bf16"
        try:
            yield
        finally:
            products.fp32_precision = before


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
