"""`fcdistill train`: traces and a teacher's signal become a student in a run directory.

    <out>/manifest.json     configuration, inputs and versions
    <out>/data.json         lengths of the examples, which were left out, how many are held out, how tokenizers align
    <out>/metrics.jsonl     loss components, learning rate, speed (`progress.MetricsLine`)
    <out>/checkpoints/      while training runs; the Trainer's own files, removed when the student is saved
    <out>/adapter/          LoRA: the adapter
    <out>/merged/           full weights
    <out>/projectors.safetensors   where hidden states of unequal widths were aligned
    <out>/result.json       what `run_training` returns

Order of work: everything that can be refused without weights is refused first. Where signal is cached, what the cache
lacks is computed before the student is loaded; with a whole cache the teacher's weights are not loaded at all. A killed
run goes on from its last whole checkpoint and ends with the weights of an uninterrupted one.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback, TrainingArguments, set_seed

from fcdistill.config import FromTeacherLayers, FullTuning, LoraTuning, TrainConfig
from fcdistill.distillation.attention import training_attention
from fcdistill.distillation.caching import cached_teacher
from fcdistill.distillation.checkpoints import last_sealed
from fcdistill.distillation.collation import Collator
from fcdistill.distillation.data import alignment_statistics, length_statistics
from fcdistill.distillation.distill_trainer import PROJECTORS_NAME, DistillTrainer, StudentSide
from fcdistill.distillation.layers import Projectors
from fcdistill.distillation.lora import fuse_lora
from fcdistill.distillation.on_policy import OnPolicy
from fcdistill.distillation.preparation import (
    Prepared,
    PreparedTeacher,
    layout_of,
    load_teacher,
    prepare,
    teacher_layout,
)
from fcdistill.distillation.progress import GracefulStop, MetricsLog, ProgressBar, step_of, to_stderr
from fcdistill.distillation.signals import CachedTeacher
from fcdistill.errors import ConfigError
from fcdistill.models import StudentCard, apply_lora, cut_layers, layers_to_keep, load_model, save_student
from fcdistill.prompts import template_sha256, tokenizer_sha256
from fcdistill.records import ModelRef
from fcdistill.storage import RunDirectory, read_json, storage_errors, write_json

__all__ = ["DistillTrainer", "TrainResult", "run_training"]

_VOLATILE = frozenset({"device", "log_steps", "save_steps"})
"""Fields that may change between a run and its resumption."""


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to."""

    directory: Path
    steps: int
    """Optimizer steps."""
    examples: int
    """Traces that were trained on."""
    train_loss: float
    """Mean over the last logged steps."""
    held_out_ce: float | None
    """Nats per completion token; None where nothing is held out."""
    held_out_token_accuracy: float | None
    seconds: float
    """Time of work over all resumptions, loading included."""


def run_training(config: TrainConfig, report: Callable[[str], None] = to_stderr) -> TrainResult:
    """Train a student, or go on where an earlier run stopped; a finished directory returns its result at once.

    Args:
        config: what is trained on what.
        report: takes lines about the progress, for people.

    Raises:
        ConfigError: fields that don't fit one another, the models or the machine.
        DataError: the traces are unusable, or the directory holds another run.
        ModelError: a model can't be loaded or trained as asked.
        StorageError: the disk refused.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was saved.
    """
    started = time.monotonic()
    prepared = prepare(config, signal=config.signal if config.objective.needs_teacher else None)
    with RunDirectory(
        config.out,
        stage="train",
        config=config.model_dump(mode="json"),
        inputs=[config.traces],
        seed=config.seed,
        model=ModelRef(model=config.student.model),
        tokenizer_sha256=tokenizer_sha256(prepared.tokenizer),
        template_sha256=template_sha256(prepared.tokenizer),
        volatile=_VOLATILE,
    ) as run:
        result_path = config.out / "result.json"
        if run.complete:
            report(f"{config.out} is already trained")
            return TrainResult(**read_json(result_path, "training result") | {"directory": config.out})
        cached = cached_teacher(config, prepared, report) if prepared.teacher and config.signal == "cached" else None
        result = _train(config, prepared, cached, report, run.manifest.wall_time_s, started)
        write_json(result_path, asdict(result) | {"directory": str(config.out)})
        run.mark_complete()
    shutil.rmtree(config.out / "checkpoints", ignore_errors=True)
    return result


