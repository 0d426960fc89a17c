"""From traces to batches: rendered examples, what is left out, what is held out, and the tensors of a micro batch.

Student and teacher may read different prompts; the completion ids are the student's on both sides. A completion token
is predicted by the row before it: rows are selected here, once, so that nothing later shifts anything. Models and
losses are not known here.

Axes: N supervised tokens, M aligned rows of hidden states, K tokens that are known of a teacher's distribution.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from fcdistill.config import CLASS_NAMES, TokenClass, ToolsInPrompt
from fcdistill.distillation.forward import model_inputs
from fcdistill.distillation.packing import PackedRows, pack_tree, pad_rows
from fcdistill.distillation.signals import CachedTeacher
from fcdistill.errors import DataError
from fcdistill.prompts import render_example, render_prompt
from fcdistill.records import FunctionTool, Trace

__all__ = [
    "Collator",
    "Example",
    "HiddenPositions",
    "Layout",
    "drop_long",
    "hold_out",
    "length_statistics",
    "lay_out_side",
    "render_traces",
    "tools_of",
]

HiddenPositions = Literal["completion", "request+completion"]


@dataclass(frozen=True)
class Example:
    """A trace as token ids, for the student and, where one runs, for the teacher."""

    trace_id: str
    split_group: str
    student_prompt: tuple[int, ...]
    teacher_prompt: tuple[int, ...]
    """Empty where no teacher runs."""
    completion: tuple[int, ...]
    classes: tuple[int, ...]
    """Index in `CLASS_NAMES` of each completion token."""
    num_request_tokens: int
    """Prompt tokens right before the completion that belong to the request and are the same on both sides."""

    @property
    def student_ids(self) -> tuple[int, ...]:
        """What the student reads: the last completion token predicts nothing and is left away."""
        return self.student_prompt + self.completion[:-1]

    @property
    def teacher_ids(self) -> tuple[int, ...]:
        """What the teacher reads."""
        return self.teacher_prompt + self.completion[:-1]

    def num_hidden_rows(self, positions: HiddenPositions) -> int:
        """How many of the last rows have aligned hidden states: those that predict the completion, and more."""
        before = self.num_request_tokens - 1 if positions == "request+completion" else 0
        return max(before, 0) + len(self.completion)

    @property
    def num_tokens(self) -> int:
        """Length of the longer side, completion included."""
        return max(len(self.student_prompt), len(self.teacher_prompt)) + len(self.completion)


def render_traces(
    traces: Sequence[Trace],
    student: PreTrainedTokenizerBase,
    style: ToolsInPrompt,
    teacher: PreTrainedTokenizerBase | None = None,
) -> list[Example]:
    """Render traces with the renderer that evaluation uses.

    Args:
        traces: conversations whose last message is the supervised answer.
        student: the student's tokenizer.
        style: how the student's prompt shows the tools; the teacher's always shows them in full.
        teacher: the teacher's tokenizer, with the same vocabulary; its template may differ.
    """
    class_index = {name: index for index, name in enumerate(CLASS_NAMES)}
    examples = []
    for trace in traces:
        rendered = render_example(student, trace.messages, trace.specs, style)
        teacher_prompt: tuple[int, ...] = ()
        num_request_tokens = len(rendered.prompt_ids) - rendered.request_start
        if teacher is not None:
            teacher_prompt = tuple(render_prompt(teacher, trace.messages[:-1], trace.specs, "full"))
            num_request_tokens = _common_suffix(rendered.prompt_ids, teacher_prompt, num_request_tokens)
        examples.append(
            Example(
                trace_id=trace.id,
                split_group=trace.split_group,
                student_prompt=tuple(rendered.prompt_ids),
                teacher_prompt=teacher_prompt,
                completion=tuple(rendered.completion_ids),
                classes=tuple(class_index[name] for name in rendered.completion_classes),
                num_request_tokens=num_request_tokens,
            )
        )
    return examples


def _common_suffix(first: Sequence[int], second: Sequence[int], limit: int) -> int:
    same = 0
    while same < min(limit, len(second)) and first[-1 - same] == second[-1 - same]:
        same += 1
    return same


def drop_long(examples: Sequence[Example], max_example_tokens: int) -> tuple[list[Example], list[str]]:
    """The examples of at most so many tokens, and the trace ids of the others.

    Raises:
        DataError: none is left.
    """
    kept = [example for example in examples if example.num_tokens <= max_example_tokens]
    if not kept:
        shortest = min((example.num_tokens for example in examples), default=0)
        raise DataError(
            f"none of {len(examples)} traces has at most max_example_tokens {max_example_tokens} tokens"
            if examples
            else "the traces file holds no trace",
            required=f"at least one trace (the shortest has {shortest} tokens)" if examples else "at least one trace",
            fix="raise max_example_tokens, or set tools_in_prompt to compact or none" if examples else "generate some",
        )
    return kept, [example.trace_id for example in examples if example.num_tokens > max_example_tokens]


def hold_out(examples: Sequence[Example], fraction: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split into training and held-out examples; a split group stays on one side.

    Args:
        examples: rendered examples.
        fraction: share of the groups that is held out; at least one where it is positive.
        seed: which groups.

    Raises:
        DataError: there are too few groups to hold any out.
    """
    if not fraction:
        return list(examples), []
    groups = sorted({example.split_group for example in examples})
    if len(groups) < 2:
        raise DataError(
            f"held_out_fraction is {fraction}, but the traces have a single split group",
            required="at least two split groups",
            fix="set held_out_fraction to 0",
        )
    random.Random(seed).shuffle(groups)
    held_out = set(groups[: min(max(1, round(fraction * len(groups))), len(groups) - 1)])
    return (
        [example for example in examples if example.split_group not in held_out],
        [example for example in examples if example.split_group in held_out],
    )


