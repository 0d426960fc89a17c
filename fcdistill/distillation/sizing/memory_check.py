"""`fcdistill check`: what a training would take, from configuration, shapes and traces, before any weights are there.

Configs and tokenizers are read, weights never: a model too large for this machine, or not downloaded, counts like any
other. Micro batches are laid out as training lays them out, under the assumption that packing is exact for both models.
The sums are `arithmetic`'s; how the report is shown is not known here.
"""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from fcdistill.config import Dtype, FromTeacherLayers, FullTuning, LoraTuning, Quantization, TrainConfig
from fcdistill.distillation.examples.collation import Layout, lay_out_side
from fcdistill.distillation.examples.examples import Example, Side, length_statistics
from fcdistill.distillation.launch.trainer_arguments import accumulation_steps
from fcdistill.distillation.placement import teacher_place
from fcdistill.distillation.preparation import Prepared, prepare, require_devices
from fcdistill.distillation.sizing.arithmetic import (
    DTYPE_BYTES,
    ModelShapes,
    available_bytes,
    chunk_bytes,
    logits_bytes,
    optimizer_bytes,
    shapes_of,
    student_activation_bytes,
    teacher_activation_bytes,
    trained_parameters,
    weight_bytes,
)
from fcdistill.errors import ConfigError, FcdistillError
from fcdistill.models.devices import choose_device
from fcdistill.models.fetching import without_weights
from fcdistill.models.loading import load_tokenizer
from fcdistill.models.shapes import load_skeleton
from fcdistill.models.students import apply_lora, cut_layers, layers_to_keep, trained_token_ids

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

