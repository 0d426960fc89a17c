"""How every contender is measured: a clock in its Trainer, the memory of its process, and its model FLOPs.

All contenders are subclasses of `transformers.Trainer`, so one callback times them all: from the end of one optimizer
step to the end of the next, with the making of its batches, without loading and saving of models. The first step is a
warm-up. Nothing of fcdistill or of a peer is known here.

Model FLOPs count what the contender's own layout has to compute, each token once, padding and recomputation not: with
B weights in the layers' matrices, A in adapters, H in the head, Q the query width summed over the layers, T tokens, P
pairs of a query and a key that it sees, and R rows that reach the head,

    forward          F = 2 B T + 2 A T + 4 Q P + 2 H R
    full training    3 F: the backward pass has two products for each of the forward pass
    LoRA training    F + (2 B T + 4 A T + 8 Q P + 2 H R): frozen matrices have no gradient of their own
    a teacher        F
"""

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

__all__ = ["ModelSize", "StepClock", "Work", "matmul_flops_per_s", "padded_work", "peak_bytes"]


@dataclass
class Work:
    """What a model had to compute."""

    num_tokens: int = 0
    num_pairs: int = 0
    """Pairs of a query and a key that it sees."""
    num_rows: int = 0
    """Supervised tokens."""

    def add(self, other: "Work") -> None:
        """Count more."""
        self.num_tokens += other.num_tokens
        self.num_pairs += other.num_pairs
        self.num_rows += other.num_rows


def padded_work(lengths: Tensor, num_rows: int) -> Work:
    """The work of plain causal sequences of these lengths, without their padding."""
    return Work(int(lengths.sum()), int((lengths * (lengths + 1) // 2).sum()), num_rows)


@dataclass(frozen=True)
class ModelSize:
    """The sizes that the FLOPs of a model depend on."""

    num_body: int
    num_adapter: int
    num_head: int
    query_width: int
    """Summed over the layers."""

    @classmethod
    def of(cls, model: nn.Module) -> "ModelSize":
        """The sizes of a causal LM, with or without LoRA."""
        head = model.get_output_embeddings()  # type: ignore[operator]
        shape = model.config.get_text_config()  # type: ignore[operator, union-attr]
        head_width = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
        matrices = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        adapters = sum(module.weight.numel() for name, module in matrices.items() if ".lora_" in name)
        return cls(
            num_body=sum(module.weight.numel() for module in matrices.values() if module is not head) - adapters,
            num_adapter=adapters,
            num_head=head.weight.numel(),
            query_width=shape.num_hidden_layers * shape.num_attention_heads * head_width,
        )

    def forward_flops(self, work: Work) -> int:
        """FLOPs of a forward pass."""
        weights = (self.num_body + self.num_adapter) * work.num_tokens + self.num_head * work.num_rows
        return 2 * weights + 4 * self.query_width * work.num_pairs

    def training_flops(self, work: Work) -> int:
        """FLOPs of a forward and a backward pass; a model with adapters trains them alone."""
        if not self.num_adapter:
            return 3 * self.forward_flops(work)
        frozen = 2 * (self.num_body * work.num_tokens + self.num_head * work.num_rows)
        trained = 4 * self.num_adapter * work.num_tokens
        return self.forward_flops(work) + frozen + trained + 8 * self.query_width * work.num_pairs


@dataclass
class _Step:
    student: Work = field(default_factory=Work)
    teacher: Work = field(default_factory=Work)
    end_s: float = 0.0


class StepClock(TrainerCallback):  # type: ignore[misc]
    """Takes the time of every optimizer step, counts its work, and reads the peak memory at the end of each.

    Args:
        device: `cpu` or `cuda`, where the contender trains.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.teacher_size: ModelSize | None = None
        """Set by the contender whose teacher runs beside the student."""
        self._size: ModelSize | None = None
        self._steps: list[_Step] = []
        self._step = _Step()
        self._loaded_bytes = 0
        self._peak_bytes = 0

    def count(self, student: Work, teacher: Work | None = None) -> None:
        """Add the work of one micro batch to the running step."""
        self._step.student.add(student)
        self._step.teacher.add(teacher or Work())

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """The models are loaded, nothing is trained yet."""
        assert model is not None
        self._size = ModelSize.of(model)
        self._loaded_bytes = _current_bytes(self._device)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """An optimizer step is done."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        self._step.end_s = time.perf_counter()
        self._peak_bytes = peak_bytes(self._device)
        self._steps.append(self._step)
        self._step = _Step()

    def result(self) -> dict[str, Any]:
        """What the contender reports: all steps' supervised tokens; time, tokens and FLOPs without the warm-up."""
        assert self._size is not None
        timed = self._steps[1:]
        flops = sum(self._size.training_flops(step.student) for step in timed)
        if self.teacher_size is not None:
            flops += sum(self.teacher_size.forward_flops(step.teacher) for step in timed)
        return {
            "step_s": [after.end_s - before.end_s for before, after in pairwise(self._steps)],
            "supervised_tokens": sum(step.student.num_rows for step in self._steps),
            "computed_tokens": sum(step.student.num_tokens for step in timed),
            "model_flops": flops,
            "peak_bytes": self._peak_bytes,
            "loaded_bytes": self._loaded_bytes,
        }


def peak_bytes(device: str) -> int:
    """The most memory that this process has had: on CUDA what torch allocated, else what was resident.

    Linux tells it as VmHWM. The ru_maxrss of `getrusage`, for other systems, also holds what the parent process had
    resident when it started this one.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if (kib := _process_status().get("VmHWM")) is not None:
        return kib << 10
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum << 10


def _current_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.memory_allocated()
    return _process_status().get("VmRSS", 0) << 10


def _process_status() -> Mapping[str, int]:
    """The sizes, in KiB, that Linux tells of this process; nothing elsewhere."""
    if not sys.platform.startswith("linux"):
        return {}
    with open("/proc/self/status", encoding="ascii") as lines:
        fields = (line.split() for line in lines)
        return {parts[0].rstrip(":"): int(parts[1]) for parts in fields if len(parts) == 3 and parts[2] == "kB"}


def matmul_flops_per_s(device: str, seconds: float = 3.0) -> float:
    """The best rate of bfloat16 matrix products of this machine: what model FLOPs are compared with."""
    size = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best_s, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * size**3 / best_s
