"""What `train` and `cache` have in common: the examples, the aligned layers, the loaded teacher, how rows are laid out.

`prepare` reads and checks all that needs no weights, so that it can be refused before any are loaded.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from fcdistill.config import FromTeacherLayers, LoraTuning, Signal, ToolsInPrompt, TrainConfig
from fcdistill.distillation.examples.augmentation import AugmentedExamples, augmented_examples
from fcdistill.distillation.examples.collation import Layout
from fcdistill.distillation.examples.examples import (
    Example,
    call_validators,
    drop_long,
    drop_parallel,
    drop_unseen_removals,
    render_traces,
    stretched,
    tools_of,
)
from fcdistill.distillation.losses.cross_tokenizer import VocabularyMap
from fcdistill.distillation.packed.forward import choose_packing
from fcdistill.distillation.placement import teacher_place
from fcdistill.distillation.signals.sources import OnlineTeacher
from fcdistill.distillation.student.projectors import LayerPair, pair_layers
from fcdistill.distillation.tokenizers.token_strings import StringPairs, pair_strings, token_strings
from fcdistill.errors import ConfigError, DataError, ModelError
from fcdistill.models.devices import choose_device
from fcdistill.models.fetching import without_weights
from fcdistill.models.loading import load_model, load_tokenizer
from fcdistill.models.quantization import require_quantization
from fcdistill.models.shapes import ModelShape, card_of, model_shape
from fcdistill.models.students import layers_to_keep
from fcdistill.models.vocabulary import shared_vocabulary
from fcdistill.prompts.chat_template import KIT_REMEDY
from fcdistill.prompts.rendering import call_format
from fcdistill.prompts.worked_examples import read_examples
from fcdistill.records import FunctionTool, ModelRef, Trace, WorkedExample
from fcdistill.storage import read_jsonl
from fcdistill.tools.validation import CallValidator
from fcdistill.traces.splits import Split, split_traces

__all__ = ["Prepared", "PreparedTeacher", "layout_of", "load_teacher", "prepare", "require_devices", "teacher_layout"]

_NUM_NAMED = 5
"""Traces that a warning names."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedTeacher:
    """All that is known of a teacher before its weights are loaded."""

    tokenizer: PreTrainedTokenizerBase
    vocabulary_size: int
    """Columns of its logits that are tokens; with the student's tokenizer, those that both have."""
    string_pairs: StringPairs | None
    """Only where the student has another tokenizer."""
    ref: ModelRef
    shape: ModelShape | None
    """None where it is behind a server: what is inside of it is not known then."""
    pairs: tuple[LayerPair, ...]
    """The aligned layers; none where the objective has no hidden-state term."""
    tools_in_prompt: ToolsInPrompt
    """How its prompt shows the tools: as an adapted teacher learned it, in full to any other."""


@dataclass(frozen=True)
class Prepared:
    """All that is known before weights are loaded."""

    tokenizer: PreTrainedTokenizerBase
    teacher: PreparedTeacher | None
    train: list[Example]
    held_out: list[Example]
    held_out_traces: list[Trace]
    left_out: list[str]
    tools: tuple[FunctionTool, ...]
    augmented: AugmentedExamples | None = None
    """The training examples as they are fetched, where something is drawn; `train` has them without a draw."""
    validators: Mapping[str, CallValidator] = field(default_factory=dict)
    """Per trace id, what judges calls of its tools; none where the student samples no answers."""

    longest_answered: Example | None = None
    """As long as any trace with an answer of the student's own, where it samples some."""

    @property
    def samples(self) -> list[Example]:
        """Examples as long as those that the models read while the student is trained."""
        drawn = [self.augmented.longest] if self.augmented else []
        answered = [self.longest_answered] if self.longest_answered else []
        return [*self.train, *self.held_out, *drawn, *answered]


