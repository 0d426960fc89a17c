"""Attention for packed rows, whose masks are sparse: a token sees the shared prefix and its own branch, no siblings.

PyTorch's fused attention computes every pair and masks most away. On CUDA, rows come with a block mask instead of a
dense one and go to flex attention, compiled as transformers does it. This was not run on a GPU: its numbers are tested
on a CPU, where flex attention has no compiled backward pass, through its uncompiled code.

On CPUs the queries are cut into blocks here, and each block meets only the keys that one of its queries may see: in
the fused kernel on the way forward, in products batched over the key/value heads on the way back, where the scores are
computed again instead of kept, as in FlashAttention (Dao et al. 2022, arXiv 2205.14135, algorithm 4); the fused
kernel's own backward pass besides repeats each key and value head for all its query heads. Everything that is neither,
nor plain softmax attention over a boolean mask, goes to the fused kernel whole.

Axes: B rows, T positions of a row, H query heads, G key/value heads, D head width, Q queries of a block, K keys that
a block sees, R = Q * H / G columns of a block's product, E head width with the columns that `_with_columns` adds.
"""

import contextlib
import math
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

__all__ = ["takes_block_masks", "training_attention"]

_NAME = "fcdistill_packed"
_FLEX_DEVICES = frozenset({"cuda"})
"""Where flex attention has compiled kernels for both directions."""
_BLOCK = 128
"""Queries of a block: enough for a product to be worth its call, few enough to see little that is not theirs."""
_KEY_STEP = 64
"""A block's number of keys is filled up with hidden ones to a multiple of this: oneDNN compiles and keeps kernels for
each shape, and the packs of a run would have ever new ones."""
_NOT_PLAIN = ("softcap", "s_aux", "sinks", "position_bias", "cache")


def takes_block_masks(model: nn.Module) -> bool:
    """Whether `training_attention` lets this model attend through flex attention, where it is."""
    base = _base(model)
    return (
        isinstance(base, PreTrainedModel)
        and base.config._attn_implementation in ("sdpa", _NAME)
        and base._supports_flex_attn
        # It knows no dropout, and a mask lies on one device.
        and not getattr(base.config.get_text_config(), "attention_dropout", 0.0)
        and len(devices := {weight.device for weight in base.parameters()}) == 1
        and devices.pop().type in _FLEX_DEVICES
    )


@contextlib.contextmanager
def training_attention(model: nn.Module) -> Iterator[None]:
    """Let a model that attends through PyTorch's fused kernel do it the way that suits its device and mask."""
    base = _base(model)
    if not isinstance(base, PreTrainedModel) or base.config._attn_implementation != "sdpa":
        yield
        return
    base.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        base.set_attn_implementation("sdpa")


def _base(model: nn.Module) -> nn.Module:
    base: nn.Module = model.get_base_model() if isinstance(model, PeftModel) else model
    return base