_CACHING_REMEDIES = {
    "teacher weights": "teacher_quantization or teacher_device",
    "teacher activations": "a lower cache.examples_per_pack or pack_tokens",
    "teacher logits": "a lower cache.examples_per_pack",
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
    refused: list[str]
    """Why training would not start here."""
    warnings: list[str]


@dataclass(frozen=True)
class _Batch:
    """The size of a micro batch on one side."""

    num_tokens: int
    """With padding."""
    num_computed: int
    """Without padding."""
    num_rows: int
    """Supervised tokens."""


@dataclass(frozen=True)
class _Workload:
    """What is trained on what, in shapes."""

    config: TrainConfig
    prepared: Prepared
    student: ModelShapes
    teacher: ModelShapes | None
    student_batches: list[_Batch]
    teacher_batches: list[_Batch]

    @property
    def keeps_hidden(self) -> bool:
        return self.config.objective.hidden_weight > 0

    @property
    def num_projected(self) -> int:
        """Parameters of the projectors."""
        teacher = self.prepared.teacher
        if teacher is None or teacher.shape is None or self.student.width == teacher.shape.width:
            return 0
        return len(teacher.pairs) * self.student.width * teacher.shape.width


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
    skeleton = _student_skeleton(described)
    student_shapes = shapes_of(skeleton)
    student = _student_need(config, skeleton, _has_weights(described.student.model))
    teacher, teacher_shapes = None, None
    if prepared.teacher is not None and config.signal == "self":
        # The student without its adapter: it brings passes and logits, but no weights.
        teacher, teacher_shapes = dataclasses.replace(student, num_trained=0, weight_bytes=0), student_shapes
    elif described.teacher is not None:  # one behind a server takes nothing here
        skeleton = load_skeleton(described.teacher)
        teacher_shapes = shapes_of(skeleton)
        teacher = _teacher_need(config, skeleton, _has_weights(described.teacher))
    packs = _packs(config, prepared.train, config.examples_per_pack)
    teacher_packs = packs
    if config.signal == "cached" and config.cache is not None:
        teacher_packs = _packs(config, [*prepared.train, *prepared.held_out], config.cache.examples_per_pack)
    work = _Workload(
        config=config,
        prepared=prepared,
        student=student_shapes,
        teacher=teacher_shapes,
        student_batches=[_batch(config, "student", pack, student_shapes) for pack in packs],
        teacher_batches=[]
        if teacher_shapes is None
        else [_batch(config, "teacher", pack, teacher_shapes) for pack in teacher_packs],
    )
    devices = _devices(work, student, teacher, num_processes)
    return CheckReport(
        num_processes=num_processes,
        student=student,
        teacher=teacher,
        tokens=_token_figures(work),
        devices=devices,
        refused=_refusals(config, num_processes),
        warnings=_warnings(work, [need for need in (student, teacher) if need is not None], devices),
    )


def _described(config: TrainConfig) -> TrainConfig:
    """The configuration with references whose weights need not be there."""
    student = config.student.model_copy(update={"model": without_weights(config.student.model)})
    teacher = without_weights(config.teacher) if config.teacher is not None and config.objective.needs_teacher else None
    return config.model_copy(update={"student": student, "teacher": teacher})


def _has_weights(ref: str) -> bool:
    path = Path(ref).expanduser()
    return not path.is_dir() or any(path.rglob("*.safetensors"))


def _student_skeleton(config: TrainConfig) -> PreTrainedModel:
    skeleton = load_skeleton(config.student.model)
    if isinstance(config.student, FromTeacherLayers):
        num_layers = skeleton.config.get_text_config().num_hidden_layers
        return cut_layers(skeleton, layers_to_keep(num_layers, config.student))
    return skeleton


def _student_need(config: TrainConfig, skeleton: PreTrainedModel, weights_are_here: bool) -> ModelNeed:
    num_parameters = num_trained = sum(parameter.numel() for parameter in skeleton.parameters())
    dtype: Dtype = "float32" if isinstance(config.tuning, FullTuning) else config.dtype
    quantization: Quantization = "none" if isinstance(config.tuning, FullTuning) else config.tuning.quantization
    size = weight_bytes(skeleton, dtype, quantization)
    if isinstance(config.tuning, LoraTuning):
        with torch.device("meta"):
            token_ids = trained_token_ids(
                load_tokenizer(config.student.model, config.student, thinks=config.keep_thinking), config.tuning
            )
            num_trained = trained_parameters(apply_lora(skeleton, config.tuning, token_ids))
    elif config.dtype == "bfloat16":
        size += DTYPE_BYTES[config.dtype] * num_parameters  # the copies that autocast multiplies by
    return ModelNeed(config.student.model, num_parameters, num_trained, dtype, quantization, size, weights_are_here)


def _teacher_need(config: TrainConfig, skeleton: PreTrainedModel, weights_are_here: bool) -> ModelNeed:
    size = weight_bytes(skeleton, config.dtype, config.teacher_quantization)
    num_parameters = sum(parameter.numel() for parameter in skeleton.parameters())
    return ModelNeed(
        str(config.teacher), num_parameters, 0, config.dtype, config.teacher_quantization, size, weights_are_here
    )


def _packs(config: TrainConfig, examples: Sequence[Example], size: int) -> list[list[Example]]:
    """The examples of sampled micro batches, so many in each."""
    shuffled = random.Random(config.seed).sample(list(examples), len(examples))
    starts = range(0, len(shuffled), size)
    return [shuffled[start : start + size] for start in starts[:_SAMPLED_BATCHES]]


def _batch(config: TrainConfig, side: Side, pack: Sequence[Example], shapes: ModelShapes) -> _Batch:
    layout = Layout(packing="dense_mask", max_tokens=config.pack_tokens, attention_tokens=3 * shapes.width, pad_id=0)
    batch, num_computed = lay_out_side(side, layout, pack, config.objective.hidden_positions)
    num_rows, length = batch["inputs"]["input_ids"].shape
    return _Batch(
        num_tokens=num_rows * length,
        num_computed=num_computed,
        num_rows=len(batch["logit_rows_N"]),
    )


def _token_figures(work: _Workload) -> TokenFigures:
    config, prepared, batches = work.config, work.prepared, work.student_batches
    packs_per_step = config.examples_per_step / config.examples_per_pack
    mean_length = sum(len(example.student_ids) for example in prepared.train) / len(prepared.train)
    return TokenFigures(
        train_examples=len(prepared.train),
        held_out_examples=len(prepared.held_out),
        left_out=len(prepared.left_out),
        lengths=length_statistics(prepared.train),
        tokens_per_step=packs_per_step * sum(batch.num_computed for batch in batches) / len(batches),
        unpacked_tokens_per_step=config.examples_per_step * mean_length,
        largest_batch_tokens=max(batch.num_tokens for batch in batches),
        largest_batch_rows=max(batch.num_rows for batch in batches),
        steps=config.num_steps(len(prepared.train)),
    )


def _devices(work: _Workload, student: ModelNeed, teacher: ModelNeed | None, num_processes: int) -> list[DeviceNeed]:
    config, device = work.config, _device(work.config.device)
    times = num_processes if device.type == "cpu" else 1
    if teacher is None:
        return [_device_need("training", str(device), _student_parts(work, student, device), times)]
    name = _teacher_device(config, device)
    if config.signal == "cached":
        parts = {"runtime": _RUNTIME_BYTES, **_teacher_parts(work, teacher, chunked=True)}
        return [
            _device_need("caching", name, parts, 1),
            _device_need("training", str(device), _student_parts(work, student, device), times),
        ]
    if name == str(device):
        parts = _student_parts(work, student, device) | _teacher_parts(work, teacher)
        return [_device_need("training", name, parts, times)]
    parts = {"runtime": _RUNTIME_BYTES, **_teacher_parts(work, teacher)}
    return [
        _device_need("training", str(device), _student_parts(work, student, device, copies_logits=True), times),
        _device_need("training", name, parts, num_processes),
    ]


def _student_parts(
    work: _Workload, student: ModelNeed, device: torch.device, *, copies_logits: bool = False
) -> dict[str, int]:
    """What one process keeps beside the teacher, whose logits it may have to copy."""
    config = work.config
    num_trained = student.num_trained + work.num_projected
    num_beside = num_trained if isinstance(config.tuning, LoraTuning) else work.num_projected
    copied = work.teacher.vocabulary_size if copies_logits and config.objective.kd_weight and work.teacher else 0
    return {
        "runtime": _RUNTIME_BYTES,
        "student weights": student.weight_bytes,
        "adapters, projectors": DTYPE_BYTES["float32"] * num_beside,
        "gradients": DTYPE_BYTES["float32"] * num_trained,
        "optimizer states": optimizer_bytes(num_trained),
        "student activations": max(
            student_activation_bytes(
                work.student,
                batch.num_tokens,
                config.dtype,
                checkpointing=config.gradient_checkpointing,
            )
            for batch in work.student_batches
        ),
        "logits": max(
            logits_bytes(batch.num_rows, work.student.vocabulary_size, config.dtype)
            + batch.num_rows * copied * DTYPE_BYTES[config.dtype]
            for batch in work.student_batches
        ),
    }


def _teacher_parts(work: _Workload, teacher: ModelNeed, *, chunked: bool = False) -> dict[str, int]:
    """What the teacher adds where it runs; `chunked` where its logits are worked on there and not by the loss."""
    assert work.teacher is not None
    config, columns = work.config, work.teacher.vocabulary_size
    most_rows = max(batch.num_rows for batch in work.teacher_batches)
    logits = most_rows * columns * DTYPE_BYTES[config.dtype] if config.objective.kd_weight or chunked else 0
    return {
        "teacher weights": teacher.weight_bytes,
        "teacher activations": max(
            teacher_activation_bytes(work.teacher, batch.num_tokens, config.dtype, keeps_hidden=work.keeps_hidden)
            for batch in work.teacher_batches
        ),
        "teacher logits": logits + (chunk_bytes(most_rows, columns) if chunked else 0),
    }


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


def _device_need(phase: str, device: str, parts: dict[str, int], times: int) -> DeviceNeed:
    parts = {name: times * size for name, size in parts.items() if size}
    available = _other_gpus_bytes() if device == _OTHER_GPUS else available_bytes(torch.device(device))
    total = sum(parts.values())
    return DeviceNeed(phase, device, parts, total, available, None if available is None else total <= available)


def _other_gpus_bytes() -> int | None:
    sizes = [available_bytes(torch.device("cuda", index)) for index in range(1, torch.cuda.device_count())]
    return sum(size for size in sizes if size is not None) or None


def _refusals(config: TrainConfig, num_processes: int) -> list[str]:
    refused = []
    for require in (
        lambda: require_devices(config, needs_teacher=config.objective.needs_teacher),
        lambda: accumulation_steps(config, num_processes),
    ):
        try:
            require()
        except FcdistillError as error:
            refused.append(error.found)
    return refused


def _warnings(work: _Workload, models: Sequence[ModelNeed], devices: Sequence[DeviceNeed]) -> list[str]:
    found = []
    if left_out := len(work.prepared.left_out):
        found.append(
            f"{left_out} traces have more than max_example_tokens {work.config.max_example_tokens} tokens and are left "
            "out"
        )
    found += [f"the weights of {need.model} are not here yet" for need in models if not need.weights_are_here]
    for device in devices:
        if device.fits is False:
            largest = sorted(device.bytes_of, key=lambda name: -device.bytes_of[name])
            known = _CACHING_REMEDIES if device.phase == "caching" else _REMEDIES
            remedies = [f"{name}: {known[name]}" for name in largest if name in known][:3]
            found.append(
                f"{device.phase} does not fit on {device.device}; what helps, the largest part first: "
                + "; ".join(remedies)
            )
    return found