def prepare(config: TrainConfig, *, signal: Signal | None, here: bool = True) -> Prepared:
    """Read and check everything that needs no weights.

    Args:
        config: what is trained on what.
        signal: how the teacher is heard; None: none is needed.
        here: whether the work is done on this machine, which must have the devices then.

    Raises:
        CatalogError: the distractor catalogue is unusable, or the student samples calls of tools whose schemas are.
        ConfigError: fields that don't fit one another, the models or the machine.
        DataError: the traces are unusable.
        ModelError: a reference, or what it names, is unusable.
    """
    traces = _read_traces(config)
    if here:
        require_devices(config, needs_teacher=signal is not None)
    tokenizer = load_tokenizer(
        config.student.model, config.student, thinks=config.keep_thinking, template_date=config.template_date
    )
    if config.keep_thinking:
        _require_thinking(config.student.model, tokenizer)
    teacher = _prepare_teacher(config, tokenizer, signal) if signal else None
    traces, unwritable = _writable(traces, tokenizer, teacher)
    split = _split(config, traces)
    tools = tools_of(traces)
    render = _renderer(config, tokenizer, teacher, tools)
    kept, left_out = drop_long(render([*split.train, *split.held_out]), config.max_example_tokens)
    if left_out:
        log.warning(
            "%d of %d traces have more than max_example_tokens %d tokens and are left out",
            len(left_out),
            len(traces),
            config.max_example_tokens,
        )
    kept_ids, held_out_ids = {example.trace_id for example in kept}, {trace.id for trace in split.held_out}
    train = [example for example in kept if example.trace_id not in held_out_ids]
    held_out = [example for example in kept if example.trace_id in held_out_ids]
    held_out_traces = [trace for trace in split.held_out if trace.id in kept_ids]
    _require_both_sides(config, train, held_out)
    augmented = augmented_examples(config, traces, train, render) if config.augmentation.is_on else None
    left_out = [*unwritable, *left_out]
    prepared = Prepared(tokenizer, teacher, train, held_out, held_out_traces, left_out, tools, augmented)
    if not config.on_policy_fraction:
        return prepared
    return dataclasses.replace(
        prepared, validators=call_validators(traces), longest_answered=_longest_answered(config, prepared.samples)
    )


def _read_traces(config: TrainConfig) -> list[Trace]:
    """The traces from which the student can learn by its prompt."""
    traces = read_jsonl(config.traces, Trace, "traces")
    if config.tools_in_prompt == "none":
        traces, unseen = drop_unseen_removals(traces)
        if unseen:
            log.warning(
                "%d traces without a call lack tools that others have; tools_in_prompt none can't show it: left out",
                len(unseen),
            )
    return traces


