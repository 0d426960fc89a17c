"""`fcdistill train`: traces and a teacher's signal become a student in a run directory.

    <out>/manifest.json     configuration, inputs and versions
    <out>/data.json         lengths, classes and thoughts of the examples, which were left out, how tokenizers align
    <out>/teacher.json      what the teacher thinks of the verified answers (`records.TeacherReport`)
    <out>/metrics.jsonl     loss components, learning rate, speed, held-out figures (`records.MetricsLine`)
    <out>/tensorboard/      where report_to names it
    <out>/checkpoints/      while training runs; the Trainer's own files, removed when the student is saved
    <out>/adapter/          LoRA: the adapter
    <out>/merged/           full weights
    <out>/projectors.safetensors   where hidden states of unequal widths were aligned
    <out>/result.json       what `run_training` returns

Order of work: everything that can be refused without weights is refused first. Where signal is cached, what the cache
lacks is computed before the student is loaded; with a whole cache the teacher's weights are not loaded at all. A killed
run goes on from its last whole checkpoint and ends with the weights of an uninterrupted one. Where the best student is
kept, its checkpoint stays until a better one is written, and its weights are those that are saved.

`fcdistill adapt` is the same work with a teacher in the student's place.

Several processes that a launcher started share the work of each optimizer step; all this is the main one's to write.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed

from fcdistill.config import AdaptConfig, TrainConfig
from fcdistill.distillation.callbacks.call_accuracy import CallMonitor
from fcdistill.distillation.callbacks.checkpoints import last_sealed
from fcdistill.distillation.callbacks.progress import GracefulStop, MetricsLog, ProgressBar, step_of, to_stderr
from fcdistill.distillation.callbacks.reporters import open_reporters, require_reporters
from fcdistill.distillation.examples.augmentation import EpochOfDraws
from fcdistill.distillation.examples.collation import Collator
from fcdistill.distillation.examples.examples import alignment_statistics, class_counts, length_statistics
from fcdistill.distillation.launch.processes import Processes
from fcdistill.distillation.launch.strategies import require_strategy, shards_weights
from fcdistill.distillation.launch.trainer_arguments import training_arguments
from fcdistill.distillation.losses.cross_tokenizer import VocabularyMap
from fcdistill.distillation.objective import RowSums, compiled_row_sums
from fcdistill.distillation.on_policy import OnPolicy
from fcdistill.distillation.packed.attention import training_attention
from fcdistill.distillation.preparation import (
    Prepared,
    PreparedTeacher,
    layout_of,
    load_teacher,
    prepare,
    teacher_layout,
)
from fcdistill.distillation.signals.sources import CachedTeacher, OnlineTeacher
from fcdistill.distillation.student.projectors import Projectors
from fcdistill.distillation.student_model import (
    StudentModel,
    load_student,
    quantization_of,
    reassemble_student,
    save_trained,
)
from fcdistill.distillation.teacher.report import report_teacher
from fcdistill.distillation.teacher.write_cache import cached_teacher
from fcdistill.distillation.trainer import DistillTrainer
from fcdistill.prompts.rendering import template_sha256, tokenizer_sha256
from fcdistill.records import ModelRef
from fcdistill.storage import RunDirectory, read_json, write_json

__all__ = ["DistillTrainer", "TrainResult", "run_training"]

_VOLATILE = frozenset(
    {
        "device",
        "log_steps",
        "report_to",
        "run_name",
        "save_steps",
        "served_teacher",
        "teacher_device",
        "teacher_report_examples",
    }
)
"""Fields that may change between a run and its resumption; what matters of a served teacher its cache compares."""


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
    """Nats per completion token, as all held-out figures of the saved student; None where nothing is held out."""
    held_out_token_accuracy: float | None
    seconds: float
    """Time of work over all resumptions, loading included."""
    held_out_call_accuracy: float | None = None
    """Share of monitored traces with exactly the right calls; None where they are not asked."""
    best_step: int | None = None
    """Step whose weights, and held-out figures, these are; None where the last step's are saved."""


