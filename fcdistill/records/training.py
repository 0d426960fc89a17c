"""What a training says of itself and of its teacher."""

from fcdistill.records.conversation import ModelRef
from fcdistill.records.record import Frozen, Record

__all__ = [
    "MetricsLine",
    "TeacherReport",
    "TokenFigures",
]


class TokenFigures(Frozen):
    """How a teacher sees verified tokens of one kind."""

    num_tokens: int
    nll: float
    """Mean negative log-likelihood at temperature 1, in nats per token."""
    agreement_rate: float | None
    """Share of tokens than which the teacher deems none likelier; None where a cache keeps the tokens' own
    log-probabilities alone."""


class TeacherReport(Record):
    """What a teacher thinks of the verified answers, before a student follows it: `teacher.json`."""

    teacher: ModelRef
    signal: str
    num_examples: int
    """Training examples that were drawn for it."""
    overall: TokenFigures
    by_class: dict[str, TokenFigures]
    """Per class of the teacher's own tokens; classes without a token are left out."""
    by_tool: dict[str, TokenFigures]
    """Names, keys and values of the calls of each tool; under `(no call)` all tokens of answers without a call."""


class MetricsLine(Record):
    """A line of metrics.jsonl: means over the optimizer steps since the line before, or a held-out evaluation.

    `ce`, `kd` and `hidden` are the components before their weights:
    loss = ce_weight * ce + kd_weight * kd + hidden_weight * hidden.
    Where some steps train on what the student samples, `loss` is the mean over all steps, and each component that over
    the steps of its kind.
    """

    step: int
    epoch: float
    loss: float | None = None
    ce: float | None = None
    kd: float | None = None
    """KL(teacher || student) at kd_temperature, times its square."""
    hidden: float | None = None
    kd_gate_pass: float | None = None
    """Share of the token weight that `kd_gate` leaves to the teacher's soft labels; none where it is off."""
    on_policy_kd: float | None = None
    """`kd` of the steps that train on samples."""
    on_policy_hidden: float | None = None
    """`hidden` of these steps."""
    on_policy_examples: int | None = None
    """Samples that were trained on."""
    on_policy_valid: float | None = None
    """Share of them that can be read and whose calls fit their tools' schemas."""
    learning_rate: float | None = None
    grad_norm: float | None = None
    """Before clipping."""
    tokens_per_s: float | None = None
    """Tokens that the student computed for the loss, each shared one once; those of sampling only take time."""
    examples_per_s: float | None = None
    held_out_ce: float | None = None
    """Nats per completion token."""
    held_out_token_accuracy: float | None = None
    held_out_call_accuracy: float | None = None
    """Share of the monitored traces that the student answers with exactly the verified calls."""
