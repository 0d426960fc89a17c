"""One forward pass that yields only the rows that a loss needs, and the check that packing is exact for a model.

The rows are selected before the LM head, inside the model's own forward pass: the head, whatever the model does to its
logits afterwards (scaling, soft capping), adapters and distributed wrappers stay as they are. What the rows mean and
what is computed from them is not known here.

Axes: R rows of a pack, T positions, N selected rows for logits, M selected rows for hidden states, V vocabulary,
H width.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fcdistill.distillation.batches import ModelInputs, inputs_to
from fcdistill.distillation.packed.attention import takes_block_masks, training_attention
from fcdistill.distillation.packed.packing import PackedRows, pack_tree, pad_rows
from fcdistill.distillation.packed.recomputation import keep_recipes
from fcdistill.distillation.packed.tree_masks import block_mask, dense_mask

__all__ = ["ModelRows", "Packing", "choose_packing", "forward_rows", "model_inputs"]

Packing = Literal["none", "dense_mask", "block_mask"]
"""How a model's rows are laid out and masked; `block_mask` is flex attention's."""

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


def model_inputs(rows: PackedRows, packing: Packing) -> ModelInputs:
    """What `forward_rows` reads these rows from: a causal LM's arguments, with `ends_RT` in a block mask's place."""
    if rows.padding_mask_RT is not None:
        return {"input_ids": rows.input_ids_RT, "attention_mask": rows.padding_mask_RT}
    assert rows.position_ids_RT is not None and rows.ends_RT is not None
    inputs: ModelInputs = {"input_ids": rows.input_ids_RT, "position_ids": rows.position_ids_RT}
    if packing == "block_mask":
        inputs["ends_RT"] = rows.ends_RT
    else:
        inputs["attention_mask"] = dense_mask(rows.ends_RT)
    return inputs


def forward_rows(
    model: nn.Module,
    head: nn.Module,
    inputs: ModelInputs,
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
    arguments: dict[str, object] = dict(inputs)
    if "ends_RT" in inputs:
        del arguments["ends_RT"]
        arguments["attention_mask"] = block_mask(inputs["ends_RT"])
    with precision, keep_recipes(), _head_sees_only(head, logit_rows_N):
        outputs = model(**arguments, use_cache=False, output_hidden_states=bool(layers))
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


def choose_packing(
    model: nn.Module,
    head: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    name: str,
    autocast: torch.dtype | None = None,
) -> Packing:
    """The fastest layout that gives this model the hidden states of unpacked rows; warns of each that does not.

    Layers that are not plain causal attention over the given mask (sliding windows that are shorter than a sequence,
    recurrent states) see their neighbours in a pack. The longest sequence, packed with the shortest one and attended to
    as in training, is compared with the model's own computation. Flex attention compiles kernels for the machine,
    which may fail, and for gradients only when some are asked for: those of trained weights are computed too.

    Args:
        model: the causal LM, in any mode; compared in eval mode.
        head: its output embeddings.
        sequences: token ids as they occur in training.
        name: how the warning calls the model.
        autocast: as in `forward_rows`.
    """
    by_length = sorted(sequences, key=len)
    chosen = [by_length[-1], by_length[0]]
    packings: list[Packing] = ["block_mask", "dense_mask"] if takes_block_masks(model) else ["dense_mask"]
    was_training = model.training
    model.eval()
    try:
        for packing in packings:
            problem = _difference(model, head, chosen, packing, autocast)
            if problem is None:
                return packing
            log.warning(
                "packing%s is not exact for the %s (%s); training %s instead, which is slower",
                " with flex attention" if packing == "block_mask" else "",
                name,
                problem,
                "with masks of every pair of tokens" if packing == "block_mask" else "on unpacked rows",
            )
    finally:
        model.train(was_training)
    return "none"


def _difference(
    model: nn.Module,
    head: nn.Module,
    sequences: Sequence[Sequence[int]],
    packing: Packing,
    autocast: torch.dtype | None,
) -> str | None:
    """What is wrong with a packing, if anything."""
    tolerance = _TOLERANCES.get(autocast or next(model.parameters()).dtype, 0.1)
    trained = [weight for weight in model.parameters() if weight.requires_grad] if packing == "block_mask" else []
    tree = pack_tree(sequences, max_tokens=sum(map(len, sequences)), attention_tokens=1 << 70)
    try:
        with torch.no_grad():
            padded = _final_hidden(model, head, pad_rows(sequences), "none", autocast)
        with training_attention(model), torch.set_grad_enabled(bool(trained)):
            packed = _final_hidden(model, head, tree, packing, autocast)
            if trained:
                torch.autograd.grad(packed.sum(), trained, allow_unused=True)
        difference = ((packed - padded).norm(dim=-1) / padded.norm(dim=-1).clamp_min(1e-12)).max().item()
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    if difference <= tolerance:
        return None
    return f"hidden states differ by {difference:.1e} of their norm, {tolerance:.0e} is allowed"


def _final_hidden(
    model: nn.Module, head: nn.Module, rows: PackedRows, packing: Packing, autocast: torch.dtype | None
) -> Tensor:
    device = next(model.parameters()).device
    inputs = inputs_to(model_inputs(rows, packing), device)
    kept = torch.cat(rows.paths).to(device)
    rows_of = forward_rows(model, head, inputs, kept[:0], layers=(-1,), hidden_rows_M=kept, autocast=autocast)
    return rows_of.hidden_MH[-1].float()
