"""Distillation losses: pure functions of aligned rows.

A row is one supervised position, for the hidden losses one aligned position. Shifting, masking and normalising happened
elsewhere (`packing`, `objective`, `trainer`), so nothing here knows about padding or where the teacher's numbers came
from.

The logit losses compare p, the teacher's distribution, with q, the student's, both softened by kd_temperature, and are
multiplied by its square. A teacher is its logits, or the `TopK` of them: then all other tokens are one tail bucket on
both sides, which never increases a divergence (Csiszar and Shields 2004, lemma 4.1) and leaves it alone where q
is proportional to p within the tail.

Axes: N rows, V shared vocabulary, K kept teacher tokens, C compared classes (V, or K and the tail), H width. Units:
nats (cross-entropy and KL losses) or none, summed over N, computed in float32 whatever the input dtype (float64 stays
float64). `weights_N` multiplies each row's loss and carries no gradient.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "NO_LOGIT",
    "TopK",
    "cosine",
    "cross_entropy",
    "forward_kl",
    "hinge",
    "jsd",
    "logistic_ranking",
    "mse",
    "reverse_kl",
    "skew_kl",
    "tempered",
    "top_k",
    "tvd",
]

NO_LOGIT = -1e30
"""A logit without any mass, whose quotient by a small temperature is still a number."""
_TINY = 1e-12


@dataclass(frozen=True)
class TopK:
    """The teacher's most probable tokens of each row; what they leave of its mass is the tail's."""

    ids_NK: Tensor
    """Distinct token ids within a row, int64, below the student's number of columns."""
    logprobs_NK: Tensor
    """Their log-probabilities under the whole tempered distribution, not renormalised."""


def tempered(logits_NV: Tensor, kd_temperature: float) -> Tensor:
    """Logits by a temperature, in float32 or float64; those of tokens that a model rules out stay finite."""
    quotients_NV = _precise(logits_NV) / kd_temperature
    return quotients_NV if kd_temperature >= 1 else quotients_NV.clamp_min(NO_LOGIT)


def top_k(teacher_NV: Tensor, k: int, *, kd_temperature: float = 1.0) -> TopK:
    """The k most probable tokens of each row, the most probable first, without a gradient.

    Args:
        teacher_NV: finite teacher logits.
        k: tokens to keep, in 1..V.
        kd_temperature: softens the distribution, > 0; the losses need the same one.

    Raises:
        ValueError: k is not in 1..V, or kd_temperature is not positive.
    """
    _require_positive(kd_temperature)
    if not 1 <= k <= teacher_NV.shape[1]:
        raise ValueError(f"k is {k}; it must lie in 1..{teacher_NV.shape[1]}, the number of columns")
    # Not logits less their logsumexp: with that difference's rounding, the kept mass would miss 1 by more than a tail.
    logprobs_NK, ids_NK = F.log_softmax(tempered(teacher_NV.detach(), kd_temperature), dim=-1).topk(k, dim=-1)
    return TopK(ids_NK, logprobs_NK)


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
    student_NV: Tensor, teacher: Tensor | TopK, *, kd_temperature: float = 1.0, weights_N: Tensor | None = None
) -> Tensor:
    """Sum over rows of KL(teacher || student) = sum p log(p / q), times kd_temperature squared.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher: finite teacher logits for the same rows and token ids, or their top k at this temperature.
        kd_temperature: softens both sides, > 0; unrelated to sampling_temperature.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the shapes differ, or kd_temperature is not positive.

    Source: Hinton et al. 2015, section 2 (arXiv:1503.02531), including the square.
    """
    p_NC, q_NC = _logprobs(student_NV, teacher, kd_temperature, weights_N)
    return kd_temperature**2 * _weighted_sum(_kl(p_NC, q_NC), weights_N)


def reverse_kl(
    student_NV: Tensor, teacher_NV: Tensor, *, kd_temperature: float = 1.0, weights_N: Tensor | None = None
) -> Tensor:
    """Sum over rows of KL(student || teacher) = sum q log(q / p), times kd_temperature squared.

    There is no form for a `TopK`: how the teacher ranks the tokens that a student wrongly prefers, which is what this
    divergence teaches, would be lost in the tail.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher_NV: finite teacher logits for the same rows and token ids.
        kd_temperature: softens both sides, > 0.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the shapes differ, or kd_temperature is not positive.

    Source: MiniLLM (arXiv:2306.08543, section 2.1), here per token.
    """
    p_NV, q_NV = _logprobs(student_NV, teacher_NV, kd_temperature, weights_N)
    return kd_temperature**2 * _weighted_sum(_kl(q_NV, p_NV), weights_N)


