"""Rows of token sequences that advance together: forward passes and key/value caches, nothing else.

All rows of a `Rows` stand behind one prefix, which is computed once and remembered. New rows may join while others are
being decoded. A model whose layers are not plain causal (or sliding-window) attention gets ordinary left-padded batches
instead. Nothing here knows text, stop tokens or sampling.

Axes: B rows, T new tokens, L cached tokens, G key/value heads, D head width, V vocabulary.
"""

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from fcdistill.backends.local.shared_prefix import ATTENTION, OwnTokens, Prefix

__all__ = ["Decoder", "Rows"]

_log = logging.getLogger(__name__)

_PLAIN_LAYERS = {"full_attention", "sliding_attention"}
_PREFIX_BLOCK_TOKENS = 512
_MAX_CACHED_PREFIX_TOKENS = 8192


class Rows(Protocol):
    """Sequences that are decoded together, in the order in which they were added.

    Attributes:
        can_join: whether `add` may be called while there are rows.
    """

    can_join: bool

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Append rows with these own tokens (at least one each); the float32 logits [B, V] of their next tokens."""
        ...

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Append one token to every row; the float32 logits [B, V] of the tokens after it."""
        ...

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all rows but these."""
        ...


class Decoder:
    """Opens rows behind a prefix, and remembers the prefixes' keys and values.

    Args:
        model: a causal LM in eval mode; between calls its attention implementation is its own.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._prefixes: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()
        self.shares_prefix = _is_plain(model) and self._agrees_with_plain_forward()
        if not self.shares_prefix:
            _log.warning("%s: prompts are not shared between requests, which is slower", type(model).__name__)

    def open(self, prefix: Sequence[int]) -> Rows:
        """Rows that all begin with `prefix` (which may be empty)."""
        if not self.shares_prefix:
            return _PaddedRows(self._model, prefix)
        return _SharedRows(self._model, self._prefix(tuple(prefix)))

    def close(self) -> None:
        """Forget all prefixes."""
        self._prefixes.clear()

    def _prefix(self, ids: tuple[int, ...]) -> Prefix:
        best, known = 0, Prefix((), [], [])
        for candidate in self._prefixes.values():
            common = _num_common(candidate.ids, ids)
            if common > best:
                best, known = common, candidate
        if best == len(ids):
            if ids:
                self._prefixes.move_to_end(known.ids)
            return known.first(best)
        found = _extended(self._model, known.first(best), ids[best:])
        if known.ids and best == len(known.ids):
            del self._prefixes[known.ids]
        self._prefixes[ids] = found
        while len(self._prefixes) > 1 and sum(map(len, self._prefixes)) > _MAX_CACHED_PREFIX_TOKENS:
            self._prefixes.popitem(last=False)
        return found

    def _agrees_with_plain_forward(self) -> bool:
        """Compare a few positions with the model's own forward pass: a layer that is not plain would show here."""
        num_ids = self._model.config.get_text_config().vocab_size
        ids = [(7 * index + 3) % num_ids for index in range(32)]
        prompts = [ids[20:25], ids[24:32]]
        try:
            rows = _SharedRows(self._model, _extended(self._model, Prefix((), [], []), tuple(ids[:20])))
            rows.add(prompts)
            found_BV = rows.step([5, 6])
            wanted = [
                _forward(self._model, torch.tensor([[*ids[:20], *prompt, token]]), use_cache=False)
                for prompt, token in zip(prompts, (5, 6), strict=True)
            ]
        except Exception as error:  # whatever a model's code raises when it is called in an unusual way
            _log.info("%s: prefix sharing failed: %s", type(self._model).__name__, error)
            return False
        wanted_BV = torch.cat(wanted)
        difference = ((found_BV - wanted_BV).norm() / wanted_BV.norm()).item()
        place = self._model.device.type
        dtype = torch.get_autocast_dtype(place) if torch.is_autocast_enabled(place) else self._model.dtype
        return bool(difference < (1e-3 if dtype == torch.float32 else 0.1))


def _is_plain(model: PreTrainedModel) -> bool:
    config = model.config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    softcap = getattr(config, "attn_logit_softcapping", None)
    # Other models that keep a window do not say so per layer.
    window_everywhere = getattr(config, "layer_types", None) is None and getattr(config, "sliding_window", None)
    bidirectional = getattr(config, "use_bidirectional_attention", False)
    supported = getattr(model, "_supports_attention_backend", False)
    return bool(supported) and layer_types <= _PLAIN_LAYERS and not (softcap or window_everywhere or bidirectional)


def _num_common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _extended(model: PreTrainedModel, known: Prefix, ids: tuple[int, ...]) -> Prefix:
    rows = _SharedRows(model, known)
    for start in range(0, len(ids), _PREFIX_BLOCK_TOKENS):
        rows.extend_first_row(ids[start : start + _PREFIX_BLOCK_TOKENS])
    return rows.as_prefix(ids)