def _write_data_report(config: TrainConfig, prepared: Prepared, report: Callable[[str], None]) -> None:
    lengths = length_statistics(prepared.train)
    content: dict[str, object] = {
        "train_examples": len(prepared.train),
        "held_out_examples": len(prepared.held_out),
        "left_out": prepared.left_out,
        "student": lengths,
    }
    if prepared.teacher and prepared.teacher.string_pairs:
        shared_fraction = prepared.teacher.string_pairs.shared_fraction
        alignment = alignment_statistics(prepared.train) | {"shared_fraction": shared_fraction}
        content["alignment"] = alignment
        report(
            f"teacher and student have different tokenizers: {alignment['shared_fraction']:.0%} of the student's "
            f"strings are the teacher's too, {alignment['paired_fraction']:.0%} of its completion tokens are compared "
            f"by distribution, the others by the likelihood of their text"
        )
    write_json(config.out / "data.json", content)
    report(
        f"{len(prepared.train)} examples, {len(prepared.held_out)} held out; median tokens: prompt "
        f"{lengths['prompt_tokens']['median']}, completion {lengths['completion_tokens']['median']}"
    )


def _train(
    config: TrainConfig,
    prepared: Prepared,
    cached: CachedTeacher | None,
    report: Callable[[str], None],
    earlier_s: float,
    started: float,
) -> TrainResult:
    checkpoints = config.out / "checkpoints"
    args = _arguments(config, checkpoints, has_held_out=bool(prepared.held_out))
    set_seed(config.seed)
    student, base = _load_student(config)
    use_cache = student.model.config.use_cache
    projectors = _projectors(prepared.teacher, student) if prepared.teacher else None
    online = None
    if prepared.teacher and not cached:
        layers = [teacher_layer for _, teacher_layer in prepared.teacher.pairs]
        needs_logits = config.objective.kd_weight > 0
        online = load_teacher(config, prepared.teacher, args.device, layers, needs_logits=needs_logits)
    _write_data_report(config, prepared, report)  # the first file: what is refused above leaves the directory free
    student.model.to(args.device)
    collator = Collator(
        student=layout_of(
            config,
            student.model,
            student.head,
            [example.student_ids for example in prepared.train],
            name="student",
            autocast=student.autocast,
        ),
        teacher=teacher_layout(config, online, prepared.train) if online else None,
        class_weights=config.objective.class_weights,
        hidden_positions=config.objective.hidden_positions,
        cached=cached,
    )
    on_policy = None
    if config.on_policy_fraction:
        on_policy = OnPolicy(student.model, config, prepared, autocast=student.autocast)
    checkpoint = last_sealed(checkpoints)
    metrics = MetricsLog(config.out / "metrics.jsonl", step_of(checkpoint), report)
    stop = GracefulStop()
    trainer = DistillTrainer(
        student,
        args,
        objective=config.objective,
        collator=collator,
        train_examples=prepared.train,
        held_out_examples=prepared.held_out,
        teacher=cached or online,
        projectors=projectors,
        on_policy=on_policy,
        callbacks=[metrics, stop],
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(ProgressBar)
    if checkpoint is not None:
        report(f"going on from {checkpoint}")
    fast = training_attention(student.model) if collator.student.packed else contextlib.nullcontext()
    with stop.listening(), fast:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    losses = [line.loss for line in metrics.lines if line.loss is not None]
    held_out = [line for line in metrics.lines if line.held_out_ce is not None]
    student.model.config.use_cache = use_cache
    if args.should_save:
        _save(config, student, prepared, base, projectors)
    trainer.accelerator.wait_for_everyone()
    return TrainResult(
        directory=config.out,
        steps=trainer.state.global_step,
        examples=len(prepared.train),
        train_loss=losses[-1],
        held_out_ce=held_out[-1].held_out_ce if held_out else None,
        held_out_token_accuracy=held_out[-1].held_out_token_accuracy if held_out else None,
        seconds=round(earlier_s + time.monotonic() - started, 3),
    )


def _arguments(config: TrainConfig, checkpoints: Path, *, has_held_out: bool) -> TrainingArguments:
    if config.device.startswith("cuda:"):
        os.environ["ACCELERATE_TORCH_DEVICE"] = config.device
    schedule = {"constant": "constant_with_warmup"}.get(config.learning_rate_schedule, config.learning_rate_schedule)
    args = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=config.examples_per_pack,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=config.warmup_fraction,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,
        save_steps=config.save_steps,
        # One more than needed: the newest one is sealed only after the Trainer has removed old ones.
        save_total_limit=2,
        eval_strategy="steps" if has_held_out else "no",
        eval_steps=config.save_steps,
        seed=config.seed,
        fp16=config.dtype == "float16",
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        use_cpu=config.device == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
    )
    num_parallel = config.examples_per_pack * args.world_size
    if config.examples_per_step % num_parallel:
        raise ConfigError(
            f"examples_per_step is {config.examples_per_step}, but {args.world_size} processes with examples_per_pack "
            f"{config.examples_per_pack} take {num_parallel} at a time",
            required="a multiple of examples_per_pack times the number of processes",
            fix="change examples_per_step or examples_per_pack",
        )
    args.gradient_accumulation_steps = config.examples_per_step // num_parallel
    return args