def jsd(
    student_NV: Tensor,
    teacher: Tensor | TopK,
    *,
    beta: float = 0.5,
    kd_temperature: float = 1.0,
    weights_N: Tensor | None = None,
) -> Tensor:
    """Sum over rows of beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q, times T squared.

    Symmetric at beta = 0.5; a row has at most the entropy of (beta, 1 - beta). It vanishes with beta like
    beta KL(p || q), and with 1 - beta like (1 - beta) KL(q || p): for the limits take `forward_kl` and `reverse_kl`.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher: finite teacher logits for the same rows and token ids, or their top k at this temperature.
        beta: the teacher's share of the mixture, between 0 and 1, exclusive.
        kd_temperature: T, softens both sides, > 0.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the shapes differ, kd_temperature is not positive, or beta is out of range.

    Source: the generalised Jensen-Shannon divergence of GKD (arXiv:2306.13649, section 2).
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta is {beta}; it must lie between 0 and 1 (in the limits use forward_kl or reverse_kl)")
    p_NC, q_NC = _logprobs(student_NV, teacher, kd_temperature, weights_N)
    m_NC = _mixture(p_NC, q_NC, beta)
    divergence_N = beta * _kl(p_NC, m_NC) + (1 - beta) * _kl(q_NC, m_NC)
    return kd_temperature**2 * _weighted_sum(divergence_N, weights_N)


def skew_kl(
    student_NV: Tensor,
    teacher: Tensor | TopK,
    *,
    alpha: float = 0.1,
    kd_temperature: float = 1.0,
    weights_N: Tensor | None = None,
) -> Tensor:
    """Sum over rows of KL(p || alpha p + (1 - alpha) q), times kd_temperature squared.

    A row has at most -log(alpha), so that tokens which the student deems impossible do not rule the gradient;
    alpha = 0 is `forward_kl`.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher: finite teacher logits for the same rows and token ids, or their top k at this temperature.
        alpha: the teacher's share of the mixture, at least 0 and below 1.
        kd_temperature: softens both sides, > 0.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the shapes differ, kd_temperature is not positive, or alpha is out of range.

    Source: DistiLLM (arXiv:2402.03898, section 3.1).
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must be at least 0 and below 1")
    p_NC, q_NC = _logprobs(student_NV, teacher, kd_temperature, weights_N)
    return kd_temperature**2 * _weighted_sum(_kl(p_NC, _mixture(p_NC, q_NC, alpha)), weights_N)


def tvd(
    student_NV: Tensor, teacher: Tensor | TopK, *, kd_temperature: float = 1.0, weights_N: Tensor | None = None
) -> Tensor:
    """Sum over rows of the total variation distance 1/2 sum |p - q|, times kd_temperature squared.

    A row has a distance in 0..1: 0 for equal, 1 for disjoint distributions.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher: finite teacher logits for the same rows and token ids, or their top k at this temperature.
        kd_temperature: softens both sides, > 0.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0; 0 with a gradient path when N == 0.

    Raises:
        ValueError: the shapes differ, or kd_temperature is not positive.

    Source: the TVD variant of f-DISTILL (arXiv:2307.15190), here per token of a given text.
    """
    p_NC, q_NC = _logprobs(student_NV, teacher, kd_temperature, weights_N)
    return kd_temperature**2 * _weighted_sum((p_NC.exp() - q_NC.exp()).abs().sum(-1) / 2, weights_N)


def logistic_ranking(
    student_NV: Tensor, teacher: TopK, *, kd_temperature: float = 1.0, weights_N: Tensor | None = None
) -> Tensor:
    """Sum over rows of the mean of log(1 + q_j / q_i) over pairs with p_i > p_j, times kd_temperature squared.

    With the student's tempered logits z this is log(1 + exp(z_j - z_i)): the pairwise logistic loss of the teacher's
    order among its top tokens. It asks for the order only: no divergence, positive for p = q, and it falls
    as long as the student's margins grow.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher: the teacher's top k for the same rows and token ids, at this temperature.
        kd_temperature: softens the student, > 0.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0; 0 with a gradient path when N == 0. Rows without a pair (k is 1, or all are equal) add 0.

    Raises:
        ValueError: the shapes differ, or kd_temperature is not positive.

    Source: RankNet (Burges et al. 2005, section 3, for a certain order), as `logistic_ranking` of DistillKit
    (github.com/arcee-ai/DistillKit) applies it to tokens. There the mean is over the pairs of the whole batch, and
    tokens of a probability below 1e-9 are in no pair.
    """
    _require_positive(kd_temperature)
    _require_kept(student_NV, teacher, weights_N)
    # Differences of log-probabilities are those of logits: what is gathered is all that is needed.
    tempered_NK = _precise(student_NV.gather(-1, teacher.ids_NK)) / kd_temperature
    loss_NKK = F.softplus(tempered_NK.unsqueeze(-2) - tempered_NK.unsqueeze(-1))
    return kd_temperature**2 * _weighted_sum(_mean_over_pairs(loss_NKK, teacher), weights_N)


