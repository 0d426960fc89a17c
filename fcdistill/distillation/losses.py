"""Distillation losses: pure functions of aligned rows.

A row is one supervised position, for the hidden losses one aligned position. Shifting, masking and normalising happened
elsewhere (`packing`, `objective`, `trainer`), so nothing here knows about padding or where the teacher's numbers came
from.

Axes: N rows, V shared vocabulary, K tokens that are known of a teacher's distribution, H width. Units: nats (logit
losses) or none (hidden losses), summed over N, computed in float32 whatever the input dtype (float64 stays float64).
`weights_N` multiplies each row's loss and carries no gradient.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TopK", "cosine", "cross_entropy", "forward_kl", "forward_kl_top_k", "mse"]

_TINY = 1e-12


@dataclass(frozen=True)
class TopK:
    """What is known of a teacher's distributions: some tokens of each, and so the mass of all others together."""

    ids_NK: Tensor
    """Distinct token ids, int64."""
    logprobs_NK: Tensor
    """Their log-probabilities over the whole vocabulary, at the temperature of the loss; not renormalised."""


def cross_entropy(logits_NV: Tensor, targets_N: Tensor, *, weights_N: Tensor | None = None) -> Tensor:
    """Sum over rows of -log softmax(logits)[target].

    Args:
        logits_NV: finite logits.
        targets_N: the token id that each row must predict.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the number of rows differs.
    """
    _require_rows(logits_NV, targets_N, weights_N)
    return _weighted_sum(F.cross_entropy(_precise(logits_NV), targets_N, reduction="none"), weights_N)


def forward_kl(
    student_NV: Tensor, teacher_NV: Tensor, *, kd_temperature: float = 1.0, weights_N: Tensor | None = None
) -> Tensor:
    """Sum over rows of KL(teacher || student), times kd_temperature squared.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher_NV: finite teacher logits for the same rows and token ids.
        kd_temperature: softens both sides, > 0; unrelated to sampling_temperature.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the shapes differ, or kd_temperature is not positive.

    Source: Hinton et al. 2015, section 2 (arXiv:1503.02531), including the square.
    """
    if kd_temperature <= 0:
        raise ValueError(f"kd_temperature is {kd_temperature}; it must be positive")
    _require_shape(student_NV, teacher_NV, weights_N)
    student_logprobs_NV = F.log_softmax(_precise(student_NV) / kd_temperature, dim=-1)
    teacher_logprobs_NV = F.log_softmax(_precise(teacher_NV.detach()) / kd_temperature, dim=-1)
    divergence_NV = F.kl_div(student_logprobs_NV, teacher_logprobs_NV, reduction="none", log_target=True)
    return kd_temperature**2 * _weighted_sum(divergence_NV.sum(-1), weights_N)


def forward_kl_top_k(
    student_NV: Tensor, teacher: TopK, *, kd_temperature: float = 1.0, weights_N: Tensor | None = None
) -> Tensor:
    """Sum over rows of KL(teacher || student) over K + 1 outcomes, times kd_temperature squared.

    The last outcome is the tail: all tokens that the teacher's record does not name. With K = V it is `forward_kl`.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher: the same rows, tempered by the same kd_temperature.
        kd_temperature: softens the student as the teacher was softened, > 0.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the numbers of rows differ, or kd_temperature is not positive.
    """
    if kd_temperature <= 0:
        raise ValueError(f"kd_temperature is {kd_temperature}; it must be positive")
    _require_rows(student_NV, teacher.ids_NK, teacher.logprobs_NK, weights_N)
    student_logprobs_NV = F.log_softmax(_precise(student_NV) / kd_temperature, dim=-1)
    student_logprobs_NK = student_logprobs_NV.gather(1, teacher.ids_NK)
    teacher_logprobs_NK = _precise(teacher.logprobs_NK.detach())
    divergence_NK = F.kl_div(student_logprobs_NK, teacher_logprobs_NK, reduction="none", log_target=True)
    divergence_N = divergence_NK.sum(-1)
    if teacher.ids_NK.shape[1] < student_NV.shape[1]:
        tail_N = (1 - teacher_logprobs_NK.exp().sum(-1)).clamp_min(0)
        # Summed over the other tokens: 1 minus the known ones would lose a small tail to rounding, and its gradient.
        student_tail_N = student_logprobs_NV.scatter(1, teacher.ids_NK, -torch.inf).logsumexp(-1)
        divergence_N = divergence_N + torch.xlogy(tail_N, tail_N) - tail_N * student_tail_N
    return kd_temperature**2 * _weighted_sum(divergence_N, weights_N)


def cosine(student_NH: Tensor, teacher_NH: Tensor, *, weights_N: Tensor | None = None) -> Tensor:
    """Sum over rows of 1 - cos(student, teacher): 0 for the same direction, 2 for the opposite one.

    Args:
        student_NH: hidden states of the student, in the teacher's width; the gradient flows here only.
        teacher_NH: hidden states of the teacher for the same rows.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the shapes differ.

    Source: the alignment term of Sanh et al. 2019, section 2 (arXiv:1910.01108).
    """
    _require_shape(student_NH, teacher_NH, weights_N)
    similarity_N = F.cosine_similarity(_precise(student_NH), _precise(teacher_NH.detach()), dim=-1)
    return _weighted_sum(1 - similarity_N, weights_N)


def mse(student_NH: Tensor, teacher_NH: Tensor, *, weights_N: Tensor | None = None) -> Tensor:
    """Sum over rows of the squared error relative to the teacher: |student - teacher|^2 / |teacher|^2.

    The division by the teacher's squared norm makes layers and models comparable: 0 is equal, 1 is a student of zeros.

    Args:
        student_NH: hidden states of the student, in the teacher's width; the gradient flows here only.
        teacher_NH: hidden states of the teacher for the same rows.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the shapes differ.

    Source: the hidden-state term of TinyBERT (arXiv:1909.10351, equation 8), here per row and normalised.
    """
    _require_shape(student_NH, teacher_NH, weights_N)
    precise_teacher_NH = _precise(teacher_NH.detach())
    error_N = (_precise(student_NH) - precise_teacher_NH).square().sum(-1)
    return _weighted_sum(error_N / precise_teacher_NH.square().sum(-1).clamp_min(_TINY), weights_N)


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _weighted_sum(loss_N: Tensor, weights_N: Tensor | None) -> Tensor:
    return (loss_N if weights_N is None else loss_N * weights_N.detach()).sum()


def _require_rows(*tensors: Tensor | None) -> None:
    rows = {len(tensor) for tensor in tensors if tensor is not None}
    if len(rows) > 1:
        raise ValueError(f"numbers of rows differ: {[len(tensor) for tensor in tensors if tensor is not None]}")


def _require_shape(student: Tensor, teacher: Tensor, weights_N: Tensor | None) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"student rows are {tuple(student.shape)}, teacher rows are {tuple(teacher.shape)}")
    _require_rows(student, weights_N)