def _attend(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BGTD: Tensor,
    value_BGTD: Tensor,
    attention_mask: Tensor | BlockMask | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention in transformers' calling convention."""
    heads = query_BHTD, key_BGTD, value_BGTD
    attended: tuple[Tensor, Tensor | None]
    if isinstance(attention_mask, BlockMask):
        attended = flex_attention_forward(
            module, *_autocast(*heads), attention_mask=attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return attended
    length, width = query_BHTD.shape[2:]
    if (
        query_BHTD.device.type != "cpu"
        or attention_mask is None
        or attention_mask.dtype != torch.bool
        or attention_mask.shape[1] != 1
        or key_BGTD.shape[2] != length
        or any(tensor.shape[3] != width or tensor.stride(3) != 1 for tensor in heads)
        or dropout
        or any(others.get(name) is not None for name in _NOT_PLAIN)
    ):
        attended = sdpa_attention_forward(
            module, *heads, attention_mask=attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return attended
    attended_BTHD: Tensor = _BlockAttention.apply(  # type: ignore[no-untyped-call]
        *_autocast(*heads), _blocks(attention_mask), width**-0.5 if scaling is None else scaling
    )
    return attended_BTHD, None


def _autocast(*heads: Tensor) -> list[Tensor]:
    """Queries, keys and values in the precision in which autocast would have the fused kernel attend."""
    place = heads[0].device.type
    dtype = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else heads[0].dtype
    return [tensor.to(dtype) for tensor in heads]


@dataclass(frozen=True, slots=True)
class _Block:
    """Successive queries of one row, and the keys that at least one of them sees, with some that none does."""

    row: int
    queries: slice
    keys: slice | Tensor
    """A slice where the keys are successive, else their positions [K]."""
    bias_QK: Tensor | None
    """What is added to the scores: 0 or -inf, in float32; None where all queries see all keys."""
    num_seen_by_all: int
    """Of the first keys: a shared prefix needs no mask."""
    hidden_KQ: Tensor
    """True where a query does not see a key, of the other keys."""

    @property
    def num_keys(self) -> int:
        """K."""
        return self.num_seen_by_all + len(self.hidden_KQ)


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
            is_seen_T = mask_TT[queries].any(0)
            seen_K = is_seen_T.nonzero()[:, 0]
            if not len(seen_K):
                continue
            keys_K = torch.cat([seen_K, (~is_seen_T).nonzero()[: -len(seen_K) % _KEY_STEP, 0]])
            first, last = int(keys_K[0]), int(keys_K[-1])
            keys = slice(first, last + 1) if (keys_K.diff() == 1).all() else keys_K
            hidden_QK = ~mask_TT[queries, keys]
            num_seen_by_all = int((~hidden_QK.any(0)).cumprod(0).sum())
            hidden_KQ = hidden_QK[:, num_seen_by_all:].T.contiguous()
            bias_QK = torch.zeros(hidden_QK.shape).masked_fill_(hidden_QK, -torch.inf) if len(hidden_KQ) else None
            yield _Block(row, queries, keys, bias_QK, num_seen_by_all, hidden_KQ)


class _BlockAttention(torch.autograd.Function):
    """softmax(scaling * q k^T, where the mask allows it) v; scores and softmax in float32.

    Rounded to bfloat16, the large scores of trained heads would let single tokens look elsewhere.
    """

    @staticmethod
    def forward(
        ctx: Any, query_BHTD: Tensor, key_BGTD: Tensor, value_BGTD: Tensor, blocks: list[_Block], scaling: float
    ) -> Tensor:
        """Attended values [B, T, H, D]; a query that sees nothing gets zeros."""
        num_rows, num_heads, length, width = query_BHTD.shape
        precise = torch.promote_types(query_BHTD.dtype, torch.float32)
        attended_BTHD = query_BHTD.new_zeros(num_rows, length, num_heads, width)
        logsumexp_BHT = query_BHTD.new_zeros(num_rows, num_heads, length, dtype=precise)
        for block in blocks:
            row = slice(block.row, block.row + 1)  # the fused kernel wants rows
            attended_1HQD, logsumexp_1HQ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query_BHTD[row, :, block.queries],
                key_BGTD[row, :, block.keys],
                value_BGTD[row, :, block.keys],
                attn_mask=block.bias_QK if block.bias_QK is None else block.bias_QK[None, None].to(precise),
                scale=scaling,
            )
            attended_BTHD[row, block.queries] = attended_1HQD.transpose(1, 2)
            logsumexp_BHT[row, :, block.queries] = logsumexp_1HQ
        ctx.save_for_backward(query_BHTD, key_BGTD, value_BGTD, attended_BTHD, logsumexp_BHT)
        ctx.blocks, ctx.scaling = blocks, scaling
        return attended_BTHD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of queries, keys and values; those of keys and values are summed over the blocks in float32.

        Scores less their row's logarithm of the sum of exponentials are logarithms of probabilities, and the gradients
        of probabilities less their row's mean are, times the probabilities, those of the scores: both are products of
        wider heads.
        """
        query_BHTD, key_BGTD, value_BGTD, attended_BTHD, logsumexp_BHT = ctx.saved_tensors
        scaling, num_groups, width, dtype = ctx.scaling, key_BGTD.shape[1], key_BGTD.shape[3], key_BGTD.dtype
        precise = logsumexp_BHT.dtype
        (grad_BTHD,) = gradients
        mean_BTH = torch.einsum("bthd,bthd->bth", grad_BTHD.to(precise), attended_BTHD.to(precise))
        query_BHTE = _with_columns(query_BHTD, logsumexp_BHT.nan_to_num(neginf=0.0) / -scaling)
        grad_BHTE = _with_columns(grad_BTHD.transpose(1, 2), -mean_BTH.transpose(1, 2))
        key_BGTE, value_BGTE = _with_columns(key_BGTD), _with_columns(value_BGTD)
        grad_query_BHTD = torch.zeros_like(query_BHTD)
        grad_key_BGTD = torch.zeros_like(key_BGTD, dtype=precise)
        grad_value_BGTD = torch.zeros_like(value_BGTD, dtype=precise)
        # Memory that is used again is in the processor's caches.
        largest = max((block.num_keys * (block.queries.stop - block.queries.start) for block in ctx.blocks), default=0)
        wide, *narrow = (query_BHTD.new_empty(largest * query_BHTD.shape[1], dtype=d) for d in (precise, dtype, dtype))
        for block in ctx.blocks:
            queries_GRE, grad_GRE = (_queries(heads, block, num_groups) for heads in (query_BHTE, grad_BHTE))
            keys_GKE, values_GKE = key_BGTE[block.row, :, block.keys], value_BGTE[block.row, :, block.keys]
            shape = num_groups, block.num_keys, queries_GRE.shape[1]
            exact_GKR, probs_GKR, grad_scores_GKR = (space[: math.prod(shape)].view(shape) for space in (wide, *narrow))
            probs_GKR.copy_(_probs(keys_GKE, queries_GRE, block, scaling, out=exact_GKR))
            torch.bmm(values_GKE, grad_GRE.transpose(1, 2), out=grad_scores_GKR).mul_(probs_GKR)
            grad_queries_GRD = _scaled_bmm(grad_scores_GKR.transpose(1, 2), keys_GKE[..., :width], scaling)
            grad_query_BHTD[block.row, :, block.queries] = _heads(grad_queries_GRD, grad_query_BHTD, block)
            _add(grad_key_BGTD, block, torch.bmm(grad_scores_GKR, queries_GRE[..., :width]))
            _add(grad_value_BGTD, block, torch.bmm(probs_GKR, grad_GRE[..., :width]))
        grad_key_BGTD.mul_(scaling)
        return grad_query_BHTD, grad_key_BGTD.to(dtype), grad_value_BGTD.to(dtype), None, None


def _with_columns(heads_BHTD: Tensor, addend_BHT: Tensor | None = None) -> Tensor:
    """Heads whose products with one another have an addend for each row of one side.

    That side gets the addend as further columns, three where one of its precision would round it, the other side ones.
    Zeros fill the width up to what the matrix units take at a time.
    """
    dtype, width = heads_BHTD.dtype, heads_BHTD.shape[-1]
    num_columns, step = (1, 1) if dtype.itemsize > 2 else (3, 32)
    total = -(-(width + num_columns) // step) * step
    wide_BHTE = heads_BHTD.new_zeros(*heads_BHTD.shape[:-1], total)
    wide_BHTE[..., :width] = heads_BHTD
    for column in range(width, width + num_columns):
        if addend_BHT is None:
            wide_BHTE[..., column] = 1
        else:
            wide_BHTE[..., column] = addend_BHT
            addend_BHT = addend_BHT - wide_BHTE[..., column]
    return wide_BHTE


def _probs(keys_GKE: Tensor, queries_GRE: Tensor, block: _Block, scaling: float, *, out: Tensor) -> Tensor:
    """Attention probabilities [G, K, R] of a block, in the precision of `out`, where they are put."""
    keys, queries = keys_GKE.to(out.dtype), queries_GRE.to(out.dtype)
    with _float32_products(keys_GKE.dtype):
        probs_GKR = _scaled_bmm(keys, queries.transpose(1, 2), scaling, out=out).exp_()
    num_queries = block.queries.stop - block.queries.start
    partly_seen_GKNQ = probs_GKR.view(*probs_GKR.shape[:2], -1, num_queries)[:, block.num_seen_by_all :]
    partly_seen_GKNQ.masked_fill_(block.hidden_KQ[:, None], 0.0)
    return probs_GKR


def _scaled_bmm(left: Tensor, right: Tensor, scaling: float, *, out: Tensor | None = None) -> Tensor:
    """The product `scaling * left right`, without a pass of its own for the factor."""
    product = left.new_empty(len(left), left.shape[1], right.shape[2]) if out is None else out
    return torch.baddbmm(product, left, right, beta=0, alpha=scaling, out=product)


def _queries(heads_BHTE: Tensor, block: _Block, num_groups: int) -> Tensor:
    """A block's queries [G, R, E], or their gradients: all query heads of a key/value head are rows of one product."""
    return heads_BHTE[block.row, :, block.queries].reshape(num_groups, -1, heads_BHTE.shape[-1])


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
def _float32_products(dtype: torch.dtype) -> Iterator[None]:
    """Products with float32 results of numbers of a precision, widened.

    Autocast would round the results. A product of widened bfloat16 numbers may round its operands to bfloat16 again: so
    it is that of the bfloat16 units with a float32 result, which PyTorch has no other name for on CPUs.
    """
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    with torch.autocast("cpu", enabled=False):
        try:
            if dtype == torch.bfloat16:
                products.fp32_precision = "bf16"
            yield
        finally:
            products.fp32_precision = before


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
