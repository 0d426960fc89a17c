"""One forward pass that yields only the rows that a loss needs, and the check that packing is exact for a model.

The rows are selected before the LM head, inside the model's own forward pass: the head, whatever the model does to its
logits afterwards (scaling, soft capping), adapters and distributed wrappers stay as they are. What the rows mean and
what is computed from them is not known here.

Axes: R rows of a pack, T positions, N selected rows for logits, M selected rows for hidden states, V vocabulary,
H width.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fcdistill.distillation.attention import training_attention
from fcdistill.distillation.packing import PackedRows, pack_tree, pad_rows

__all__ = ["ModelRows", "forward_rows", "model_inputs", "packing_is_exact"]

log = logging.getLogger(__name__)

_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Relative difference of a row's final hidden state that rounding explains, per precision of the computation.

Measured on models of 4 to 30 layers: at most 1e-5 and 0.04 for float32 and bfloat16; a layer that sees its neighbours
differs by 1.
"""


@dataclass(frozen=True)
class ModelRows:
    """What a model computed at the selected rows."""

    logits_NV: Tensor
    hidden_MH: dict[int, Tensor]
    """HF hidden_states index to rows."""


def model_inputs(rows: PackedRows) -> dict[str, Tensor]:
    """The keyword arguments with which a causal LM reads these rows."""
    inputs = {"input_ids": rows.input_ids_RT, "attention_mask": rows.attention_mask}
    if rows.position_ids_RT is not None:
        inputs["position_ids"] = rows.position_ids_RT
    return inputs


def forward_rows(
    model: nn.Module,
    head: nn.Module,
    inputs: Mapping[str, Tensor],
    logit_rows_N: Tensor,
    *,
    layers: Sequence[int] = (),
    hidden_rows_M: Tensor | None = None,
    autocast: torch.dtype | None = None,
) -> ModelRows:
    """Run a model and keep some rows.

    Args:
        model: the causal LM, with whatever wraps it.
        head: its output embeddings, the module that turns hidden states into logits.
        inputs: as `model_inputs` gives them.
        logit_rows_N: flat indices (row * T + position) of the rows that get logits; none is cheap.
        layers: HF hidden_states indices that are kept.
        hidden_rows_M: flat indices of the rows whose hidden states are kept; needed where `layers` is not empty.
        autocast: precision of matrix products where it differs from that of the weights.
    """
    device = inputs["input_ids"].device.type
    precision = torch.autocast(device, dtype=autocast) if autocast is not None else contextlib.nullcontext()
    with precision, _head_sees_only(head, logit_rows_N):
        outputs = model(**inputs, use_cache=False, output_hidden_states=bool(layers))
    hidden_MH: dict[int, Tensor] = {}
    if layers:
        assert hidden_rows_M is not None
        for layer in layers:  # those of a model that is spread over devices lie on several
            states_TH = outputs.hidden_states[layer].flatten(0, 1)
            hidden_MH[layer] = states_TH[hidden_rows_M.to(states_TH.device)]
    return ModelRows(outputs.logits[0], hidden_MH)


@contextlib.contextmanager
def _head_sees_only(head: nn.Module, rows_N: Tensor) -> Iterator[None]:
    def select(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states_TH = arguments[0].flatten(0, 1)
        return (states_TH[rows_N.to(states_TH.device)].unsqueeze(0), *arguments[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def packing_is_exact(
    model: nn.Module,
    head: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    name: str,
    autocast: torch.dtype | None = None,
) -> bool:
    """Whether packed rows give this model the hidden states of unpacked ones; warns where they do not.

    Layers that are not plain causal attention over the given mask (sliding windows that are shorter than a sequence,
    recurrent states) see their neighbours in a pack. The longest sequence, packed with the shortest one and attended to
    as in training, is compared with the model's own computation.

    Args:
        model: the causal LM, in any mode; compared in eval mode.
        head: its output embeddings.
        sequences: token ids as they occur in training.
        name: how the warning calls the model.
        autocast: as in `forward_rows`.
    """
    by_length = sorted(sequences, key=len)
    chosen = [by_length[-1], by_length[0]]
    tolerance = _TOLERANCES.get(autocast or next(model.parameters()).dtype, 0.1)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        padded = _final_hidden(model, head, pad_rows(chosen), device, autocast)
        with training_attention(model):
            tree = pack_tree(chosen, max_tokens=sum(map(len, chosen)), attention_tokens=1 << 70)
            packed = _final_hidden(model, head, tree, device, autocast)
        difference = ((packed - padded).norm(dim=-1) / padded.norm(dim=-1).clamp_min(1e-12)).max().item()
        detail = f"hidden states differ by {difference:.1e} of their norm, {tolerance:.0e} is allowed"
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        difference, detail = float("inf"), f"{type(error).__name__}: {error}"
    finally:
        model.train(was_training)
    if difference <= tolerance:
        return True
    log.warning(
        "packing is not exact for the %s (%s); training on unpacked rows instead, which is slower", name, detail
    )
    return False


def _final_hidden(
    model: nn.Module, head: nn.Module, rows: PackedRows, device: torch.device, autocast: torch.dtype | None
) -> Tensor:
    inputs = {key: value.to(device) for key, value in model_inputs(rows).items()}
    kept = torch.cat(rows.paths).to(device)
    rows_of = forward_rows(model, head, inputs, kept[:0], layers=(-1,), hidden_rows_M=kept, autocast=autocast)
    return rows_of.hidden_MH[-1].float()
