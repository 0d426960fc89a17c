"""`fcdistill check`: what a training would take, from its configuration, shapes and traces, before any weights are there.

Configs and tokenizers are read, weights never: a model too large for this machine, or not downloaded, counts like any
other. Micro batches are laid out as training lays them out, under the assumption that packing is exact for both models.
The arithmetic is `sizing`'s; how the report is shown is not known here.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel

from fcdistill.config import FromTeacherLayers, FullTuning, LoraTuning, Quantization, TrainConfig
from fcdistill.distillation.collation import Layout, lay_out_side
from fcdistill.distillation.data import Example, Side, length_statistics
from fcdistill.distillation.placement import teacher_place
from fcdistill.distillation.preparation import Prepared, PreparedTeacher, prepare, require_devices
from fcdistill.distillation.sizing import (
    DTYPE_BYTES,
    LONGEST_GROUPED_ROW,
    ModelShapes,
    available_bytes,
    logits_bytes,
    optimizer_bytes,
    shapes_of,
    student_activation_bytes,
    teacher_activation_bytes,
    trained_parameters,
    weight_bytes,
)
from fcdistill.errors import ConfigError, FcdistillError
from fcdistill.models import apply_lora, choose_device, cut_layers, layers_to_keep, load_skeleton, without_weights

__all__ = ["CheckReport", "DeviceNeed", "ModelNeed", "TokenFigures", "run_check"]

_RUNTIME_BYTES = 3 << 28
"""Python, its libraries and, on a GPU, the driver's context: 0.75 GiB."""

_SAMPLED_BATCHES = 128
"""Micro batches that are laid out to find the largest."""

_OTHER_GPUS = "the other GPUs"

_REMEDIES = {
    "teacher weights": "teacher_quantization, teacher_device, or signal: cached (then the teacher is gone before the "
    "student is loaded)",
    "teacher activations": "a lower examples_per_pack or pack_tokens",
    "teacher logits": "a lower examples_per_pack",
    "student weights": "dtype: bfloat16, or tuning.quantization",
    "gradients": "tuning.method: lora, or a lower tuning.lora_rank",
    "optimizer states": "tuning.method: lora, or a lower tuning.lora_rank",
    "student activations": "gradient_checkpointing: true, or a lower examples_per_pack or pack_tokens",
    "logits": "a lower examples_per_pack",
}


@dataclass(frozen=True)
class ModelNeed:
    """A model's parameters and what its weights take."""

    model: str
    num_parameters: int
    num_trained: int
    dtype: str
    quantization: Quantization
    weight_bytes: int
    weights_are_here: bool


@dataclass(frozen=True)
class DeviceNeed:
    """What one device must hold at once."""

    phase: str
    """`training`, or `caching`: writing the teacher cache, before the student is loaded."""
    device: str
    bytes_of: dict[str, int]
    total_bytes: int
    available_bytes: int | None
    """Of this machine's device of that name; None where there is none."""
    fits: bool | None
    """None where the device isn't here."""


@dataclass(frozen=True)
class TokenFigures:
    """The traces as training would see them."""

    train_examples: int
    held_out_examples: int
    left_out: int
    lengths: dict[str, dict[str, int]]
    """Of the student's prompts and completions."""
    tokens_per_step: float
    """Mean number of tokens that the student computes per optimizer step, each shared one once."""
    unpacked_tokens_per_step: float
    """The same, had every example a row of its own."""
    largest_batch_tokens: int
    """Of a micro batch, padding included."""
    largest_batch_rows: int
    """Supervised tokens of a micro batch."""
    steps: int


@dataclass(frozen=True)
class CheckReport:
    """What a training would take."""

    num_processes: int
    student: ModelNeed
    teacher: ModelNeed | None
    tokens: TokenFigures
    devices: list[DeviceNeed]
    refused: list[str] = field(default_factory=list)
    """Why training would not start here."""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Batch:
    """The size of a micro batch on one side."""

    num_tokens: int
    """With padding."""
    num_computed: int
    num_scores: int
    num_rows: int


