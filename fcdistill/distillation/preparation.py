"""What `train` and `cache` have in common: the examples, the aligned layers, the loaded teacher, how rows are laid out.

`prepare` reads and checks all that needs no weights, so that it can be refused before any are loaded.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from fcdistill.config import FromTeacherLayers, Signal, TrainConfig
from fcdistill.distillation.alignment import VocabularyMap
from fcdistill.distillation.collation import Layout
from fcdistill.distillation.data import Example, call_validators, drop_long, hold_out, render_traces, tools_of
from fcdistill.distillation.forward import packing_is_exact
from fcdistill.distillation.layers import LayerPair, pair_layers
from fcdistill.distillation.signals import OnlineTeacher
from fcdistill.distillation.token_strings import StringPairs, pair_strings, token_strings
from fcdistill.errors import ConfigError
from fcdistill.models import (
    ModelShape,
    choose_device,
    layers_to_keep,
    load_model,
    load_tokenizer,
    model_shape,
    shared_vocabulary,
)
from fcdistill.records import FunctionTool, Trace
from fcdistill.storage import read_jsonl
from fcdistill.validation import CallValidator

__all__ = ["Prepared", "PreparedTeacher", "layout_of", "load_teacher", "prepare", "teacher_layout"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedTeacher:
    """All that is known of a teacher before its weights are loaded."""

    tokenizer: PreTrainedTokenizerBase
    vocabulary_size: int
    """Columns of its logits that are tokens; with the student's tokenizer, those that both have."""
    string_pairs: StringPairs | None
    """Only where the student has another tokenizer."""
    shape: ModelShape
    pairs: tuple[LayerPair, ...]
    """The aligned layers; none where the objective has no hidden-state term."""


@dataclass(frozen=True)
class Prepared:
    """All that is known before weights are loaded."""

    tokenizer: PreTrainedTokenizerBase
    teacher: PreparedTeacher | None
    train: list[Example]
    held_out: list[Example]
    left_out: list[str]
    tools: tuple[FunctionTool, ...]
    validators: Mapping[str, CallValidator] = field(default_factory=dict)
    """Per trace id, what judges calls of its tools; none where the student samples no answers."""


def prepare(config: TrainConfig, *, signal: Signal | None) -> Prepared:
    """Read and check everything that needs no weights.

    Args:
        config: what is trained on what.
        signal: how the teacher is heard; None: none is needed.

    Raises:
        CatalogError: the student samples calls of tools whose schemas can't be used.
        ConfigError: fields that don't fit one another, the models or the machine.
        DataError: the traces are unusable.
        ModelError: a reference, or what it names, is unusable.
    """
    traces = read_jsonl(config.traces, Trace, "traces")
    choose_device(config.device)
    if config.dtype == "float16" and not torch.cuda.is_available():
        raise ConfigError(
            "dtype is float16, but there is no CUDA device",
            required="a CUDA device: float16 training scales its loss there",
            fix="use bfloat16 or float32",
        )
    tokenizer = load_tokenizer(config.student.model)
    teacher = _prepare_teacher(config, tokenizer, signal) if signal else None
    rendered = render_traces(
        traces,
        tokenizer,
        config.tools_in_prompt,
        teacher.tokenizer if teacher else None,
        teacher.string_pairs if teacher else None,
    )
    kept, left_out = drop_long(rendered, config.max_example_tokens)
    if left_out:
        log.warning(
            "%d of %d traces have more than max_example_tokens %d tokens and are left out",
            len(left_out),
            len(traces),
            config.max_example_tokens,
        )
    train, held_out = hold_out(kept, config.held_out_fraction, config.seed)
    validators = call_validators(traces) if config.on_policy_fraction else {}
    return Prepared(tokenizer, teacher, train, held_out, left_out, tools_of(traces), validators)


def _prepare_teacher(
    config: TrainConfig, student_tokenizer: PreTrainedTokenizerBase, signal: Signal
) -> PreparedTeacher:
    assert config.teacher is not None
    tokenizer = load_tokenizer(config.teacher)
    vocabulary = shared_vocabulary(student_tokenizer, tokenizer)
    vocabulary_size, string_pairs = vocabulary.size, None
    if not vocabulary.same:
        different = (
            f"student {config.student.model} and teacher {config.teacher} have different tokenizers "
            f"({vocabulary.detail})"
        )
        _require_alignable(config, signal, different)
        log.info("%s: their tokens are aligned by bytes", different)
        string_pairs = pair_strings(token_strings(student_tokenizer), token_strings(tokenizer))
        vocabulary_size = len(string_pairs.teacher.strings)
    shape = model_shape(config.teacher)
    pairs: tuple[LayerPair, ...] = ()
    if config.objective.hidden_weight:
        student_layers = model_shape(config.student.model).num_layers
        if isinstance(config.student, FromTeacherLayers):
            student_layers = len(layers_to_keep(student_layers, config.student))
        pairs = pair_layers(
            config.objective.layer_map,
            num_pairs=config.objective.num_layer_pairs,
            student_layers=student_layers,
            teacher_layers=shape.num_layers,
        )
    return PreparedTeacher(tokenizer, vocabulary_size, string_pairs, shape, pairs)


def _require_alignable(config: TrainConfig, signal: Signal, different: str) -> None:
    objective = config.objective
    if signal == "cached":
        raise ConfigError(
            f"{different}, but the teacher's signals are to be cached",
            required="one tokenizer for both: a cache holds what the teacher says at the student's tokens",
            fix="train with signal online, which aligns the tokenizers and needs no cache, or choose a teacher and a "
            "student of one family",
        )
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
        config: names the teacher and its precision.
        prepared: what is known of it.
        device: where it runs.
        layers: HF hidden_states indices that are wanted.
        needs_logits: whether its logits are wanted.

    Raises:
        ModelError: its weights can't be loaded.
    """
    assert config.teacher is not None
    model = load_model(config.teacher, dtype=config.dtype, device=str(device)).model
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
    """How a model's rows are laid out: packed, where `packing_is_exact` for it."""
    shape = model.config.get_text_config()  # type: ignore[operator, union-attr]
    return Layout(
        packed=packing_is_exact(model, head, sequences, name=name, autocast=autocast),
        max_tokens=config.pack_tokens,
        # Attention runs at about half the speed of matrix products, which cost 24 H^2 against its 4 H T per token.
        attention_tokens=3 * shape.hidden_size,
        pad_id=shape.pad_token_id or 0,
    )


def teacher_layout(config: TrainConfig, teacher: OnlineTeacher, examples: Sequence[Example]) -> Layout:
    """How the teacher's rows are laid out."""
    sequences = [example.teacher_ids for example in examples]
    return layout_of(config, teacher.model, teacher.head, sequences, name="teacher")
