"""Where the teacher's numbers come from: a teacher that runs beside the student, the student's own base, or a cache.

The teacher reads its own prompt and the student's completion; rows come back in the order of the batch's rows, so that
they pair with the student's. What is computed from them is not known here.

Axes: N supervised tokens (the teacher's own where it has another tokenizer), V vocabulary, K tokens that are known of a
distribution, M aligned rows, H width.
"""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fcdistill.distillation.batches import CachedSignals, SideBatch, inputs_to
from fcdistill.distillation.losses.cross_tokenizer import VocabularyMap
from fcdistill.distillation.losses.soft_labels import TopKLabels
from fcdistill.distillation.packed.attention import training_attention
from fcdistill.distillation.packed.forward import ModelRows, forward_rows
from fcdistill.distillation.signals.cache_files import TeacherCache
from fcdistill.distillation.student.lora import adapter_off

__all__ = ["CachedRows", "CachedTeacher", "OnlineTeacher"]


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
    is_student: bool = False
    """The model is the student, a `PeftModel`: it speaks without its adapter."""

    def speaking(self) -> AbstractContextManager[None]:
        """The context in which the model is the teacher."""
        return adapter_off(self.model) if self.is_student else contextlib.nullcontext()

    @torch.no_grad()
    def rows(self, side: SideBatch) -> ModelRows:
        """The teacher's logits (no rows where they are not needed) and hidden states for its side of a micro batch.

        The teacher may be on another device than the batch; the rows are where the batch is.
        """
        logit_rows_N = side["logit_rows_N"]
        place, back = next(self.model.parameters()).device, logit_rows_N.device
        with self.speaking(), training_attention(self.model):
            found = forward_rows(
                self.model,
                self.head,
                inputs_to(side["inputs"], place),
                logit_rows_N if self.needs_logits else logit_rows_N[:0],
                layers=self.layers,
                hidden_rows_M=side["hidden_rows_M"],
            )
        return ModelRows(
            found.logits_NV[:, : self.vocabulary_size].to(back),
            {layer: rows_MH.to(back) for layer, rows_MH in found.hidden_MH.items()},
        )


@dataclass(frozen=True)
class CachedRows:
    """What a cache holds for the selected rows; between two tokenizers those of the teacher's own tokens."""

    labels: TopKLabels
    vocabulary_size: int
    """How many token ids the teacher's are from; of one tokenizer, so many columns of the student's logits."""
    hidden_MH: dict[int, Tensor]
    """HF hidden_states index to rows."""


@dataclass(frozen=True)
class CachedTeacher:
    """A teacher that has spoken: `read` fetches what it said of some traces, `rows` gives it as a teacher's rows."""

    cache: TeacherCache
    vocabulary_size: int
    """Of the real vocabulary that both models share, or of the teacher's own, without padding."""
    kd_temperature: float
    """One of the cache's temperatures, if the top-k rows are wanted."""
    needs_logits: bool
    vocabulary_map: VocabularyMap | None = None
    """As an online teacher's."""

    def read(self, trace_ids: Sequence[str]) -> CachedSignals:
        """What a micro batch of these traces holds of the teacher.

        Raises:
            DataError: the cache lacks a trace.
            StorageError: the disk refused.
        """
        found = [self.cache.read(trace_id) for trace_id in trace_ids]
        # Where a trace has fewer tokens, the others' least likely ones count for the tail as well.
        num_kept = min(signals.ids_NK.shape[1] for signals in found)
        ids_NK = torch.cat([signals.ids_NK[:, :num_kept] for signals in found])
        logprobs_NK = untempered_NK = torch.empty(0, num_kept)
        target_logprobs_N = torch.empty(0)
        if self.needs_logits:
            column = self.cache.temperatures.index(self.kd_temperature)
            tempered = [signals.tempered(column, self.kd_temperature) for signals in found]
            logprobs_NK = torch.cat([rows_NK[:, :num_kept] for rows_NK in tempered])
            untempered_NK = torch.cat([signals.logprobs_NK[:, :num_kept] for signals in found]).float()
            target_logprobs_N = torch.cat([signals.target_logprobs_N for signals in found])
        return {
            "ids_NK": ids_NK[: len(logprobs_NK)],
            "logprobs_NK": logprobs_NK,
            "untempered_NK": untempered_NK,
            "target_logprobs_N": target_logprobs_N,
            "hidden_MH": {
                layer: torch.cat([signals.hidden_MH[layer] for signals in found]) for layer in self.cache.layers
            },
        }

    def rows(self, cached: CachedSignals) -> CachedRows:
        """The likeliest tokens and hidden states for a micro batch with what was read of this cache."""
        labels = TopKLabels(
            ids_NK=cached["ids_NK"],
            logprobs_NK=cached["logprobs_NK"],
            untempered_NK=cached["untempered_NK"],
            target_logprobs_N=cached["target_logprobs_N"],
        )
        return CachedRows(labels, self.vocabulary_size, cached["hidden_MH"])
