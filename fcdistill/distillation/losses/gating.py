"""How far a teacher is listened to where it contradicts the verified token: `objective.kd_gate`.

The tokens of a trace were verified, the teacher's distributions were not. It contradicts a token where it deems another
one strictly likelier; there its soft label is dropped (`agree`), or weighted by the probability at temperature 1 that
it gives the verified token (`prob`). Everywhere else the gate is 1, so that off >= prob >= agree in every row. Gates
multiply weights and carry no gradient; what the weights are divided by does not change, so that a row which is dropped
adds nothing and leaves the others alone. Losses are not known here.

Axes: N rows, V vocabulary, K tokens that are known of a distribution; between two tokenizers U, P, Q, J as in
`collation.Collator`.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fcdistill.config import KdGate
from fcdistill.distillation.losses.chunks import row_chunks
from fcdistill.distillation.losses.divergences import TopK

__all__ = ["row_gate", "span_gates"]


@torch.no_grad()
def row_gate(
    kd_gate: KdGate, teacher: Tensor | TopK, targets_N: Tensor, target_logprobs_N: Tensor | None = None
) -> Tensor:
    """The gate of each row, in 0..1.

    Args:
        kd_gate: the rule; `off` is 1 everywhere.
        teacher: its logits, or its top k at temperature 1 with the most probable token first.
        targets_N: the verified token of each row.
        target_logprobs_N: their log-probabilities at temperature 1; needed beside a top k, which may lack a token and
            thereby contradicts it.

    Returns:
        Float32.
    """
    if kd_gate == "off":
        return torch.ones(len(targets_N), device=targets_N.device)
    if isinstance(teacher, TopK):
        label_N = teacher.logprobs_NK.masked_fill(teacher.ids_NK != targets_N[:, None], -torch.inf).amax(1)
        agrees_N = label_N >= teacher.logprobs_NK[:, 0]
    else:
        label_N = teacher.gather(1, targets_N[:, None])[:, 0]
        agrees_N = label_N >= teacher.amax(1)
    if kd_gate == "agree":
        return agrees_N.float()
    if not isinstance(teacher, TopK):
        target_logprobs_N = -F.cross_entropy(teacher.float(), targets_N, reduction="none")
    assert target_logprobs_N is not None, "a top k comes with the targets' log-probabilities"
    return torch.where(agrees_N, 1.0, target_logprobs_N.float().exp())


def span_gates(
    kd_gate: KdGate,
    teacher: Tensor | TopK,
    spans: Mapping[str, Tensor],
    target_logprobs_U: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The gates of a micro batch between two tokenizers, from the teacher's rows for its own tokens of the text.

    A pair is gated like a row, by the teacher's token. Of a longer span the teacher is asked for the likelihood of
    its text: it contradicts the span where it contradicts one of its tokens, since it would then have written another
    text, and the gate is the product over its tokens. Under `agree` it is 1 where the teacher agrees with all of them,
    under `prob` the likelihood of those tokens that it contradicts.

    Args:
        kd_gate: the rule.
        teacher: its logits, padding columns left out, or its top k at temperature 1.
        spans: `spans` of a batch of `collation.Collator`.
        target_logprobs_U: as for `row_gate`.

    Returns:
        The gates of the P pairs and of the Q spans.
    """
    targets_U = spans["teacher_targets_U"]
    if isinstance(teacher, TopK):
        gate_U = row_gate(kd_gate, teacher, targets_U, target_logprobs_U)
    else:
        gate_U = torch.cat([row_gate(kd_gate, *chunk) for chunk in row_chunks(teacher, targets_U)])
    gate_Q = gate_U.new_ones(len(spans["span_weights_Q"]))
    gate_J = gate_U[spans["span_tokens_teacher_J"]]
    return gate_U[spans["paired_teacher_P"]], gate_Q.scatter_reduce(0, spans["span_teacher_J"], gate_J, "prod")