@dataclass(frozen=True)
class _Context:
    """What the steps of a training share, all of it known before weights are loaded."""

    config: TrainConfig
    prepared: Prepared
    args: TrainingArguments
    processes: Processes
    report: Callable[[str], None]
    """Takes lines for people; does nothing where another process says them."""


@dataclass(frozen=True)
class _Models:
    """Who learns, and from whom."""

    student: StudentModel
    base: ModelRef
    """What the student's card calls its base."""
    use_cache: bool
    """As the student's configuration had it."""
    projectors: Projectors | None
    cached: CachedTeacher | None
    online: OnlineTeacher | None

    @property
    def teacher(self) -> CachedTeacher | OnlineTeacher | None:
        """The one of them that there is."""
        return self.cached or self.online


@dataclass(frozen=True)
class _Fitting:
    """A training that can begin."""

    trainer: DistillTrainer
    metrics: MetricsLog | None
    """In the main process alone."""
    stop: GracefulStop
    checkpoint: Path | None
    """Where it goes on."""
    attention: AbstractContextManager[None]
    """That of packed rows, where they are packed."""


def run_training(config: TrainConfig | AdaptConfig, report: Callable[[str], None] = to_stderr) -> TrainResult:
    """Train a student, or go on where an earlier run stopped; a finished directory returns its result at once.

    Args:
        config: what is trained on what.
        report: takes lines about the progress, for people.

    Raises:
        CatalogError: the distractor catalogue is unusable.
        ConfigError: fields that don't fit one another, the models or the machine.
        DataError: the traces are unusable, or the directory holds another run.
        ModelError: a model can't be loaded or trained as asked.
        StorageError: the disk refused.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was saved.
        InfrastructureError: another process of the run has ended.
    """
    started = time.monotonic()
    training = config.training() if isinstance(config, AdaptConfig) else config
    require_reporters(config.report_to)
    prepared = prepare(training, signal=training.signal if training.objective.needs_teacher else None)
    require_strategy(training, prepared.teacher)
    args = training_arguments(training, config.out / "checkpoints", prepared)
    processes = Processes(args)
    context = _Context(training, prepared, args, processes, report if processes.is_main else _say_nothing)
    with _run_directory(config, context) as run:
        result_path = config.out / "result.json"
        if processes.from_main(lambda: run is not None and run.complete):
            context.report(f"{config.out} is already trained")
            return TrainResult(**read_json(result_path, "training result") | {"directory": config.out})
        cached = _cached_teacher(context)
        earlier_s = run.manifest.wall_time_s if run is not None else 0.0
        result = _train(context, cached, lambda: round(earlier_s + time.monotonic() - started, 3))
        if run is not None:
            write_json(result_path, asdict(result) | {"directory": str(config.out)})
            run.mark_complete()
            shutil.rmtree(config.out / "checkpoints", ignore_errors=True)
    processes.leave()
    return result


def _say_nothing(_: str) -> None:
    """What the other processes have to report the main one says."""


@contextlib.contextmanager
def _run_directory(config: TrainConfig | AdaptConfig, context: _Context) -> Iterator[RunDirectory | None]:
    """The output directory, in the process that owns it."""
    training, prepared = context.config, context.prepared
    if not context.processes.is_main:
        yield None
        return
    inputs = [config.traces]
    if prepared.teacher and training.teacher_examples:
        inputs.append(training.teacher_examples)
    if training.augmentation.distractor_catalogue:
        inputs.append(training.augmentation.distractor_catalogue)
    with RunDirectory(
        config.out,
        stage="adapt" if isinstance(config, AdaptConfig) else "train",
        config=config.model_dump(mode="json"),
        inputs=inputs,
        seed=config.seed,
        model=ModelRef(model=training.student.model),
        tokenizer_sha256=tokenizer_sha256(prepared.tokenizer),
        template_sha256=template_sha256(prepared.tokenizer),
        volatile=_VOLATILE,
    ) as run:
        yield run