def hinge(student_NV: Tensor, teacher: TopK, *, kd_temperature: float = 1.0, weights_N: Tensor | None = None) -> Tensor:
    """Sum over rows of the mean of max(0, (p_i - p_j) - (q_i - q_j)) over pairs with p_i > p_j, times T squared.

    The student must keep the teacher's order among its top tokens, with at least the teacher's margins; 0 for p = q,
    at most 2 in a row.

    Args:
        student_NV: finite student logits; the gradient flows here only.
        teacher: the teacher's top k for the same rows and token ids, at this temperature.
        kd_temperature: T, softens both sides, > 0.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0; 0 with a gradient path when N == 0. Rows without a pair (k is 1, or all are equal) add 0.

    Raises:
        ValueError: the shapes differ, or kd_temperature is not positive.

    Source: `hinge` of DistillKit (github.com/arcee-ai/DistillKit) without a constant margin. There the mean is over the
    pairs of the whole batch, and tokens of a probability below 1e-8 are in no pair.
    """
    p_NC, q_NC = _logprobs(student_NV, teacher, kd_temperature, weights_N)
    num_kept = teacher.ids_NK.shape[1]
    excess_NK = p_NC[:, :num_kept].exp() - q_NC[:, :num_kept].exp()
    loss_NKK = F.relu(excess_NK.unsqueeze(-1) - excess_NK.unsqueeze(-2))
    return kd_temperature**2 * _weighted_sum(_mean_over_pairs(loss_NKK, teacher), weights_N)


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


def _logprobs(
    student_NV: Tensor, teacher: Tensor | TopK, kd_temperature: float, weights_N: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Tempered log-probabilities of the teacher (no gradient) and the student over the same classes, checked."""
    _require_positive(kd_temperature)
    if isinstance(teacher, Tensor):
        _require_shape(student_NV, teacher, weights_N)
        p_NV = F.log_softmax(tempered(teacher.detach(), kd_temperature), dim=-1)
        return p_NV, F.log_softmax(tempered(student_NV, kd_temperature), dim=-1)
    _require_kept(student_NV, teacher, weights_N)
    p_NK = _precise(teacher.logprobs_NK.detach())
    tempered_NV = tempered(student_NV, kd_temperature)
    tempered_NK = tempered_NV.gather(-1, teacher.ids_NK)
    if p_NK.shape == student_NV.shape:
        return p_NK, F.log_softmax(tempered_NK, dim=-1)
    # Rounding may bring the kept mass to 1; its complement is known to eps at best.
    kept_N1 = p_NK.logsumexp(-1, keepdim=True).clamp_max(-torch.finfo(p_NK.dtype).eps)
    p_NC = torch.cat([p_NK, (-kept_N1.expm1()).log()], dim=-1)
    # Summed, not subtracted from 1: a confident student's tail and its gradient would drown in rounding.
    tail_N1 = tempered_NV.scatter(-1, teacher.ids_NK, -math.inf).logsumexp(-1, keepdim=True)
    return p_NC, F.log_softmax(torch.cat([tempered_NK, tail_N1], dim=-1), dim=-1)


def _kl(first_NC: Tensor, second_NC: Tensor) -> Tensor:
    """KL(first || second) of each row, from log-probabilities."""
    return F.kl_div(second_NC, first_NC, reduction="none", log_target=True).sum(-1)


def _mixture(p_NC: Tensor, q_NC: Tensor, share: float) -> Tensor:
    """log(share p + (1 - share) q), from log-probabilities."""
    log_share = math.log(share) if share else -math.inf
    return torch.logaddexp(p_NC + log_share, q_NC + math.log1p(-share))


def _mean_over_pairs(loss_NKK: Tensor, teacher: TopK) -> Tensor:
    """The mean of each row's loss[i, j] over the pairs in which the teacher prefers i to j."""
    preferred_NKK = teacher.logprobs_NK.unsqueeze(-1) > teacher.logprobs_NK.unsqueeze(-2)
    num_pairs_N = preferred_NKK.sum((-2, -1)).clamp_min(1)
    return (loss_NKK * preferred_NKK).sum((-2, -1)) / num_pairs_N


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


def _require_kept(student_NV: Tensor, teacher: TopK, weights_N: Tensor | None) -> None:
    if teacher.ids_NK.shape != teacher.logprobs_NK.shape:
        raise ValueError(
            f"the teacher's ids are {tuple(teacher.ids_NK.shape)}, its logprobs are {tuple(teacher.logprobs_NK.shape)}"
        )
    if teacher.ids_NK.shape[1] > student_NV.shape[1]:
        raise ValueError(f"the teacher keeps {teacher.ids_NK.shape[1]} tokens of {student_NV.shape[1]}")
    _require_rows(student_NV, teacher.ids_NK, weights_N)


def _require_positive(kd_temperature: float) -> None:
    if kd_temperature <= 0:
        raise ValueError(f"kd_temperature is {kd_temperature}; it must be positive")
