"""The training objective: loss = ce_weight * CE + kd_weight * T^2 * D + hidden_weight * H.

Every term is a sum over rows of one micro batch divided by a total of the whole optimizer step: CE and D by the step's
token weight (the sum of the class weights of its supervised tokens, over all micro batches and processes), H by the
step's number of aligned rows, so that class weights do not rescale it. How the rows came about and how steps
are composed is not known here.

Between two tokenizers D is that of `cross_tokenizer`, over spans of text, and a term of its own. Where `kd_gate` is
set, the weights of D are those of `gating`; the step's token weight stays what it is divided by.

Terms that are sums over rows of logits take their gradient on the way forward, chunk by chunk, as in Liger's fused
cross-entropy (Hsu et al. 2024, arXiv 2410.10989): what a chunk needs in float32 is computed once and kept by nobody.

Axes: N supervised tokens, V vocabulary, M aligned rows, H width; between two tokenizers U, P, Q, I and J as in
`batches`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVarTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fcdistill.config import Divergence, ObjectiveConfig
from fcdistill.distillation.batches import SpanTensors
from fcdistill.distillation.losses.chunks import row_chunks
from fcdistill.distillation.losses.cross_tokenizer import (
    VocabularyMap,
    shared_string_kl,
    span_kl,
    span_logprobs,
    token_logprobs,
)
from fcdistill.distillation.losses.divergences import (
    TopK,
    cosine,
    cross_entropy,
    forward_kl,
    hinge,
    jsd,
    logistic_ranking,
    mse,
    reverse_kl,
    skew_kl,
    top_k,
    tvd,
)
from fcdistill.distillation.losses.gating import row_gate, span_gates
from fcdistill.distillation.losses.soft_labels import LogitLabels, SoftLabels, TopKLabels
from fcdistill.distillation.packed.forward import ModelRows
from fcdistill.distillation.signals.sources import CachedRows
from fcdistill.distillation.student.projectors import LayerPair
from fcdistill.errors import ConfigError

__all__ = ["RowSums", "SpanRows", "StepTotals", "compiled_row_sums", "loss_and_components"]

RowSums = Callable[[ObjectiveConfig, int, Tensor, Tensor, Tensor, SoftLabels | None], Tensor]
"""The sums of a chunk's rows, see `compiled_row_sums`."""

Tables = TypeVarTuple("Tables")

_TINY = 1e-8

_HIDDEN_LOSSES = {"cosine": cosine, "mse": mse}


@dataclass(frozen=True)
class StepTotals:
    """What the terms of one optimizer step are divided by: scalars over all its micro batches and processes."""

    token_weight: Tensor
    num_hidden_rows: Tensor


@dataclass(frozen=True)
class SpanRows:
    """How the rows of two tokenizers belong together."""

    tensors: SpanTensors
    vocabulary: VocabularyMap


