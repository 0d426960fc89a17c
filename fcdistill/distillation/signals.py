"""Where the teacher's numbers come from: a teacher that runs beside the student.

The teacher reads its own prompt and the student's completion; rows come back in the order of the batch's rows, so that
they pair with the student's. Losses are not known here.

Axes: N supervised tokens (the teacher's own where it has another tokenizer), V vocabulary, M aligned rows, H width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fcdistill.distillation.alignment import VocabularyMap
from fcdistill.distillation.forward import ModelRows, forward_rows

__all__ = ["OnlineTeacher"]


@dataclass(frozen=True)
class OnlineTeacher:
    """A teacher whose forward pass runs at every step, without gradients."""

    model: nn.Module
    head: nn.Module
    vocabulary_size: int
    """Logits are cut to this many columns: the real vocabulary, without padding."""
    layers: tuple[int, ...]
    """HF hidden_states indices that are wanted."""
    needs_logits: bool
    vocabulary_map: VocabularyMap | None = None
    """Only where the student has another tokenizer: which columns of the two sides are the same string."""

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
