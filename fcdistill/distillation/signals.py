"""Where the teacher's numbers come from: a teacher that runs beside the student.

The teacher reads its own prompt and the student's completion ids; rows come back in the order of the batch's rows, so
that they pair with the student's. Losses are not known here.

Axes: N supervised tokens, V shared vocabulary, M aligned rows, H width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from fcdistill.distillation.forward import ModelRows, forward_rows
from fcdistill.errors import ConfigError
from fcdistill.models import SharedVocabulary, shared_vocabulary

__all__ = ["OnlineTeacher", "require_one_vocabulary"]


@dataclass(frozen=True)
class OnlineTeacher:
    """A teacher whose forward pass runs at every step, without gradients."""

    model: nn.Module
    head: nn.Module
    vocabulary_size: int
    """Logits are cut to this many columns: the real vocabulary that both models share, without padding."""
    layers: tuple[int, ...]
    """HF hidden_states indices that are wanted."""
    needs_logits: bool

    @torch.no_grad()
    def rows(self, batch: Mapping[str, Any]) -> ModelRows:
        """The teacher's logits (no rows where they are not needed) and hidden states for a batch of `Collator`."""
        logit_rows_N = batch["teacher_logit_rows_N"]
        found = forward_rows(
            self.model,
            self.head,
            batch["teacher"],
            logit_rows_N if self.needs_logits else logit_rows_N[:0],
            layers=self.layers,
            hidden_rows_M=batch["teacher_hidden_rows_M"],
        )
        return ModelRows(found.logits_NV[:, : self.vocabulary_size], found.hidden_MH)


def require_one_vocabulary(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, *, student_name: str, teacher_name: str
) -> SharedVocabulary:
    """The vocabulary that both sides share.

    Raises:
        ConfigError: the tokenizers differ, so that the teacher's rows can't be paired with the student's.
    """
    shared = shared_vocabulary(student, teacher)
    if not shared.same:
        raise ConfigError(
            f"objective: kd_weight or hidden_weight is set, but student {student_name} and teacher {teacher_name} have "
            f"different tokenizers ({shared.detail})",
            required="one tokenizer for both: logits and hidden states are paired token by token",
            fix="set kd_weight and hidden_weight to 0 (cross-entropy on the traces works with any tokenizer), or "
            "choose a teacher and a student of one family",
        )
    return shared
