"""Attention of many rows to one shared prefix and to their own tokens, for any transformers model that allows it.

The prefix's keys and values exist once, however many rows read them. Attention to the prefix is one matrix product over
all rows; each row's own tokens are a second, small one; the two are joined exactly, by the usual rescaling of partial
softmaxes. `OwnTokens` stands in the place of a transformers cache, and `ATTENTION` names the attention function that
understands it. Which rows there are and when they advance is not known here (`decoding`).

Axes: B rows, T new tokens, L own cached tokens of a row, P prefix tokens, H query heads, G key/value heads,
R query heads per key/value head, N queries of one key/value head, D head width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

__all__ = ["ATTENTION", "OwnTokens", "Prefix"]

ATTENTION = "fcdistill_shared_prefix"
# Arguments of attention functions that change its result in ways that are not computed here.
_NOT_COMPUTED = ("softcap", "s_aux", "sinks", "position_bias")
_SPARE_TOKENS = 64
_SCORES_PER_BLOCK = 1 << 24  # float32 attention scores in memory at once: 64 MB
_MASKED = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Prefix:
    """Keys (float32, so that scores are exact whatever the dtype) and values per layer, each [G, P, D]."""

    ids: tuple[int, ...]
    keys: list[Tensor]
    values: list[Tensor]

    def first(self, num_tokens: int) -> "Prefix":
        """Its first tokens as a prefix; shares memory with the whole."""
        if num_tokens == len(self.ids):
            return self
        return Prefix(
            self.ids[:num_tokens],
            [key_GPD[:, :num_tokens] for key_GPD in self.keys],
            [value_GPD[:, :num_tokens] for value_GPD in self.values],
        )


class OwnTokens:
    """The rows' own keys and values, in the place of a transformers cache; also carries what attention needs.

    Rows end at the same column; shorter ones begin later. `starts_B` holds each row's first column in use.
    """

    def __init__(self, prefix: Prefix, starts_B: Tensor) -> None:
        self.prefix = prefix
        self.starts_B = starts_B
        self.length = 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._masks: dict[int | None, tuple[Tensor, Tensor | None]] = {}
        self._num_new = 0

    def begin_pass(self, num_new: int) -> Tensor:
        """Announce a forward pass of so many tokens per row; their position ids [B, T]."""
        self._masks.clear()
        self._num_new = num_new
        self.length += num_new
        columns_T = torch.arange(self.length - num_new, self.length, device=self.starts_B.device)
        return (len(self.prefix.ids) + columns_T - self.starts_B[:, None]).clamp(min=0)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before the current pass, as transformers asks for them."""
        del layer_idx
        return len(self.prefix.ids) + self.length - self._num_new

    def update(
        self, key_BGTD: Tensor, value_BGTD: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Append the new tokens of one layer; all own keys and values [B, G, L, D] of it."""
        if layer_idx == len(self.keys):
            self.keys.append(_room(key_BGTD.float(), self.length))
            self.values.append(_room(value_BGTD, self.length))
        if self.keys[layer_idx].shape[2] < self.length:
            self.keys[layer_idx] = _room(self.keys[layer_idx], self.length)
            self.values[layer_idx] = _room(self.values[layer_idx], self.length)
        first = self.length - self._num_new
        self.keys[layer_idx][:, :, first : self.length] = key_BGTD
        self.values[layer_idx][:, :, first : self.length] = value_BGTD
        return self.keys[layer_idx][:, :, : self.length], self.values[layer_idx][:, :, : self.length]

    def masks(self, window: int | None) -> tuple[Tensor, Tensor | None]:
        """Additive masks of the current pass: [B, T, L] of own tokens, [B, T, P] of the prefix or None for nothing."""
        if window not in self._masks:
            device = self.starts_B.device
            columns_L = torch.arange(self.length, device=device)
            distance_TL = columns_L[self.length - self._num_new :, None] - columns_L
            allowed_BTL = (distance_TL >= 0) & (columns_L >= self.starts_B[:, None, None])
            prefix_mask = None
            if window is not None:
                allowed_BTL &= distance_TL < window
                num_prefix = len(self.prefix.ids)
                own_BT = columns_L[self.length - self._num_new :] - self.starts_B[:, None]
                distance_BTP = own_BT[:, :, None] + num_prefix - torch.arange(num_prefix, device=device)
                prefix_mask = torch.zeros(distance_BTP.shape, device=device).masked_fill_(
                    distance_BTP >= window, _MASKED
                )
            own_mask = torch.zeros(allowed_BTL.shape, device=device).masked_fill_(~allowed_BTL, _MASKED)
            self._masks[window] = own_mask, prefix_mask
        return self._masks[window]

    def select(self, indices: Tensor) -> None:
        """Drop all rows but these, and the columns that none of them uses."""
        self.starts_B = self.starts_B[indices]
        unused = int(self.starts_B.min()) if len(indices) else self.length
        self.starts_B = self.starts_B - unused
        self.keys = [key[indices, :, unused:] for key in self.keys]
        self.values = [value[indices, :, unused:] for value in self.values]
        self.length -= unused

    def join(self, other: "OwnTokens") -> None:
        """Append the rows of `other`, aligned at the last column."""
        length = max(self.length, other.length)
        mine, theirs = length - self.length, length - other.length
        self.starts_B = torch.cat([self.starts_B + mine, other.starts_B + theirs])
        for own, added in ((self.keys, other.keys), (self.values, other.values)):
            for layer, (mine_BGLD, theirs_BGLD) in enumerate(zip(own, added, strict=True)):
                num_mine, num_heads, _, width = mine_BGLD.shape
                num_rows = num_mine + theirs_BGLD.shape[0]
                joined = mine_BGLD.new_zeros(num_rows, num_heads, length + _SPARE_TOKENS, width)
                joined[:num_mine, :, mine:length] = mine_BGLD[:, :, : self.length]
                joined[num_mine:, :, theirs:length] = theirs_BGLD[:, :, : other.length]
                own[layer] = joined
        self.length = length


def _room(states_BGLD: Tensor, length: int) -> Tensor:
    """These states with zeros after them, so that `length` tokens and some more fit."""
    num_rows, num_heads, num_present, width = states_BGLD.shape
    roomy = states_BGLD.new_zeros(num_rows, num_heads, length + _SPARE_TOKENS, width)
    roomy[:, :, :num_present] = states_BGLD
    return roomy


def _attend(
    module: torch.nn.Module,
    query_BHTD: Tensor,
    key_BGLD: Tensor,
    value_BGLD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    own_tokens: OwnTokens,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention to the shared prefix and to each row's own tokens, in transformers' calling convention."""
    del attention_mask
    if any(others.get(name) is not None for name in _NOT_COMPUTED):
        raise NotImplementedError("an attention variant that is not plain softmax")
    num_rows, num_heads, num_new, width = query_BHTD.shape
    num_groups, num_own = key_BGLD.shape[1:3]
    layer: int = module.layer_idx  # type: ignore[assignment]
    prefix = own_tokens.prefix
    num_prefix = len(prefix.ids)
    own_mask, prefix_mask = own_tokens.masks(sliding_window)
    scaled_BHTD = query_BHTD.float() * (width**-0.5 if scaling is None else scaling)
    out_BHTD = torch.empty_like(query_BHTD)
    block = max(1, _SCORES_PER_BLOCK // (num_heads * num_new * (num_prefix + num_own)))
    # Autocast would compute the scores in its own precision.
    with torch.autocast(query_BHTD.device.type, enabled=False):
        for first in range(0, num_rows, block):
            rows = slice(first, min(first + block, num_rows))
            out_BHTD[rows] = _attend_block(
                scaled_BHTD[rows].reshape(-1, num_groups, num_heads // num_groups, num_new, width),
                key_BGLD[rows],
                value_BGLD[rows],
                own_mask[rows],
                prefix.keys[layer] if num_prefix else None,
                prefix.values[layer] if num_prefix else None,
                None if prefix_mask is None else prefix_mask[rows],
            ).flatten(1, 2)
    return out_BHTD.transpose(1, 2).contiguous(), None


def _attend_block(
    query_BGRTD: Tensor,
    key_BGLD: Tensor,
    value_BGLD: Tensor,
    own_mask_BTL: Tensor,
    key_GPD: Tensor | None,
    value_GPD: Tensor | None,
    prefix_mask_BTP: Tensor | None,
) -> Tensor:
    num_rows, num_groups, num_repeats, num_new, width = query_BGRTD.shape
    own_BGNL = query_BGRTD.flatten(2, 3) @ key_BGLD.transpose(2, 3)
    own_BGRTL = own_BGNL.view(num_rows, num_groups, num_repeats, num_new, -1)
    own_BGRTL += own_mask_BTL[:, None, None]
    if key_GPD is None or value_GPD is None:
        weights = own_BGRTL.softmax(-1).to(value_BGLD.dtype)
        return (weights.flatten(2, 3) @ value_BGLD).view(query_BGRTD.shape)
    query_GND = query_BGRTD.transpose(0, 1).reshape(num_groups, -1, width)
    prefix_GBRTP = (query_GND @ key_GPD.transpose(1, 2)).view(num_groups, num_rows, num_repeats, num_new, -1)
    if prefix_mask_BTP is not None:
        prefix_GBRTP += prefix_mask_BTP[:, None]
    # Two partial softmaxes over disjoint keys, brought to one maximum and one denominator.
    own_max, prefix_max = own_BGRTL.amax(-1, keepdim=True), prefix_GBRTP.amax(-1, keepdim=True).transpose(0, 1)
    highest = torch.maximum(own_max, prefix_max)
    own_BGRTL = own_BGRTL.sub_(highest).exp_()
    prefix_GBRTP = prefix_GBRTP.sub_(highest.transpose(0, 1)).exp_()
    total = own_BGRTL.sum(-1, keepdim=True) + prefix_GBRTP.sum(-1, keepdim=True).transpose(0, 1)
    own_out = (own_BGRTL.to(value_BGLD.dtype).flatten(2, 3) @ value_BGLD).view(query_BGRTD.shape)
    prefix_out = (prefix_GBRTP.to(value_GPD.dtype).flatten(1, 3) @ value_GPD).view(
        num_groups, num_rows, num_repeats, num_new, width
    )
    return (own_out.float() + prefix_out.transpose(0, 1).float()) / total


AttentionInterface.register(ATTENTION, _attend)