def run_check(config: TrainConfig, *, num_processes: int = 1) -> CheckReport:
    """Work out what a training would take.

    Args:
        config: the training.
        num_processes: how many processes of one machine would share it.

    Raises:
        ConfigError: fields that don't fit one another or the models.
        DataError: the traces are unusable.
        ModelError: a reference, or what it names, is unusable.
    """
    needs_teacher = config.objective.needs_teacher
    described = _described(config)
    prepared = prepare(described, signal=config.signal if needs_teacher else None, here=False)
    skeleton = load_skeleton(described.student.model)
    if isinstance(described.student, FromTeacherLayers):
        num_layers = skeleton.config.get_text_config().num_hidden_layers
        skeleton = cut_layers(skeleton, layers_to_keep(num_layers, described.student))
    student_shapes = shapes_of(skeleton)
    student, copies = _student_need(config, described, skeleton)
    teacher, teacher_shapes = None, None
    if prepared.teacher is not None:
        assert described.teacher is not None
        teacher_skeleton = load_skeleton(described.teacher)
        teacher_shapes = shapes_of(teacher_skeleton)
        teacher = ModelNeed(
            model=str(config.teacher),
            num_parameters=teacher_shapes.num_parameters,
            num_trained=0,
            dtype=config.dtype,
            quantization=config.teacher_quantization,
            weight_bytes=weight_bytes(teacher_skeleton, config.dtype, config.teacher_quantization),
            weights_are_here=_has_weights(described.teacher),
        )
    batches = list(_batches(config, prepared, student_shapes, teacher_shapes))
    report = CheckReport(
        num_processes=num_processes,
        student=student,
        teacher=teacher,
        tokens=_token_figures(config, prepared, batches),
        devices=[],
    )
    _add_refusals(report, config, needs_teacher)
    _add_devices(report, config, prepared, student_shapes, teacher_shapes, batches, copies)
    _add_warnings(report, config, prepared)
    return report


def _described(config: TrainConfig) -> TrainConfig:
    """The configuration with references whose weights need not be there."""
    student = config.student.model_copy(update={"model": without_weights(config.student.model)})
    teacher = without_weights(config.teacher) if config.teacher is not None and config.objective.needs_teacher else None
    return config.model_copy(update={"student": student, "teacher": teacher})


def _has_weights(ref: str) -> bool:
    path = Path(ref).expanduser()
    return not path.is_dir() or any(path.rglob("*.safetensors"))


def _student_need(
    config: TrainConfig, described: TrainConfig, skeleton: PreTrainedModel
) -> tuple[ModelNeed, int]:
    """The student, and the bytes of its trained weights' copies in the precision of products."""
    full = isinstance(config.tuning, FullTuning)
    dtype = "float32" if full else config.dtype
    quantization: Quantization = "none"
    num_parameters = sum(parameter.numel() for parameter in skeleton.parameters())
    copies = 0
    if isinstance(config.tuning, LoraTuning):
        quantization = config.tuning.quantization
        size = weight_bytes(skeleton, dtype, quantization)
        with torch.device("meta"):
            num_trained = trained_parameters(apply_lora(skeleton, config.tuning))
    else:
        size = weight_bytes(skeleton, dtype)
        num_trained = num_parameters
        if config.dtype == "bfloat16":
            copies = DTYPE_BYTES["bfloat16"] * num_parameters
    need = ModelNeed(
        model=config.student.model,
        num_parameters=num_parameters,
        num_trained=num_trained,
        dtype=dtype,
        quantization=quantization,
        weight_bytes=size,
        weights_are_here=_has_weights(described.student.model),
    )
    return need, copies


def _batches(
    config: TrainConfig, prepared: Prepared, student: ModelShapes, teacher: ModelShapes | None
) -> Iterator[tuple[_Batch, _Batch | None]]:
    """The student's and the teacher's part of sampled micro batches."""
    examples = list(prepared.train)
    random.Random(config.seed).shuffle(examples)
    starts = range(0, len(examples), config.examples_per_pack)
    for start in starts[:_SAMPLED_BATCHES]:
        pack = examples[start : start + config.examples_per_pack]
        yield (
            _batch(config, "student", pack, student),
            None if teacher is None else _batch(config, "teacher", pack, teacher),
        )


