"""Distillation losses between two tokenizers: pure functions of rows that `spans` has aligned.

Where a span of text is one token on both sides, and the same string, the two distributions are compared string by
string. Where it is several tokens on a side, only the likelihoods of the text that stands there can be compared.
Against a teacher that is certain of the text, both are the cross-entropy of the student's tokens, so that the sum over
all spans keeps the scale of a per-token loss. Which rows belong together, and where they come from, is not known here.

Axes: N rows, V vocabulary of a side, S shared strings, K compared strings, P paired rows, Q longer spans, I tokens of
longer spans. Units: nats, summed over N or Q, computed in float32 whatever the input dtype (float64 stays float64).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fcdistill.distillation.losses.divergences import NO_LOGIT, TopK, forward_kl, tempered
from fcdistill.distillation.tokenizers.token_strings import StringPairs

__all__ = ["VocabularyMap", "shared_string_kl", "span_kl", "span_logprobs", "token_logprobs"]

_NEVER = -1e4
"""A log-probability whose exp is 0: an infinite one would make 0 * inf of terms that do not count."""

_LARGEST_LOGPROB = -1e-30
"""A likelihood of 1 has no logarithm of its complement; this one's has, and a gradient that float32 can hold."""


@dataclass(frozen=True)
class VocabularyMap:
    """Which columns of two models' logits are the same string."""

    student_ids_S: Tensor
    teacher_ids_S: Tensor
    student_size: int
    """Columns of the student's tokens; the padding of its head lies behind them."""
    teacher_size: int

    @classmethod
    def of(cls, pairs: StringPairs, device: torch.device | str = "cpu") -> "VocabularyMap":
        """The map of two tokenizers."""
        ids_2S = torch.tensor([*pairs.teacher_id_of.items()], device=device).T.contiguous()
        return cls(ids_2S[0], ids_2S[1], len(pairs.student.strings), len(pairs.teacher.strings))

    @property
    def is_complete(self) -> bool:
        """Whether every token of each side has its counterpart."""
        return len(self.student_ids_S) == self.student_size == self.teacher_size

    def student_ids_of(self, teacher_ids: Tensor) -> Tensor:
        """The student's ids of the same strings, -1 where there is none."""
        of_teacher_V = self.student_ids_S.new_full((self.teacher_size,), -1)
        of_teacher_V[self.teacher_ids_S] = self.student_ids_S
        return of_teacher_V[teacher_ids]


def shared_string_kl(
    student_NV: Tensor,
    teacher: Tensor | TopK,
    vocabulary: VocabularyMap,
    *,
    kd_temperature: float = 1.0,
    top_k: int | None = 64,
    weights_N: Tensor | None = None,
) -> Tensor:
    """Sum over rows of KL(teacher || student) over shared strings and a bucket, times kd_temperature squared.

    The bucket holds the mass, at the given temperature, of all that is not compared by itself: further shared strings,
    and tokens without a counterpart. It exists on both sides, so nothing is renormalised away. By the data processing
    inequality the result is at most the divergence over all outcomes.

    Args:
        student_NV: finite student logits; the gradient flows here only. Columns behind the vocabulary are ignored.
        teacher: finite teacher logits for the same rows, or their top k at this temperature, in the teacher's ids and
            the likeliest first; what is not among these is in the bucket.
        vocabulary: the shared strings.
        kd_temperature: softens both sides, > 0.
        top_k: compares only the teacher's likeliest shared strings of each row; None: all of them.
        weights_N: weight of each row; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when N == 0. With every token paired and all of them
        compared there is no bucket, and it is `forward_kl`.

    Raises:
        ValueError: the numbers of rows differ, or kd_temperature is not positive.
    """
    if kd_temperature <= 0:
        raise ValueError(f"kd_temperature is {kd_temperature}; it must be positive")
    num_rows = len(teacher.ids_NK if isinstance(teacher, TopK) else teacher)
    if len(student_NV) != num_rows:
        raise ValueError(f"numbers of rows differ: {len(student_NV)} of the student, {num_rows} of the teacher")
    if isinstance(teacher, TopK):
        compared_NC, kept = _paired(student_NV, teacher, vocabulary, top_k)
        return forward_kl(compared_NC, kept, kd_temperature=kd_temperature, weights_N=weights_N)
    student_NV = tempered(student_NV[:, : vocabulary.student_size], kd_temperature)
    teacher_NV = tempered(teacher[:, : vocabulary.teacher_size].detach(), kd_temperature)
    shared_NS = teacher_NV[:, vocabulary.teacher_ids_S]
    num_shared = shared_NS.shape[1]
    top_k = num_shared if top_k is None else min(top_k, num_shared)
    if top_k == num_shared and vocabulary.is_complete:
        compared = student_NV[:, vocabulary.student_ids_S], shared_NS
    else:
        # At least one string stays in the bucket: a side without any could give it no mass at all.
        chosen_NK = shared_NS.topk(min(top_k, num_shared - 1), dim=-1).indices
        compared = (
            _with_bucket(student_NV, vocabulary.student_ids_S[chosen_NK]),
            _with_bucket(teacher_NV, vocabulary.teacher_ids_S[chosen_NK]),
        )
    return kd_temperature**2 * forward_kl(*compared, weights_N=weights_N)