def length_statistics(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """Minimum, median, 95th percentile, maximum and total of the student's prompt and completion tokens."""
    sides = {
        "prompt_tokens": [len(example.student_prompt) for example in examples],
        "completion_tokens": [len(example.completion) for example in examples],
    }
    return {name: _quantiles(sorted(lengths)) for name, lengths in sides.items()}


def _quantiles(lengths: list[int]) -> dict[str, int]:
    last = len(lengths) - 1
    ranks = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: lengths[round(rank * last)] for name, rank in ranks.items()} | {"total": sum(lengths)}


def tools_of(traces: Sequence[Trace]) -> tuple[FunctionTool, ...]:
    """All tools of the traces, one per name, in the order of their first appearance."""
    found: dict[str, FunctionTool] = {}
    for trace in traces:
        for tool in trace.tools:
            found.setdefault(tool.function.name, tool)
    return tuple(found.values())


@dataclass(frozen=True)
class Layout:
    """How one model's rows are laid out."""

    packed: bool
    max_tokens: int
    """Longest packed row."""
    attention_tokens: int
    """Row length at which attention costs as much as all else, see `pack_tree`."""
    pad_id: int

    def lay_out(self, sequences: Sequence[Sequence[int]]) -> PackedRows:
        """The rows of these sequences."""
        if not self.packed:
            return pad_rows(sequences, pad_id=self.pad_id)
        return pack_tree(
            sequences, max_tokens=self.max_tokens, pad_id=self.pad_id, attention_tokens=self.attention_tokens
        )


def lay_out_side(
    side: Literal["student", "teacher"], layout: Layout, examples: Sequence[Example], positions: HiddenPositions
) -> tuple[dict[str, Any], int]:
    """What one model reads of a micro batch, and which of its rows are selected: see `Collator`.

    Returns:
        The side's part of the batch, and how many tokens are computed.
    """
    sequences = [example.student_ids if side == "student" else example.teacher_ids for example in examples]
    rows = layout.lay_out(sequences)
    paths = list(zip(examples, rows.paths, strict=True))
    batch = {
        side: model_inputs(rows),
        f"{side}_logit_rows_N": torch.cat([path[-len(example.completion) :] for example, path in paths]),
        f"{side}_hidden_rows_M": torch.cat([path[-example.num_hidden_rows(positions) :] for example, path in paths]),
    }
    return batch, rows.num_tokens


@dataclass(frozen=True)
class Collator:
    """Makes a micro batch of examples: a plain nested dict of tensors.

    Keys: `student` and, where it runs beside it, `teacher` (model inputs), `targets_N`, `weights_N`, `classes_N`,
    `example_N` (index of the example in the micro batch), and for each side `*_logit_rows_N` and `*_hidden_rows_M`,
    flat indices of the predicting rows and of the rows whose hidden states are aligned, in the same order on both
    sides; `num_tokens` and `num_examples` for the log. A cached teacher adds its own keys instead of `teacher`.
    """

    student: Layout
    teacher: Layout | None
    class_weights: Mapping[TokenClass, float]
    hidden_positions: HiddenPositions
    cached: CachedTeacher | None = None

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The batch."""
        weight_of_class = torch.tensor([float(self.class_weights.get(name, 1.0)) for name in CLASS_NAMES])
        classes_N = torch.tensor([index for example in examples for index in example.classes])
        counts = torch.tensor([len(example.completion) for example in examples])
        student_side, num_tokens = lay_out_side("student", self.student, examples, self.hidden_positions)
        batch: dict[str, Any] = {
            "targets_N": torch.tensor([token for example in examples for token in example.completion]),
            "classes_N": classes_N,
            "weights_N": weight_of_class[classes_N],
            "example_N": torch.repeat_interleave(torch.arange(len(examples)), counts),
            "num_tokens": torch.tensor(num_tokens),
            "num_examples": torch.tensor(len(examples)),
            **student_side,
        }
        if self.teacher is not None:
            teacher_side, _ = lay_out_side("teacher", self.teacher, examples, self.hidden_positions)
            batch |= teacher_side
        if self.cached is not None:
            batch |= self.cached.read([example.trace_id for example in examples])
        return batch