def _load_student(config: TrainConfig) -> tuple[StudentSide, ModelRef]:
    """The student, ready to be trained, and what its card calls its base."""
    full = isinstance(config.tuning, FullTuning)
    # Small updates vanish in bfloat16: weights that are trained are float32, and only products use config.dtype.
    loaded = load_model(config.student.model, dtype="float32" if full else config.dtype, device="cpu")
    model: PreTrainedModel | PeftModel = loaded.model
    params: dict[str, object] = {}
    if isinstance(config.student, FromTeacherLayers):
        keep = layers_to_keep(model.config.get_text_config().num_hidden_layers, config.student)
        model = cut_layers(model, keep)
        params["keep_layers"] = keep
    head = model.get_output_embeddings()
    if isinstance(config.tuning, LoraTuning):
        model = apply_lora(model, config.tuning)
        fuse_lora(model)
    autocast = torch.bfloat16 if config.dtype == "bfloat16" else None
    if autocast is not None:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                # Autocast chooses the precision; peft would first copy each input to float32.
                module.cast_input_dtype_enabled = False
    base = ModelRef(model=config.student.model, revision=loaded.ref.revision, params=params)
    return StudentSide(model, head, autocast), base


def _projectors(prepared: PreparedTeacher, student: StudentSide) -> Projectors | None:
    if not prepared.pairs:
        return None
    return Projectors(prepared.pairs, student.model.config.get_text_config().hidden_size, prepared.shape.width)


def _save(
    config: TrainConfig, student: StudentSide, prepared: Prepared, base: ModelRef, projectors: Projectors | None
) -> None:
    card = StudentCard(tools_in_prompt=config.tools_in_prompt, tools=prepared.tools, base=base)
    model = student.model
    if projectors is not None and projectors.maps:
        with storage_errors(config.out, "write"):
            projectors.save(config.out / PROJECTORS_NAME)
    if isinstance(model, PeftModel):
        save_student(model, prepared.tokenizer, config.out / "adapter", card)
        if not config.merge:
            return
        model = model.merge_and_unload()
    save_student(model.to(getattr(torch, config.dtype)), prepared.tokenizer, config.out / "merged", card)
