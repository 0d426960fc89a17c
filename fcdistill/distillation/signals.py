"""Where the teacher's numbers come from: a teacher that runs beside the student, or what it left in a cache.

The teacher reads its own prompt and the student's completion ids; rows come back in the order of the batch's rows, so
that they pair with the student's. What is computed from them is not known here.

Axes: N supervised tokens, V shared vocabulary, K tokens that are known of a distribution, M aligned rows, H width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from fcdistill.distillation.forward import ModelRows, forward_rows
from fcdistill.distillation.losses import TopK
from fcdistill.distillation.teacher_cache import TeacherCache
from fcdistill.errors import ConfigError
from fcdistill.models import SharedVocabulary, shared_vocabulary

__all__ = ["CachedRows", "CachedTeacher", "OnlineTeacher", "require_one_vocabulary"]


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


@dataclass(frozen=True)
class CachedRows:
    """What a cache holds for the selected rows."""

    top_k: TopK
    """The likeliest token first."""
    vocabulary_size: int
    """How many columns of the student's logits the teacher's ids are about."""
    hidden_MH: dict[int, Tensor]
    """HF hidden_states index to rows."""


@dataclass(frozen=True)
class CachedTeacher:
    """A teacher that has spoken: `read` fetches what it said of some traces, `rows` gives it as a teacher's rows."""

    cache: TeacherCache
    vocabulary_size: int
    """Of the real vocabulary that both models share, without padding."""
    kd_temperature: float
    """One of the cache's temperatures, if the top-k rows are wanted."""
    needs_logits: bool

    def read(self, trace_ids: Sequence[str]) -> dict[str, Any]:
        """A batch's `teacher_ids_NK`, `teacher_logprobs_NK` (no rows where they are not needed) and `teacher_hidden`.

        Raises:
            DataError: the cache lacks a trace.
            StorageError: the disk refused.
        """
        found = [self.cache.read(trace_id) for trace_id in trace_ids]
        ids_NK = torch.cat([signals.ids_NK for signals in found])
        logprobs_NK = torch.empty(0, ids_NK.shape[1])
        if self.needs_logits:
            column = self.cache.temperatures.index(self.kd_temperature)
            logprobs_NK = torch.cat([signals.tempered(column, self.kd_temperature) for signals in found])
        return {
            "teacher_ids_NK": ids_NK[: len(logprobs_NK)],
            "teacher_logprobs_NK": logprobs_NK,
            "teacher_hidden": {
                layer: torch.cat([signals.hidden_MH[layer] for signals in found]) for layer in self.cache.layers
            },
        }

    def rows(self, batch: Mapping[str, Any]) -> CachedRows:
        """The likeliest tokens and hidden states for a batch of a `Collator` that reads this cache."""
        top_k = TopK(batch["teacher_ids_NK"], batch["teacher_logprobs_NK"])
        return CachedRows(top_k, self.vocabulary_size, batch["teacher_hidden"])


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