def _cached_teacher(context: _Context) -> CachedTeacher | None:
    config, prepared, processes, report = context.config, context.prepared, context.processes, context.report
    if prepared.teacher is None or config.signal != "cached":
        return None
    written = cached_teacher(config, prepared, report) if processes.is_main else None
    processes.wait()
    return written or cached_teacher(config, prepared, report)


def _write_data_report(context: _Context) -> None:
    config, prepared, report = context.config, context.prepared, context.report
    lengths, classes = length_statistics(prepared.train), class_counts(prepared.train)
    content: dict[str, object] = {
        "train_examples": len(prepared.train),
        "held_out_examples": len(prepared.held_out),
        "left_out": prepared.left_out,
        "student": lengths,
        "completion_classes": classes,
    }
    if config.keep_thinking:
        thoughtful = sum(example.has_thought for example in prepared.train)
        thoughtless = len(prepared.train) - thoughtful
        content["thoughts"] = {
            "examples": thoughtful,
            "examples_without": thoughtless,
            "tokens": classes.get("thought", 0),
        }
        report(
            f"{thoughtful} of {len(prepared.train)} examples tell what was thought before the answer "
            f"({classes.get('thought', 0)} thought tokens); {thoughtless} learn the template's empty thought"
        )
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


def _train(context: _Context, cached: CachedTeacher | None, seconds: Callable[[], float]) -> TrainResult:
    compiled = compiled_row_sums(context.args.device) if context.config.compile_loss else None
    models = _load_models(context, cached)
    collator = _collator(context, models)
    if models.teacher and context.processes.is_main:
        report_teacher(
            context.config, context.prepared, models.teacher, collator.teacher, context.args.device, context.report
        )
    fitting = _set_up(context, models, collator, compiled)
    saved_step = _fit(context, models, fitting)
    return _saved(context, models, fitting, saved_step, seconds)


def _load_models(context: _Context, cached: CachedTeacher | None) -> _Models:
    """The student and its teacher, where they are trained; what is refused before leaves the directory free."""
    config, prepared, args = context.config, context.prepared, context.args
    if prepared.augmented and args.device.type == "cuda":
        args.dataloader_num_workers = 2  # they render packs while the GPU computes; a CPU would only do so in turn
    set_seed(config.seed)
    student, base = load_student(config, args.device)
    use_cache = student.model.config.use_cache
    projectors = _projectors(prepared.teacher, student) if prepared.teacher else None
    online = None
    if prepared.teacher and cached and prepared.teacher.string_pairs:
        cached = replace(cached, vocabulary_map=VocabularyMap.of(prepared.teacher.string_pairs, args.device))
    if prepared.teacher and not cached:
        online = _online_teacher(config, prepared.teacher, student, args.device)
    if context.processes.is_main:
        _write_data_report(context)  # the first file
    if quantization_of(config) == "none":
        student.model.to(args.device)
    return _Models(student, base, use_cache, projectors, cached, online)


def _collator(context: _Context, models: _Models) -> Collator:
    config, prepared, student = context.config, context.prepared, models.student
    return Collator(
        student=layout_of(
            config,
            student.model,
            student.head,
            [example.student_ids for example in prepared.samples],
            name="student",
            autocast=student.autocast,
        ),
        teacher=teacher_layout(config, models.online, prepared.samples) if models.online else None,
        class_weights=config.objective.class_weights,
        hidden_positions=config.objective.hidden_positions,
        cached=models.cached,
        filler=min(prepared.train, key=lambda example: example.num_tokens),
    )