def _paired(student_NV: Tensor, teacher: TopK, vocabulary: VocabularyMap, top_k: int | None) -> tuple[Tensor, TopK]:
    """The likeliest strings of a top k that the student has, in its ids, beside columns for the others.

    Rows lack different numbers of strings. In place of one that is not compared stands a column behind the vocabulary
    that has no mass on either side, so that what the string has falls to the tail.
    """
    student_ids_NK = vocabulary.student_ids_of(teacher.ids_NK)
    num_kept = student_ids_NK.shape[1]
    is_shared_NK = student_ids_NK >= 0
    # At least one string stays in the bucket: a side without any could give it no mass at all.
    most = len(vocabulary.student_ids_S) - 1
    compares_NK = is_shared_NK & (is_shared_NK.cumsum(1) <= (most if top_k is None else min(top_k, most)))
    student_NV = _precise(student_NV[:, : vocabulary.student_size])
    padded_NC = F.pad(student_NV, (0, num_kept), value=NO_LOGIT)
    spare_K = torch.arange(num_kept, device=student_NV.device) + vocabulary.student_size
    return padded_NC, TopK(
        torch.where(compares_NK, student_ids_NK, spare_K),
        _precise(teacher.logprobs_NK.detach()).masked_fill(~compares_NK, _NEVER),
    )


def token_logprobs(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """The log-probability of each row's target, exact to full precision where it is close to 0 too.

    There log_softmax rounds to 0 and the likelihood of a span, whose complement matters, would lose its gradient.

    Args:
        logits_NV: finite logits of at least two tokens.
        targets_N: the token id of each row.
    """
    logits_NV, targets_N1 = _precise(logits_NV), targets_N[:, None]
    others_N = logits_NV.scatter(1, targets_N1, -torch.inf).logsumexp(1)
    return F.logsigmoid(logits_NV.gather(1, targets_N1)[:, 0] - others_N)


def span_logprobs(logprobs_I: Tensor, spans_I: Tensor, num_spans: int) -> Tensor:
    """The log-likelihood of each span: the sum over its tokens.

    Args:
        logprobs_I: of tokens.
        spans_I: the span of each token, in 0..num_spans - 1.
        num_spans: length of the result.
    """
    return logprobs_I.new_zeros(num_spans).index_add(0, spans_I, logprobs_I)


def span_kl(
    student_Q: Tensor, teacher_Q: Tensor, *, kd_temperature: float = 1.0, weights_Q: Tensor | None = None
) -> Tensor:
    """Sum over spans of the binary KL(teacher || student) of "this text" against "any other", times kd_temperature.

    With p and q the teacher's and the student's likelihood of the span's tokens, each raised to 1 / kd_temperature:
    p log(p / q) + (1 - p) log((1 - p) / (1 - q)). The factor is not squared: both powers tend to 1 as the temperature
    grows, and the product with a single factor to a limit, log p - log q + log p log(log q / log p) of the bare
    likelihoods.

    Args:
        student_Q: the student's log-likelihoods <= 0; the gradient flows here only.
        teacher_Q: the teacher's.
        kd_temperature: softens both sides, > 0.
        weights_Q: weight of each span; 1 where not given.

    Returns:
        A scalar >= 0 up to rounding; 0 with a gradient path when Q == 0.

    Raises:
        ValueError: the shapes differ, or kd_temperature is not positive.

    Source: approximate likelihood matching, Minixhofer et al. 2025 (arXiv:2503.20083), with f the KL divergence. Its
    outcome chunk debiasing is left out: it multiplies a likelihood with the probability that a pre-token (in practice
    whitespace) begins after the span, and merges spans until that is probable. In the JSON of a call whitespace is
    certain or impossible nearly everywhere, and merged spans are whole fields. What remains is the mass that a side
    gives to tokens which begin in a span and end behind it; it counts against that side's likelihood.
    """
    if kd_temperature <= 0:
        raise ValueError(f"kd_temperature is {kd_temperature}; it must be positive")
    if student_Q.shape != teacher_Q.shape:
        raise ValueError(f"student spans are {tuple(student_Q.shape)}, teacher spans are {tuple(teacher_Q.shape)}")
    logq_Q = (_precise(student_Q) / kd_temperature).clamp_max(_LARGEST_LOGPROB)
    logp_Q = (_precise(teacher_Q.detach()) / kd_temperature).clamp_max(_LARGEST_LOGPROB)
    not_q_Q, not_p_Q = -torch.expm1(logq_Q), -torch.expm1(logp_Q)
    divergence_Q = logp_Q.exp() * (logp_Q - logq_Q) + not_p_Q * (not_p_Q.log() - not_q_Q.log())
    return kd_temperature * (divergence_Q if weights_Q is None else divergence_Q * weights_Q.detach()).sum()


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _with_bucket(logits_NV: Tensor, ids_NK: Tensor) -> Tensor:
    """The logits of some ids and, in a last column, of all others together."""
    others_N1 = logits_NV.scatter(1, ids_NK, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([logits_NV.gather(1, ids_NK), others_N1], dim=1)