@contextlib.contextmanager
def _attention_of(model: PreTrainedModel, name: str) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.inference_mode()
def _forward(model: PreTrainedModel, ids_BT: Tensor, **inputs: Any) -> Tensor:
    """Float32 logits [B, V] after the last token."""
    out = model(input_ids=ids_BT.to(model.device), logits_to_keep=1, **inputs)
    logits_BV: Tensor = out.logits[:, -1].float()
    return logits_BV


def _left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids [B, T] and each row's first column in use [B]."""
    length = max(map(len, prompts))
    ids_BT = torch.tensor([[0] * (length - len(prompt)) + list(prompt) for prompt in prompts])
    return ids_BT, torch.tensor([length - len(prompt) for prompt in prompts])


class _SharedRows:
    can_join = True

    def __init__(self, model: PreTrainedModel, prefix: Prefix) -> None:
        self._model = model
        self._prefix = prefix
        self._own: OwnTokens | None = None

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        ids_BT, starts_B = _left_padded(prompts)
        added = OwnTokens(self._prefix, starts_B.to(self._model.device))
        logits_BV = self._pass(added, ids_BT)
        if self._own is None:
            self._own = added
        else:
            self._own.join(added)
        return logits_BV

    def step(self, tokens: Sequence[int]) -> Tensor:
        assert self._own is not None
        return self._pass(self._own, torch.tensor(tokens)[:, None])

    @torch.inference_mode()
    def keep(self, indices: Sequence[int]) -> None:
        assert self._own is not None
        if indices:
            self._own.select(torch.tensor(indices, device=self._model.device))
        else:
            self._own = None

    def extend_first_row(self, ids: tuple[int, ...]) -> None:
        """Append tokens to a single row."""
        if self._own is None:
            self._own = OwnTokens(self._prefix, torch.zeros(1, dtype=torch.long, device=self._model.device))
        self._pass(self._own, torch.tensor([ids]))

    @torch.inference_mode()
    def as_prefix(self, ids: tuple[int, ...]) -> Prefix:
        """The prefix and the single row behind it, whose own tokens are `ids`, as one prefix."""
        assert self._own is not None

        def joined(shared: list[Tensor], own: list[Tensor]) -> list[Tensor]:
            rows = [states[0, :, : len(ids)] for states in own]
            if not shared:
                return [row_GLD.contiguous() for row_GLD in rows]
            return [torch.cat(pair, dim=1) for pair in zip(shared, rows, strict=True)]

        return Prefix(
            self._prefix.ids + ids,
            joined(self._prefix.keys, self._own.keys),
            joined(self._prefix.values, self._own.values),
        )

    def _pass(self, own: OwnTokens, ids_BT: Tensor) -> Tensor:
        with torch.inference_mode(), _attention_of(self._model, ATTENTION):
            positions_BT = own.begin_pass(ids_BT.shape[1])
            return _forward(
                self._model, ids_BT, position_ids=positions_BT, past_key_values=own, use_cache=True, own_tokens=own
            )


class _PaddedRows:
    can_join = False

    def __init__(self, model: PreTrainedModel, prefix: Sequence[int]) -> None:
        self._model = model
        self._prefix = list(prefix)
        self._cache: DynamicCache | None = None
        self._mask_BL = torch.empty(0)

    def add(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        assert self._cache is None
        ids_BT, starts_B = _left_padded([[*self._prefix, *prompt] for prompt in prompts])
        self._cache = DynamicCache(config=self._model.config)
        self._mask_BL = (torch.arange(ids_BT.shape[1]) >= starts_B[:, None]).long()
        return self._pass(ids_BT)

    def step(self, tokens: Sequence[int]) -> Tensor:
        self._mask_BL = torch.nn.functional.pad(self._mask_BL, (0, 1), value=1)
        return self._pass(torch.tensor(tokens)[:, None])

    @torch.inference_mode()
    def keep(self, indices: Sequence[int]) -> None:
        assert self._cache is not None
        if not indices:
            self._cache = None
            return
        # The one way of selecting rows that every kind of cache layer has.
        self._cache.reorder_cache(torch.tensor(indices, device=self._model.device))
        self._mask_BL = self._mask_BL[list(indices)]

    def _pass(self, ids_BT: Tensor) -> Tensor:
        positions_BT = (self._mask_BL.cumsum(1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        device = self._model.device
        return _forward(
            self._model,
            ids_BT,
            attention_mask=self._mask_BL.to(device),
            position_ids=positions_BT.to(device),
            past_key_values=self._cache,
            use_cache=True,
        )