def _set_up(context: _Context, models: _Models, collator: Collator, compiled: RowSums | None) -> _Fitting:
    """The trainer with its callbacks, and the checkpoint from which it goes on."""
    config, prepared, processes, student = context.config, context.prepared, context.processes, models.student
    on_policy = None
    if config.on_policy_fraction:
        on_policy = OnPolicy(student.model, config, prepared, autocast=student.autocast)
    checkpoint = processes.from_main(lambda: last_sealed(Path(context.args.output_dir)))
    step = step_of(checkpoint)
    metrics = MetricsLog(config.out / "metrics.jsonl", step, context.report) if processes.is_main else None
    stop = GracefulStop(processes.any)
    reporters = open_reporters(config.report_to, config.out, resumed_step=step, is_main_process=processes.is_main)
    draws = [EpochOfDraws(prepared.augmented)] if prepared.augmented else []
    trainer = DistillTrainer(
        student,
        context.args,
        objective=config.objective,
        collator=collator,
        train_examples=prepared.augmented or prepared.train,
        held_out_examples=prepared.held_out,
        teacher=models.teacher,
        projectors=models.projectors,
        monitor=_monitor(config, student, prepared),
        on_policy=on_policy,
        callbacks=[*([metrics] if metrics else []), stop, *reporters, *draws],
        compiled=compiled,
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(ProgressBar)
    attention = training_attention(student.model) if collator.student.packing != "none" else contextlib.nullcontext()
    return _Fitting(trainer, metrics, stop, checkpoint, attention)


def _fit(context: _Context, models: _Models, fitting: _Fitting) -> int:
    """Train to the end; the step whose weights the student has then."""
    trainer, checkpoint = fitting.trainer, fitting.checkpoint
    if checkpoint is not None:
        context.report(f"going on from {checkpoint}")
    with fitting.stop.listening(), fitting.attention:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
    saved_step = trainer.load_best()
    if saved_step < trainer.state.global_step:
        context.report(f"the student of step {saved_step} is saved, whose call accuracy was the highest")
    models.student.model.config.use_cache = models.use_cache
    return saved_step


def _saved(
    context: _Context, models: _Models, fitting: _Fitting, saved_step: int, seconds: Callable[[], float]
) -> TrainResult:
    """Write the student, and what the training came to."""
    config, trainer = context.config, fitting.trainer
    whole = trainer.accelerator.get_state_dict(trainer.model_wrapped) if shards_weights() else None

    def write() -> TrainResult:
        assert fitting.metrics is not None
        student = models.student if whole is None else reassemble_student(config, whole)
        save_trained(config, student, context.prepared, models.base, models.projectors)
        lines = fitting.metrics.lines
        losses = [line.loss for line in lines if line.loss is not None]
        held_out = [line for line in lines if line.held_out_ce is not None and line.step <= saved_step]
        return TrainResult(
            directory=config.out,
            steps=trainer.state.global_step,
            examples=len(context.prepared.train),
            train_loss=losses[-1],
            held_out_ce=held_out[-1].held_out_ce if held_out else None,
            held_out_token_accuracy=held_out[-1].held_out_token_accuracy if held_out else None,
            seconds=seconds(),
            held_out_call_accuracy=held_out[-1].held_out_call_accuracy if held_out else None,
            best_step=saved_step if config.monitor.keeps_best else None,
        )

    return context.processes.from_main(write)


def _online_teacher(
    config: TrainConfig, prepared: PreparedTeacher, student: StudentModel, device: torch.device
) -> OnlineTeacher:
    layers = tuple(teacher_layer for _, teacher_layer in prepared.pairs)
    needs_logits = config.objective.kd_weight > 0
    if config.signal != "self":
        return load_teacher(config, prepared, device, layers, needs_logits=needs_logits)
    return OnlineTeacher(
        student.model, student.head, prepared.vocabulary_size, layers, needs_logits=needs_logits, is_student=True
    )


def _projectors(prepared: PreparedTeacher, student: StudentModel) -> Projectors | None:
    if not prepared.pairs or prepared.shape is None:
        return None
    return Projectors(prepared.pairs, student.model.config.get_text_config().hidden_size, prepared.shape.width)


def _monitor(config: TrainConfig, student: StudentModel, prepared: Prepared) -> CallMonitor | None:
    if not config.monitor.enabled:
        return None
    return CallMonitor(
        config.monitor,
        student.model,
        prepared.tokenizer,
        ModelRef(model=config.student.model),
        traces=prepared.held_out_traces,
        tools_in_prompt=config.tools_in_prompt,
        autocast=student.autocast,
    )
