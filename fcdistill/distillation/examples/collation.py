"""From examples to the tensors of a micro batch: how rows are laid out, and which of them are selected.

A completion token is predicted by the row before it: rows are selected here, once, so that nothing later shifts
anything. Models and losses are not known here.

Axes: as in `batches`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from fcdistill.config import CLASS_NAMES, TokenClass
from fcdistill.distillation.batches import MicroBatch, SideBatch, SpanTensors
from fcdistill.distillation.examples.examples import Example, HiddenPositions, Side
from fcdistill.distillation.packed.forward import Packing, model_inputs
from fcdistill.distillation.packed.packing import PackedRows, pack_tree, pad_rows
from fcdistill.distillation.signals.sources import CachedTeacher

__all__ = ["Collator", "Layout", "lay_out_side"]


@dataclass(frozen=True)
class Layout:
    """How one model's rows are laid out."""

    packing: Packing
    max_tokens: int
    """Longest packed row."""
    attention_tokens: int
    """Row length at which attention costs as much as all else, see `pack_tree`."""
    pad_id: int

    def lay_out(self, sequences: Sequence[Sequence[int]]) -> PackedRows:
        """The rows of these sequences."""
        if self.packing == "none":
            return pad_rows(sequences, pad_id=self.pad_id)
        return pack_tree(
            sequences, max_tokens=self.max_tokens, pad_id=self.pad_id, attention_tokens=self.attention_tokens
        )


def lay_out_side(
    side: Side, layout: Layout, examples: Sequence[Example], positions: HiddenPositions
) -> tuple[SideBatch, int]:
    """What one model reads of a micro batch, and which of its rows are selected.

    Returns:
        The side's part of the batch, and how many tokens are computed.
    """
    sequences = [example.student_ids if side == "student" else example.teacher_ids for example in examples]
    rows = layout.lay_out(sequences)
    logit_rows: list[Tensor] = []
    hidden_rows: list[Tensor] = []
    for example, path in zip(examples, rows.paths, strict=True):
        prompt = example.student_prompt if side == "student" else example.teacher_prompt
        logit_rows.append(path[len(prompt) - 1 :])
        hidden_rows.append(path[example.hidden_rows(side, positions)])
    batch: SideBatch = {
        "inputs": model_inputs(rows, layout.packing),
        "logit_rows_N": torch.cat(logit_rows),
        "hidden_rows_M": torch.cat(hidden_rows),
    }
    return batch, rows.num_tokens


@dataclass(frozen=True)
class Collator:
    """Makes a micro batch of examples.

    Where a process has run out of examples, `filler` is computed in their place and counts for nothing: all processes
    take part in every pass.
    """

    student: Layout
    teacher: Layout | None
    class_weights: Mapping[TokenClass, float]
    hidden_positions: HiddenPositions
    cached: CachedTeacher | None = None
    filler: Example | None = None

    def __call__(self, examples: Sequence[Example]) -> MicroBatch:
        """The batch."""
        if not examples:
            assert self.filler is not None, "a single process has no empty micro batches"
            return _without_weight(self([self.filler]))
        weight_of_class = torch.tensor([float(self.class_weights.get(name, 1.0)) for name in CLASS_NAMES])
        classes_N = torch.tensor([index for example in examples for index in example.classes])
        counts = torch.tensor([len(example.completion) for example in examples])
        student_side, num_tokens = lay_out_side("student", self.student, examples, self.hidden_positions)
        batch: MicroBatch = {
            "targets_N": torch.tensor([token for example in examples for token in example.completion]),
            "classes_N": classes_N,
            "weights_N": weight_of_class[classes_N],
            "example_N": torch.repeat_interleave(torch.arange(len(examples)), counts),
            "num_tokens": torch.tensor(num_tokens),
            "num_examples": torch.tensor(len(examples)),
            "student": student_side,
        }
        if self.teacher is not None:
            batch["teacher"], _ = lay_out_side("teacher", self.teacher, examples, self.hidden_positions)
        if self.cached is not None:
            batch["cached"] = self.cached.read([example.trace_id for example in examples])
        if any(example.alignment is not None for example in examples):
            batch["spans"] = _span_tensors(examples, batch["weights_N"])
        return batch


def _without_weight(batch: MicroBatch) -> MicroBatch:
    """The batch with the same passes, but no row that a loss or a total counts."""
    changed = batch.copy()
    changed["weights_N"] = torch.zeros_like(batch["weights_N"])
    changed["num_tokens"] = torch.zeros_like(batch["num_tokens"])
    changed["num_examples"] = torch.zeros_like(batch["num_examples"])
    changed["student"] = _without_hidden_rows(batch["student"])
    if "teacher" in batch:
        changed["teacher"] = _without_hidden_rows(batch["teacher"])
    if "cached" in batch:
        hidden_MH = {layer: rows_MH[:0] for layer, rows_MH in batch["cached"]["hidden_MH"].items()}
        changed["cached"] = {**batch["cached"], "hidden_MH": hidden_MH}
    if "spans" in batch:
        changed["spans"] = {**batch["spans"], "span_weights_Q": torch.zeros_like(batch["spans"]["span_weights_Q"])}
    return changed


def _without_hidden_rows(side: SideBatch) -> SideBatch:
    return {**side, "hidden_rows_M": side["hidden_rows_M"][:0]}


def _span_tensors(examples: Sequence[Example], weights_N: Tensor) -> SpanTensors:
    student_starts = accumulate((len(example.completion) for example in examples), initial=0)
    teacher_starts = accumulate((len(example.teacher_completion) for example in examples), initial=0)
    paired: list[tuple[int, int]] = []
    student: list[tuple[int, int]] = []
    teacher: list[tuple[int, int]] = []
    num_spans = 0
    for example, student_start, teacher_start in zip(examples, student_starts, teacher_starts, strict=False):
        assert example.alignment is not None, "examples of one run have one tokenizer a side"
        for span, is_paired in zip(example.alignment.spans, example.alignment.paired, strict=True):
            student_tokens = [student_start + index for index in span.student]
            teacher_tokens = [teacher_start + index for index in span.teacher]
            if is_paired:
                paired.append((student_tokens[0], teacher_tokens[0]))
            else:
                student += [(token, num_spans) for token in student_tokens]
                teacher += [(token, num_spans) for token in teacher_tokens]
                num_spans += 1
    paired_2P, student_2I, teacher_2J = (
        torch.tensor(found, dtype=torch.long).reshape(-1, 2).T for found in (paired, student, teacher)
    )
    span_lengths_Q = torch.bincount(student_2I[1], minlength=num_spans)
    span_sums_Q = torch.zeros(num_spans).index_add(0, student_2I[1], weights_N[student_2I[0]])
    return {
        "teacher_targets_U": torch.tensor([token for example in examples for token in example.teacher_completion]),
        "paired_student_P": paired_2P[0],
        "paired_teacher_P": paired_2P[1],
        "span_tokens_student_I": student_2I[0],
        "span_student_I": student_2I[1],
        "span_tokens_teacher_J": teacher_2J[0],
        "span_teacher_J": teacher_2J[1],
        "span_weights_Q": span_sums_Q / span_lengths_Q,
    }
