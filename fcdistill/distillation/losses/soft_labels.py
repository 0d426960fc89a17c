"""What is known of a teacher's distributions: its logits, or of each the likeliest tokens, as a cache keeps them.

Either kind is a table of rows: it has a length, and rows of it are chosen as those of a tensor are. Where the numbers
come from, and what is computed from them, is not known here.

Axes: N rows (the teacher's own U tokens where it has another tokenizer), V vocabulary, K tokens that are known of a
distribution.
"""

from dataclasses import dataclass

from torch import Tensor

from fcdistill.distillation.losses.divergences import TopK

__all__ = ["LogitLabels", "SoftLabels", "TopKLabels"]


@dataclass(frozen=True)
class LogitLabels:
    """All of a teacher's distributions."""

    logits_NV: Tensor

    def __len__(self) -> int:
        return len(self.logits_NV)

    def __getitem__(self, rows: slice | Tensor) -> "LogitLabels":
        return LogitLabels(self.logits_NV[rows])

    @property
    def compared(self) -> Tensor:
        """What divergences compare the student with: they soften logits themselves."""
        return self.logits_NV


@dataclass(frozen=True)
class TopKLabels:
    """The likeliest tokens of a teacher's distributions; what they leave of its mass is the tail's."""

    ids_NK: Tensor
    """Distinct token ids within a row, int64: the likeliest first, or the verified token alone."""
    logprobs_NK: Tensor
    """Their log-probabilities at kd_temperature."""
    untempered_NK: Tensor
    """Their log-probabilities at temperature 1."""
    target_logprobs_N: Tensor
    """Those of the verified tokens at temperature 1, in or outside the top k."""

    def __len__(self) -> int:
        return len(self.ids_NK)

    def __getitem__(self, rows: slice | Tensor) -> "TopKLabels":
        return TopKLabels(
            self.ids_NK[rows], self.logprobs_NK[rows], self.untempered_NK[rows], self.target_logprobs_N[rows]
        )

    @property
    def compared(self) -> TopK:
        """What divergences compare the student with: the top k at kd_temperature."""
        return TopK(self.ids_NK, self.logprobs_NK)


SoftLabels = LogitLabels | TopKLabels
"""What is known of a teacher's distributions."""