def loss_and_components(
    config: ObjectiveConfig,
    student: ModelRows,
    teacher: ModelRows | CachedRows | None,
    *,
    targets_N: Tensor,
    weights_N: Tensor,
    pairs: Sequence[LayerPair],
    projectors: nn.Module | None,
    totals: StepTotals,
    spans: SpanRows | None = None,
    compiled: RowSums | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """This micro batch's share of the loss, and of each term whose weight is not 0.

    Args:
        config: the weights and kinds of the terms.
        student: its logits may have more columns than the teacher knows, which are those of the shared vocabulary.
        teacher: needed where kd_weight or hidden_weight is set.
        targets_N: the token that each row must predict.
        weights_N: class weight of each row, for CE and D.
        pairs: the aligned layers.
        projectors: maps the student's hidden states into the teacher's width, pair by pair.
        totals: of the whole optimizer step.
        spans: needed where the teacher has another tokenizer; D is forward KL then.
        compiled: what `compiled_row_sums` gave, where the loss is compiled.

    Returns:
        The weighted sum of the terms, and without gradients, before their weights, scalars under `ce`, `kd` (with T^2)
        and `hidden` (mean over the pairs), per token and row of the step; where D is gated, also `kd_gate_pass`, the
        share of the step's token weight that D keeps here, which is no term.
    """
    losses, found = [], {}
    token_weight = totals.token_weight.clamp_min(_TINY)
    row_terms = {"ce": config.ce_weight} if config.ce_weight else {}
    labels: SoftLabels | None = None
    num_shared = 0
    if config.kd_weight and spans is None:
        assert teacher is not None
        row_terms |= {"kd": config.kd_weight} | ({} if config.kd_gate == "off" else {"kd_gate_pass": 0.0})
        labels, num_shared = _soft_labels(teacher)
    if row_terms:
        sums = partial(compiled or _row_sums, config, num_shared)
        weighted, row_sums = _weighted_sums(
            sums, tuple(row_terms.values()), student.logits_NV, targets_N, weights_N, labels
        )
        losses.append(weighted / token_weight)
        found = dict(zip(row_terms, row_sums / token_weight, strict=True))
    if config.kd_weight and spans is not None:
        assert teacher is not None
        labels_U, _ = _soft_labels(teacher)
        weights_P, weights_Q = weights_N[spans.tensors["paired_student_P"]], spans.tensors["span_weights_Q"]
        if config.kd_gate != "off":
            gate_P, gate_Q = span_gates(config.kd_gate, labels_U, spans.tensors)
            weights_P, weights_Q = weights_P * gate_P, weights_Q * gate_Q
            num_tokens_Q = torch.bincount(spans.tensors["span_student_I"], minlength=len(weights_Q))
            found["kd_gate_pass"] = (weights_P.sum() + (weights_Q * num_tokens_Q).sum()) / token_weight
        aligned = _aligned_sum(config, student.logits_NV, labels_U, targets_N, weights_P, weights_Q, spans)
        losses.append(config.kd_weight * aligned / token_weight)
        found["kd"] = aligned.detach() / token_weight
    if config.hidden_weight:
        assert teacher is not None and projectors is not None
        distance = _HIDDEN_LOSSES[config.hidden_loss]
        projected = projectors(student.hidden_MH)
        distances = [
            distance(student_MH, teacher.hidden_MH[teacher_layer])
            for student_MH, (_, teacher_layer) in zip(projected, pairs, strict=True)
        ]
        hidden = torch.stack(distances).mean() / totals.num_hidden_rows.clamp_min(_TINY)
        losses.append(config.hidden_weight * hidden)
        found["hidden"] = hidden.detach()
    return torch.stack(losses).sum(), found


def compiled_row_sums(device: torch.device) -> RowSums:
    """The sums of CE and D over a chunk, compiled for any number of rows by the first calls.

    Raises:
        ConfigError: nothing can be compiled for this device here.
    """
    try:
        torch.compile(lambda values: values.exp() + 1)(torch.ones(2, device=device))
    except Exception as error:  # what a missing compiler raises differs between devices and versions
        raise ConfigError(
            f"compile_loss is set, but nothing can be compiled for {device} here: {str(error).splitlines()[0]}",
            required="a C++ compiler, on CUDA devices also triton",
            fix="install it, or set compile_loss to false",
        ) from error
    return torch.compile(_row_sums, dynamic=True)


def _soft_labels(teacher: ModelRows | CachedRows) -> tuple[SoftLabels, int]:
    """What is known of the teacher's distributions, and of how many columns."""
    if isinstance(teacher, CachedRows):
        return teacher.labels, teacher.vocabulary_size
    return LogitLabels(teacher.logits_NV), teacher.logits_NV.shape[1]


def _row_sums(
    config: ObjectiveConfig,
    num_shared: int,
    student_NV: Tensor,
    targets_N: Tensor,
    weights_N: Tensor,
    labels: SoftLabels | None,
) -> Tensor:
    """The sums over these rows of CE, of T^2 D and of the weight that passes D's gate, where wanted."""
    sums = []
    if config.ce_weight:
        sums.append(cross_entropy(student_NV, targets_N, weights_N=weights_N))
    if labels is not None:
        if config.kd_gate != "off":
            weights_N = weights_N * row_gate(config.kd_gate, labels, targets_N)
        divergence = _divergence(config)
        shared_NV = student_NV[:, :num_shared]
        sums.append(divergence(shared_NV, labels.compared, kd_temperature=config.kd_temperature, weights_N=weights_N))
        if config.kd_gate != "off":
            sums.append(weights_N.sum())
    return torch.stack(sums)


def _divergence(config: ObjectiveConfig) -> Callable[..., Tensor]:
    divergences: dict[Divergence, Callable[..., Tensor]] = {
        "forward_kl": forward_kl,
        "reverse_kl": reverse_kl,
        "jsd": partial(jsd, beta=config.jsd_beta),
        "skew_kl": partial(skew_kl, alpha=config.skew_alpha),
        "tvd": tvd,
        "logistic_ranking": partial(_of_top_tokens, logistic_ranking, config.ranking_top_k),
        "hinge": partial(_of_top_tokens, hinge, config.ranking_top_k),
    }
    return divergences[config.kd_divergence]


def _of_top_tokens(
    loss: Callable[..., Tensor],
    k: int,
    student_NV: Tensor,
    teacher: Tensor | TopK,
    *,
    kd_temperature: float,
    weights_N: Tensor,
) -> Tensor:
    if isinstance(teacher, TopK):
        kept = TopK(teacher.ids_NK[:, :k], teacher.logprobs_NK[:, :k])
    else:
        kept = top_k(teacher, min(k, teacher.shape[1]), kd_temperature=kd_temperature)
    return loss(student_NV, kept, kd_temperature=kd_temperature, weights_N=weights_N)


def _aligned_sum(
    config: ObjectiveConfig,
    student_NV: Tensor,
    labels: SoftLabels,
    targets_N: Tensor,
    weights_P: Tensor,
    weights_Q: Tensor,
    spans: SpanRows,
) -> Tensor:
    """The sum of the divergences over strings that both sides have, and of the likelihoods of all other spans."""
    rows, vocabulary = spans.tensors, spans.vocabulary

    def strings(student_PV: Tensor, teacher_P: Tensor, weights_P: Tensor) -> Tensor:
        divergence = shared_string_kl(
            student_PV,
            labels[teacher_P].compared,
            vocabulary,
            kd_temperature=config.kd_temperature,
            top_k=config.aligned_top_k,
            weights_N=weights_P,
        )
        return divergence.unsqueeze(0)

    def likelihoods(logits_NV: Tensor, targets_N: Tensor, size: int, tokens_I: Tensor, spans_I: Tensor) -> Tensor:
        def summed(tokens_I: Tensor, spans_I: Tensor) -> Tensor:
            logprobs_I = token_logprobs(logits_NV[tokens_I, :size], targets_N[tokens_I])
            return span_logprobs(logprobs_I, spans_I, len(weights_Q))

        # No sums yet, so that their gradient is not known here: where there are several chunks, the backward pass
        # computes each again, and gathers its rows again, so that no copy of all logits waits for it.
        parts = list(row_chunks(tokens_I, spans_I))
        if len(parts) == 1:
            return summed(tokens_I, spans_I)
        return torch.stack([checkpoint(summed, *part, use_reentrant=False) for part in parts]).sum(0)

    student_P, teacher_P = rows["paired_student_P"], rows["paired_teacher_P"]
    student_Q = likelihoods(
        student_NV, targets_N, vocabulary.student_size, rows["span_tokens_student_I"], rows["span_student_I"]
    )
    tokens_J, spans_J = rows["span_tokens_teacher_J"], rows["span_teacher_J"]
    if isinstance(labels, TopKLabels):
        teacher_Q = span_logprobs(labels.target_logprobs_N[tokens_J], spans_J, len(weights_Q))
    else:
        targets_U = rows["teacher_targets_U"]
        teacher_Q = likelihoods(labels.logits_NV, targets_U, vocabulary.teacher_size, tokens_J, spans_J)
    paired, _ = _weighted_sums(strings, (1.0,), student_NV[student_P], teacher_P, weights_P)
    return paired + span_kl(student_Q, teacher_Q, kd_temperature=config.kd_temperature, weights_Q=weights_Q)


def _weighted_sums(
    sums: Callable[[Tensor, *Tables], Tensor], weights: tuple[float, ...], logits_NV: Tensor, *others: *Tables
) -> tuple[Tensor, Tensor]:
    """Sums over rows, computed chunk by chunk: weighted, with a gradient for the logits; and each, without one."""
    found: tuple[Tensor, Tensor] = _WeightedSums.apply(  # type: ignore[no-untyped-call]
        sums, weights, logits_NV, *others
    )
    return found


class _WeightedSums(torch.autograd.Function):
    """The function behind `_weighted_sums`: what waits for the backward pass is the gradient, in the logits' dtype."""

    @staticmethod
    def forward(
        ctx: Any, sums: Callable[..., Tensor], weights: tuple[float, ...], logits_NV: Tensor, *others: Any
    ) -> tuple[Tensor, Tensor]:
        needs_gradient = ctx.needs_input_grad[2]
        gradient_NV = torch.empty_like(logits_NV) if needs_gradient else logits_NV
        weighted, single = [], []
        for part_NV, gradient_part_NV, *rest in row_chunks(logits_NV, gradient_NV, *others):
            leaf_NV = part_NV.detach().requires_grad_(needs_gradient)
            with torch.set_grad_enabled(needs_gradient):
                found = sums(leaf_NV, *rest)
                total = torch.stack([weight * value for weight, value in zip(weights, found, strict=True)]).sum()
            if needs_gradient:
                (found_NV,) = torch.autograd.grad(total, leaf_NV)
                gradient_part_NV.copy_(found_NV)
            weighted.append(total.detach())
            single.append(found.detach())
        if needs_gradient:
            ctx.save_for_backward(gradient_NV)
        totals = torch.stack(single).sum(0)
        ctx.mark_non_differentiable(totals)
        return torch.stack(weighted).sum(), totals

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_NV,) = ctx.saved_tensors
        return None, None, gradient_NV * gradient, *[None] * (len(ctx.needs_input_grad) - 3)