def _require_thinking(reference: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a student whose template can't write what it is to think."""
    if not call_format(tokenizer).writes_thoughts:
        raise ModelError(
            f"keep_thinking is true, but the chat template of student {reference} writes no thought: it ignores the "
            "field reasoning_content, or its prompt ends with a thought that is closed",
            required="a template that writes a message's thought before its answer, or whose prompt opens one",
            fix="choose a model that thinks; or turn its thinking on by student.chat_template_kwargs, where its "
            "template calls that otherwise than enable_thinking; or set keep_thinking to false",
        )


def _writable(
    traces: list[Trace], student: PreTrainedTokenizerBase, teacher: PreparedTeacher | None
) -> tuple[list[Trace], list[str]]:
    """The traces that all chat templates can write, and the ids of the others."""
    tokenizers = {"student": student} | ({"teacher": teacher.tokenizer} if teacher else {})
    unable = [whose for whose, tokenizer in tokenizers.items() if not call_format(tokenizer).writes_parallel]
    if not unable:
        return traces, []
    kept, left_out = drop_parallel(traces)
    if left_out:
        log.warning(
            "the chat template of the %s can't write several calls in one answer: %d of %d traces have some and are "
            "left out (%s); to train on them, %s",
            " and of the ".join(unable),
            len(left_out),
            len(traces),
            ", ".join(left_out[:_NUM_NAMED]) + (", …" if len(left_out) > _NUM_NAMED else ""),
            KIT_REMEDY,
        )
    return kept, left_out


def _renderer(
    config: TrainConfig,
    tokenizer: PreTrainedTokenizerBase,
    teacher: PreparedTeacher | None,
    tools: Sequence[FunctionTool],
) -> Callable[[Sequence[Trace]], list[Example]]:
    """What makes examples of traces, as student and teacher read them."""
    examples: list[WorkedExample] = []
    if teacher and config.teacher_examples:
        validator = CallValidator(tool.function for tool in tools)
        examples = read_examples(config.teacher_examples, validator, "teacher_examples file")
    return partial(
        render_traces,
        student=tokenizer,
        style=config.tools_in_prompt,
        teacher=teacher.tokenizer if teacher else None,
        pairs=teacher.string_pairs if teacher else None,
        teacher_examples=examples,
        teacher_style=teacher.tools_in_prompt if teacher else "full",
        keep_thinking=config.keep_thinking,
    )


def _require_both_sides(config: TrainConfig, train: Sequence[Example], held_out: Sequence[Example]) -> None:
    """Where traces are held out, one side can lose all of its traces by their length."""
    if train and (held_out or not config.monitor.enabled):
        return
    side, wanted = ("held-out ", "monitor.steps asks the student") if train else ("training ", "training needs")
    raise DataError(
        f"no {side}trace is left: the others have more than max_example_tokens {config.max_example_tokens} tokens, or "
        "are made of traces of both sides",
        required=f"at least one {side}trace, which {wanted}",
        fix="raise max_example_tokens, or change held_out_fraction or seed",
    )


def _longest_answered(config: TrainConfig, examples: Sequence[Example]) -> Example:
    """An example as long as the longest prompt with the longest answer that the student may give."""
    longest = max(examples, key=lambda example: example.num_prompt_tokens)
    answered = longest.num_prompt_tokens + config.on_policy.max_new_tokens
    return stretched(longest, max(longest.num_tokens, min(answered, config.max_example_tokens)))


def require_devices(config: TrainConfig, *, needs_teacher: bool) -> None:
    """Check that this machine has the devices of a configuration, and what their use takes.

    Raises:
        ConfigError: a device is missing.
        MissingDependencyError: a package is missing.
    """
    student = choose_device(config.device)
    if config.dtype == "float16" and not torch.cuda.is_available():
        raise ConfigError(
            "dtype is float16, but there is no CUDA device",
            required="a CUDA device: float16 training scales its loss there",
            fix="use bfloat16 or float32",
        )
    if isinstance(config.tuning, LoraTuning):
        require_quantization(config.tuning.quantization, "tuning.quantization", student)
    if needs_teacher:
        if config.teacher_device not in (None, "auto"):
            choose_device(config.teacher_device, field="teacher_device")
        place = teacher_place(config.teacher_device, student)
        require_quantization(config.teacher_quantization, "teacher_quantization", place.device)


def _split(config: TrainConfig, traces: list[Trace]) -> Split:
    if not config.held_out_fraction:
        return Split(traces, [], [])
    split = split_traces(traces, held_out_fraction=config.held_out_fraction, seed=config.seed)
    if split.left_out:
        log.warning(
            "%d traces are made of training and of held-out ones, such as joined requests: left out",
            len(split.left_out),
        )
    return split


def _prepare_teacher(
    config: TrainConfig, student_tokenizer: PreTrainedTokenizerBase, signal: Signal
) -> PreparedTeacher:
    served = config.served_teacher
    if served is not None:
        reference = without_weights(served.tokenizer)
    else:
        reference = config.student.model if signal == "self" else str(config.teacher)
    tokenizer = load_tokenizer(
        reference, config.teacher_choice, thinks=config.keep_thinking, template_date=config.template_date
    )
    vocabulary = shared_vocabulary(student_tokenizer, tokenizer)
    vocabulary_size, string_pairs = vocabulary.size, None
    if not vocabulary.same:
        different = (
            f"student {config.student.model} and teacher {reference} have different tokenizers ({vocabulary.detail})"
        )
        _require_alignable(config, different)
        log.info("%s: their tokens are aligned by bytes", different)
        string_pairs = pair_strings(token_strings(student_tokenizer), token_strings(tokenizer))
        vocabulary_size = len(string_pairs.teacher.strings)
    style = _teacher_style(config, reference, signal)
    if served is not None:
        ref = ModelRef(model=served.model, params={"served": True})
        return PreparedTeacher(tokenizer, vocabulary_size, string_pairs, ref, None, (), style)
    shape = model_shape(reference)
    pairs: tuple[LayerPair, ...] = ()
    if config.objective.hidden_weight:
        student_layers = model_shape(config.student.model).num_layers
        if isinstance(config.student, FromTeacherLayers):
            student_layers = len(layers_to_keep(student_layers, config.student))
        if signal == "self":
            shape = dataclasses.replace(shape, num_layers=student_layers)
        pairs = pair_layers(
            config.objective.layer_map,
            num_pairs=config.objective.num_layer_pairs,
            student_layers=student_layers,
            teacher_layers=shape.num_layers,
        )
    return PreparedTeacher(tokenizer, vocabulary_size, string_pairs, shape.ref, shape, pairs, style)


def _teacher_style(config: TrainConfig, reference: str, signal: Signal) -> ToolsInPrompt:
    # To itself, the student without its adapter is a teacher that has to read what it has not learned.
    card = None if signal == "self" else card_of(reference)
    if card is None:
        return "full"
    if config.augmentation.is_on and card.tools_in_prompt == "none":
        raise ConfigError(
            f"augmentation changes the tools that prompts show, but teacher {reference} was adapted without tools in "
            "its prompt and would answer for the tools as they were",
            required="a teacher that reads the tools",
            fix="adapt the teacher with tools_in_prompt full or compact, or remove augmentation",
        )
    return card.tools_in_prompt


def _require_alignable(config: TrainConfig, different: str) -> None:
    objective = config.objective
    if objective.kd_weight and objective.kd_divergence != "forward_kl":
        raise ConfigError(
            f"objective.kd_divergence is {objective.kd_divergence}, but {different}",
            required="forward_kl: between two tokenizers, strings and spans of text are compared by it",
            fix="set objective.kd_divergence to forward_kl, or choose a teacher and a student of one family",
        )


def load_teacher(
    config: TrainConfig, prepared: PreparedTeacher, device: torch.device, layers: Sequence[int], *, needs_logits: bool
) -> OnlineTeacher:
    """The teacher with its weights.

    Args:
        config: names the teacher, its precision and its place.
        prepared: what is known of it.
        device: that of the student, and of the rows that are compared.
        layers: HF hidden_states indices that are wanted.
        needs_logits: whether its logits are wanted.

    Raises:
        ModelError: its weights can't be loaded.
    """
    assert config.teacher is not None
    place = teacher_place(config.teacher_device, device)
    model = load_model(
        config.teacher,
        config.teacher_choice,
        thinks=config.keep_thinking,
        dtype=config.dtype,
        device=str(place.device),
        quantization=config.teacher_quantization,
        max_memory=place.max_memory,
    ).model
    model.requires_grad_(False)
    return OnlineTeacher(
        model=model,
        head=model.get_output_embeddings(),
        vocabulary_size=prepared.vocabulary_size,
        layers=tuple(layers),
        needs_logits=needs_logits,
        vocabulary_map=VocabularyMap.of(prepared.string_pairs, device) if prepared.string_pairs else None,
    )


def layout_of(
    config: TrainConfig,
    model: nn.Module,
    head: nn.Module,
    sequences: Sequence[Sequence[int]],
    *,
    name: str,
    autocast: torch.dtype | None = None,
) -> Layout:
    """How a model's rows are laid out: as `choose_packing` finds."""
    shape = model.config.get_text_config()  # type: ignore[operator, union-attr]
    return Layout(
        packing=choose_packing(model, head, sequences, name=name, autocast=autocast),
        max_tokens=config.pack_tokens,
        # Attention runs at about half the speed of matrix products, which cost 24 H^2 against its 4 H T per token.
        attention_tokens=3 * shape.hidden_size,
        pad_id=shape.pad_token_id or 0,
    )


def teacher_layout(config: TrainConfig, teacher: OnlineTeacher, examples: Sequence[Example]) -> Layout:
    """How the teacher's rows are laid out."""
    sequences = [example.teacher_ids for example in examples]
    with teacher.speaking():
        return layout_of(config, teacher.model, teacher.head, sequences, name="teacher")
