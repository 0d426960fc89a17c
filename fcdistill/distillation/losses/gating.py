"""How far a teacher is listened to where it contradicts the verified token: `objective.kd_gate`.

The tokens of a trace were verified, the teacher's distributions were not. It contradicts a token where it deems another
one strictly likelier; there its soft label is dropped (`agree`), or weighted by the probability at temperature 1 that
it gives the verified token (`prob`). Everywhere else the gate is 1, so that off >= prob >= agree in every row. Gates
multiply weights and carry no gradient; what the weights are divided by does not change, so that a row which is dropped
adds nothing and leaves the others alone. Losses are not known here.

Axes: N rows; between two tokenizers U, P, Q, J as in `batches`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fcdistill.config import KdGate
from fcdistill.distillation.batches import SpanTensors
from fcdistill.distillation.losses.chunks import row_chunks
from fcdistill.distillation.losses.soft_labels import SoftLabels, TopKLabels

__all__ = ["row_gate", "span_gates"]


@torch.no_grad()
def row_gate(kd_gate: KdGate, labels: SoftLabels, targets_N: Tensor) -> Tensor:
    """The gate of each row, in 0..1.

    Args:
        kd_gate: the rule; `off` is 1 everywhere.
        labels: what is known of the teacher's distributions; a top k that lacks a token contradicts it.
        targets_N: the verified token of each row.

    Returns:
        Float32.
    """
    if kd_gate == "off":
        return torch.ones(len(targets_N), device=targets_N.device)
    if isinstance(labels, TopKLabels):
        label_N = labels.untempered_NK.masked_fill(labels.ids_NK != targets_N[:, None], -torch.inf).amax(1)
        agrees_N = label_N >= labels.untempered_NK[:, 0]
    else:
        label_N = labels.logits_NV.gather(1, targets_N[:, None])[:, 0]
        agrees_N = label_N >= labels.logits_NV.amax(1)
    if kd_gate == "agree":
        return agrees_N.float()
    if isinstance(labels, TopKLabels):
        target_logprobs_N = labels.target_logprobs_N
    else:
        target_logprobs_N = -F.cross_entropy(labels.logits_NV.float(), targets_N, reduction="none")
    return torch.where(agrees_N, 1.0, target_logprobs_N.float().exp())


def span_gates(kd_gate: KdGate, labels: SoftLabels, spans: SpanTensors) -> tuple[Tensor, Tensor]:
    """The gates of a micro batch between two tokenizers, from the teacher's rows for its own tokens of the text.

    A pair is gated like a row, by the teacher's token. Of a longer span the teacher is asked for the likelihood of
    its text: it contradicts the span where it contradicts one of its tokens, since it would then have written another
    text, and the gate is the product over its tokens. Under `agree` it is 1 where the teacher agrees with all of them,
    under `prob` the likelihood of those tokens that it contradicts.

    Args:
        kd_gate: the rule.
        labels: what is known of the teacher's U distributions, padding columns left out.
        spans: how the rows of the two belong together.

    Returns:
        The gates of the P pairs and of the Q spans.
    """
    chunks = row_chunks(labels, spans["teacher_targets_U"])
    gate_U = torch.cat([row_gate(kd_gate, *chunk) for chunk in chunks])
    gate_Q = gate_U.new_ones(len(spans["span_weights_Q"]))
    gate_J = gate_U[spans["span_tokens_teacher_J"]]
    return gate_U[spans["paired_teacher_P"]], gate_Q.scatter_reduce(0, spans["span_teacher_J"], gate_J, "prod")