def _batch(config: TrainConfig, side: Side, pack: Sequence[Example], shapes: ModelShapes) -> _Batch:
    layout = Layout(packed=True, max_tokens=config.pack_tokens, attention_tokens=3 * shapes.width, pad_id=0)
    batch, num_computed = lay_out_side(side, layout, pack, config.objective.hidden_positions)
    num_rows, length = batch[side]["input_ids"].shape
    return _Batch(
        num_tokens=num_rows * length,
        num_computed=num_computed,
        num_scores=num_rows * length * length if length <= LONGEST_GROUPED_ROW else 0,
        num_rows=len(batch[f"{side}_logit_rows_N"]),
    )


def _token_figures(
    config: TrainConfig, prepared: Prepared, batches: Sequence[tuple[_Batch, _Batch | None]]
) -> TokenFigures:
    student = [batch for batch, _ in batches]
    packs_per_step = config.examples_per_step / config.examples_per_pack
    steps_per_epoch = -(-len(prepared.train) // config.examples_per_step)
    mean_length = sum(len(example.student_ids) for example in prepared.train) / len(prepared.train)
    return TokenFigures(
        train_examples=len(prepared.train),
        held_out_examples=len(prepared.held_out),
        left_out=len(prepared.left_out),
        lengths=length_statistics(prepared.train),
        tokens_per_step=packs_per_step * sum(batch.num_computed for batch in student) / len(student),
        unpacked_tokens_per_step=mean_length * min(config.examples_per_step, len(prepared.train)),
        largest_batch_tokens=max(batch.num_tokens for batch in student),
        largest_batch_rows=max(batch.num_rows for batch in student),
        steps=config.max_steps or math.ceil(config.epochs * steps_per_epoch),
    )


def _add_refusals(report: CheckReport, config: TrainConfig, needs_teacher: bool) -> None:
    try:
        require_devices(config, needs_teacher=needs_teacher)
    except FcdistillError as error:
        report.refused.append(error.found)
    num_parallel = config.examples_per_pack * report.num_processes
    if config.examples_per_step % num_parallel:
        report.refused.append(
            f"examples_per_step is {config.examples_per_step}, but {report.num_processes} processes with "
            f"examples_per_pack {config.examples_per_pack} take {num_parallel} at a time"
        )


def _add_devices(
    report: CheckReport,
    config: TrainConfig,
    prepared: Prepared,
    student: ModelShapes,
    teacher: ModelShapes | None,
    batches: Sequence[tuple[_Batch, _Batch | None]],
    copies: int,
) -> None:
    device = _device(config.device)
    times = report.num_processes if device.type == "cpu" else 1
    parts = _student_parts(report, config, prepared, student, [batch for batch, _ in batches], copies, device)
    if teacher is None:
        _add(report, "training", str(device), parts, times)
        return
    teacher_parts = _teacher_parts(report, config, teacher, [batch for _, batch in batches if batch is not None])
    name = _teacher_device(config, device)
    if config.signal == "cached":
        _add(report, "caching", name, {"runtime": _RUNTIME_BYTES, **teacher_parts}, 1)
        _add(report, "training", str(device), parts, times)
    elif name == str(device):
        _add(report, "training", str(device), parts | teacher_parts, times)
    else:
        _add(report, "training", str(device), parts, times)
        _add(report, "training", name, {"runtime": _RUNTIME_BYTES, **teacher_parts}, report.num_processes)


def _student_parts(
    report: CheckReport,
    config: TrainConfig,
    prepared: Prepared,
    student: ModelShapes,
    batches: Sequence[_Batch],
    copies: int,
    device: torch.device,
) -> dict[str, int]:
    """What one process keeps beside the teacher."""
    keeps_hidden = config.objective.hidden_weight > 0
    columns = [student.vocabulary_size]
    if prepared.teacher is not None and config.objective.kd_weight and config.signal == "online":
        columns.append(prepared.teacher.vocabulary_size)  # of a cache's rows only the top_k are there
    num_beside = _projector_parameters(prepared.teacher, student)
    if isinstance(config.tuning, LoraTuning):
        num_beside += report.student.num_trained
    num_trained = report.student.num_trained + _projector_parameters(prepared.teacher, student)
    return {
        "runtime": _RUNTIME_BYTES,
        "student weights": report.student.weight_bytes + copies,
        "adapters, projectors": DTYPE_BYTES["float32"] * num_beside,
        "gradients": DTYPE_BYTES["float32"] * num_trained,
        "optimizer states": optimizer_bytes(num_trained),
        "student activations": max(
            student_activation_bytes(
                student,
                batch.num_tokens,
                config.dtype,
                keeps_hidden=keeps_hidden,
                checkpointing=config.gradient_checkpointing,
                num_scores=batch.num_scores if device.type == "cpu" else 0,
            )
            for batch in batches
        ),
        "logits": max(logits_bytes(batch.num_rows, columns, config.dtype) for batch in batches),
    }


def _teacher_parts(
    report: CheckReport, config: TrainConfig, teacher: ModelShapes, batches: Sequence[_Batch]
) -> dict[str, int]:
    """What the teacher adds where it runs."""
    assert report.teacher is not None
    keeps_hidden = config.objective.hidden_weight > 0
    most_rows = max(batch.num_rows for batch in batches)
    return {
        "teacher weights": report.teacher.weight_bytes,
        "teacher activations": max(
            teacher_activation_bytes(teacher, batch.num_tokens, config.dtype, keeps_hidden=keeps_hidden)
            for batch in batches
        ),
        "teacher logits": most_rows * teacher.vocabulary_size * DTYPE_BYTES[config.dtype],
    }


def _projector_parameters(teacher: PreparedTeacher | None, student: ModelShapes) -> int:
    if teacher is None or student.width == teacher.shape.width:
        return 0
    return len(teacher.pairs) * student.width * teacher.shape.width


def _device(name: str) -> torch.device:
    """The device of a configuration, be it here or not."""
    try:
        return choose_device(name)
    except ConfigError:
        return torch.device(name)


def _teacher_device(config: TrainConfig, student: torch.device) -> str:
    """What to call the teacher's device; the student's name where it is the same."""
    if config.teacher_device == "auto":
        return _OTHER_GPUS
    place = teacher_place(config.teacher_device, student).device
    same = place.type == student.type and (place.index or 0) == (student.index or 0)
    return str(student if same else place)


def _add(report: CheckReport, phase: str, device: str, parts: dict[str, int], times: int) -> None:
    parts = {name: times * size for name, size in parts.items() if size}
    available = _other_gpus_bytes() if device == _OTHER_GPUS else available_bytes(torch.device(device))
    total = sum(parts.values())
    fits = None if available is None else total <= available
    report.devices.append(DeviceNeed(phase, device, parts, total, available, fits))


def _other_gpus_bytes() -> int | None:
    sizes = [available_bytes(torch.device("cuda", index)) for index in range(1, torch.cuda.device_count())]
    return sum(size for size in sizes if size is not None) or None


def _add_warnings(report: CheckReport, config: TrainConfig, prepared: Prepared) -> None:
    if prepared.left_out:
        report.warnings.append(
            f"{len(prepared.left_out)} traces have more than max_example_tokens {config.max_example_tokens} tokens and "
            "are left out"
        )
    for need in (report.student, report.teacher):
        if need is not None and not need.weights_are_here:
            report.warnings.append(f"the weights of {need.model} are not here yet")
    for device in report.devices:
        if device.fits is False:
            largest = sorted(device.bytes_of, key=lambda name: -device.bytes_of[name])
            remedies = [f"{name}: {_REMEDIES[name]}" for name in largest if name in _REMEDIES][:3]
            report.warnings.append(
                f"{device.phase} does not fit on {device.device}; what helps, the largest part first: "
                + "; ".join(dict.fromkeys(remedies))
            )
