"""The training objective: loss = ce_weight * CE + kd_weight * T^2 * KL + hidden_weight * H.

Every term is a sum over rows of one micro batch divided by a total of the whole optimizer step: CE and KL by the step's
token weight (the sum of the class weights of its supervised tokens, over all micro batches and processes), H by the
step's number of aligned rows, so that class weights do not rescale it. How the rows came about and how steps
are composed is not known here.

Axes: N supervised tokens, V vocabulary, K tokens that are known of a teacher's distribution, M aligned rows, H width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fcdistill.config import ObjectiveConfig
from fcdistill.distillation.forward import ModelRows
from fcdistill.distillation.layers import LayerPair
from fcdistill.distillation.losses import TopK, cosine, cross_entropy, forward_kl, forward_kl_top_k, mse
from fcdistill.distillation.signals import CachedRows

__all__ = ["StepTotals", "components", "total_loss"]

_CHUNK_ROWS = 512
"""Rows whose [rows, V] float32 intermediates exist at the same time."""

_TINY = 1e-8

_HIDDEN_LOSSES = {"cosine": cosine, "mse": mse}


@dataclass(frozen=True)
class StepTotals:
    """What the terms of one optimizer step are divided by: scalars over all its micro batches and processes."""

    token_weight: Tensor
    num_hidden_rows: Tensor


def components(
    config: ObjectiveConfig,
    student: ModelRows,
    teacher: ModelRows | CachedRows | None,
    *,
    targets_N: Tensor,
    weights_N: Tensor,
    pairs: Sequence[LayerPair],
    projectors: nn.Module | None,
    totals: StepTotals,
) -> dict[str, Tensor]:
    """This micro batch's share of each term whose weight is not 0, before the term's weight.

    Args:
        config: the weights and kinds of the terms.
        student: its logits may have more columns than the teacher knows, which are those of the shared vocabulary.
        teacher: needed where kd_weight or hidden_weight is set.
        targets_N: the token that each row must predict.
        weights_N: class weight of each row, for CE and KL.
        pairs: the aligned layers.
        projectors: maps the student's hidden states into the teacher's width, pair by pair.
        totals: of the whole optimizer step.

    Returns:
        Scalars under `ce`, `kd` (with T^2) and `hidden` (mean over the pairs), per token and row of the step.
    """
    found = {}
    token_weight = totals.token_weight.clamp_min(_TINY)
    if config.ce_weight:
        found["ce"] = _by_chunks(_cross_entropy, student.logits_NV, targets_N, weights_N) / token_weight
    if config.kd_weight:
        assert teacher is not None
        found["kd"] = _divergence(student.logits_NV, teacher, weights_N, config.kd_temperature) / token_weight
    if config.hidden_weight:
        assert teacher is not None and projectors is not None
        distance = _HIDDEN_LOSSES[config.hidden_loss]
        projected = projectors(student.hidden_MH)
        sums = [
            distance(student_MH, teacher.hidden_MH[teacher_layer])
            for student_MH, (_, teacher_layer) in zip(projected, pairs, strict=True)
        ]
        found["hidden"] = torch.stack(sums).mean() / totals.num_hidden_rows.clamp_min(_TINY)
    return found


def total_loss(config: ObjectiveConfig, found: dict[str, Tensor]) -> Tensor:
    """The weighted sum of `components`."""
    weights = {"ce": config.ce_weight, "kd": config.kd_weight, "hidden": config.hidden_weight}
    return torch.stack([weights[name] * value for name, value in found.items()]).sum()


def _divergence(
    student_NV: Tensor, teacher: ModelRows | CachedRows, weights_N: Tensor, kd_temperature: float
) -> Tensor:
    def whole(student_NV: Tensor, teacher_NV: Tensor, weights_N: Tensor) -> Tensor:
        shared_NV = student_NV[:, : teacher_NV.shape[1]]
        return forward_kl(shared_NV, teacher_NV, kd_temperature=kd_temperature, weights_N=weights_N)

    if isinstance(teacher, ModelRows):
        return _by_chunks(whole, student_NV, teacher.logits_NV, weights_N)
    size = teacher.vocabulary_size

    def top_k(student_NV: Tensor, ids_NK: Tensor, logprobs_NK: Tensor, weights_N: Tensor) -> Tensor:
        known = TopK(ids_NK, logprobs_NK)
        return forward_kl_top_k(student_NV[:, :size], known, kd_temperature=kd_temperature, weights_N=weights_N)

    return _by_chunks(top_k, student_NV, teacher.top_k.ids_NK, teacher.top_k.logprobs_NK, weights_N)


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    return cross_entropy(logits_NV, targets_N, weights_N=weights_N)


def _by_chunks(loss: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """A summed loss over rows, chunk by chunk; the backward pass computes each chunk's intermediates again."""
    if len(rows[0]) <= _CHUNK_ROWS:
        return loss(*rows)
    chunks = zip(*(torch.split(tensor, _CHUNK_ROWS) for tensor in rows), strict=True)
    return torch.stack([checkpoint(loss, *chunk, use_reentrant=False) for chunk in chunks]).sum()
