"""Students: adapters through peft, models cut to some of their layers, and the form in which a student is saved.

A saved student is a directory of adapter or full weights, the tokenizer with its chat template, and a card that says
what it was trained for. Training itself, and how references become models, are not known here (`models` builds on
this module).
"""

import contextlib
import copy
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import ValidationError
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fcdistill.config import FromTeacherLayers, LoraTuning, TemplateValues, ToolsInPrompt
from fcdistill.errors import ConfigError, FcdistillError, ModelError
from fcdistill.prompts.rendering import call_markers, stop_token_ids
from fcdistill.records import FunctionTool, ModelRef, Record
from fcdistill.storage import describe_validation_error, read_json, storage_errors, write_json

__all__ = [
    "CARD_NAME",
    "StudentCard",
    "apply_lora",
    "cut_layers",
    "layers_to_keep",
    "model_errors",
    "read_card",
    "save_student",
    "stop_at_ends_of_turns",
    "trained_token_ids",
    "weight_storage_errors",
]

CARD_NAME = "fcdistill.json"

_LONGEST_REASON = 300


class StudentCard(Record):
    """What a student was trained for; lies as `fcdistill.json` beside its weights."""

    tools_in_prompt: ToolsInPrompt
    tools: tuple[FunctionTool, ...]
    base: ModelRef
    """The model it was trained from. `params["keep_layers"]` lists the layers that were kept, where it was cut."""
    dialect: str | None = None
    """The format in which it learned to write calls; null in cards that are older than this field."""
    server_parsers: dict[str, str] = {}
    """What servers call the parser of that format (`--tool-call-parser`), by server."""
    no_response_template: str | None = None
    """Why no `response_template` is saved with the tokenizer, so that transformers gives calls as text; null: it is."""
    chat_template_kwargs: TemplateValues = {}
    """The values that its chat template has as defaults, such as `enable_thinking: false`."""


def apply_lora(model: PreTrainedModel, tuning: LoraTuning, token_ids: Sequence[int] = ()) -> PeftModel:
    """The model with fresh trainable adapters; its own weights are frozen.

    Args:
        model: any causal LM.
        tuning: of the adapters.
        token_ids: tokens whose rows of the input and output embeddings are trained too.

    Raises:
        ModelError: a named module does not exist in the model.
    """
    targets = tuning.target_modules
    if not isinstance(targets, str):
        linear = sorted(
            {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        )
        names = [name for name, _ in model.named_modules()]
        for target in targets:
            if not any(name == target or name.endswith(f".{target}") for name in names):
                raise ModelError(
                    f"tuning.target_modules: the model has no module {target!r}",
                    required=f"'all-linear', or some of {', '.join(linear)}",
                    fix="correct the name",
                )
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        trainable_token_indices=_embedding_rows(model, token_ids) if token_ids else None,
    )
    with model_errors(
        "adapters could not be added to the model", "modules that peft can adapt", "correct tuning.target_modules"
    ):
        return get_peft_model(model, config)


def trained_token_ids(tokenizer: PreTrainedTokenizerBase, tuning: LoraTuning) -> list[int]:
    """The tokens whose embeddings are trained beside adapters.

    Raises:
        ConfigError: one that is named is not one token of the vocabulary.
        ModelError: the tokenizer's template refuses calls.
    """
    tokens = call_markers(tokenizer) if tuning.trainable_tokens == "call_markers" else tuning.trainable_tokens
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise ConfigError(
                f"tuning.trainable_tokens: {token!r} is not in the model's vocabulary",
                required="tokens as the vocabulary writes them",
                fix="correct it, or leave the field out for those around calls",
            )
    return [vocabulary[token] for token in tokens]


def layers_to_keep(num_layers: int, student: FromTeacherLayers) -> list[int]:
    """The layers of a cut student, ascending, counted from 0.

    Raises:
        ConfigError: keep_layers is not ascending or names a layer that the model does not have.
    """
    if student.keep_every is not None:
        return sorted({*range(0, num_layers, student.keep_every), num_layers - 1})
    keep = list(student.keep_layers or ())
    if not keep or keep != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= num_layers:
        raise ConfigError(
            f"student.keep_layers {keep}",
            required=f"ascending layers in 0..{num_layers - 1}, since {student.model} has {num_layers} layers",
            fix="correct the list, or use keep_every",
        )
    return keep


def cut_layers(model: PreTrainedModel, keep: Sequence[int]) -> PreTrainedModel:
    """A copy of a model that has only the decoder layers `keep`, in that order; the model itself stays as it is.

    Raises:
        ModelError: the model's decoder is not a plain list of layers, or a layer does not exist.
    """
    layers = _decoder_layers(model)
    if not keep or min(keep) < 0 or max(keep) >= len(layers):
        raise ModelError(
            f"layers {list(keep)} can't be kept of a model with {len(layers)}",
            required=f"at least one layer in 0..{len(layers) - 1}",
            fix="correct keep_layers",
        )
    kept = set(keep)
    # Dropped layers are not copied: the memo says that an empty module is their copy.
    memo: dict[int, Any] = {id(layer): torch.nn.Identity() for i, layer in enumerate(layers) if i not in kept}
    student = copy.deepcopy(model, memo)
    copied = _decoder_layers(student)
    student.get_decoder().layers = torch.nn.ModuleList([copied[index] for index in keep])
    for index, layer in enumerate(_decoder_layers(student)):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", index)  # noqa: B010 (an attribute that torch's types don't know)
    config = student.config.get_text_config()
    layer_types = getattr(config, "layer_types", None)
    config.num_hidden_layers = len(keep)
    if layer_types is not None:
        config.layer_types = [layer_types[index] for index in keep]
    return student


def save_student(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, directory: Path, card: StudentCard
) -> None:
    """Write a student that `load_model` reads: adapter or full weights, tokenizer with its template, and the card.

    What it is generated with, full weights or an adapter on its base, stops at the ends of the template's answers.
    The directory appears, or is replaced, as a whole.

    Raises:
        StorageError: the disk refused.
    """
    with weight_storage_errors(directory, "write"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".tmp"))
        try:
            made = work / "new"
            stop_at_ends_of_turns(model.get_base_model() if isinstance(model, PeftModel) else model, tokenizer)
            if isinstance(model, PeftModel):
                for config in model.peft_config.values():
                    config.base_model_name_or_path = card.base.model
                # Adapters keep the rows that they change themselves; peft would ask the hub to find that out.
                model.save_pretrained(made, save_embedding_layers=False)
                model.get_base_model().generation_config.save_pretrained(made)
                (made / "README.md").unlink(missing_ok=True)
            else:
                model.save_pretrained(made)
            tokenizer.save_pretrained(made)
            write_json(made / CARD_NAME, card.model_dump(mode="json"))
            if directory.exists():
                directory.rename(work / "old")
            made.rename(directory)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def stop_at_ends_of_turns(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make `model.generate`, and servers that read generation_config.json, stop where the template ends an answer.

    A base model's own configuration names the end of a text alone, which a student of a chat template never writes.
    """
    found = model.generation_config.eos_token_id
    own = [found] if isinstance(found, int) else list(found or ())
    stops = list(dict.fromkeys([*stop_token_ids(tokenizer), *own]))
    model.generation_config.eos_token_id = stops[0] if len(stops) == 1 else stops


def read_card(directory: Path) -> StudentCard | None:
    """The card of a saved student; None where there is none. Raises `ModelError` where it is malformed."""
    path = directory / CARD_NAME
    if not path.is_file():
        return None
    try:
        return StudentCard.model_validate(read_json(path, "student card"))
    except ValidationError as error:
        raise ModelError(
            f"student card {path}: {describe_validation_error(error)}",
            required="the card that `fcdistill train` wrote",
            fix="restore it, or delete it to use the model as a plain one",
        ) from None


@contextlib.contextmanager
def model_errors(found: str, required: str, fix: str = "restore or replace the model's files") -> Iterator[None]:
    """Turn what the libraries raise on unusable model files, which is of all kinds, into a `ModelError`."""
    try:
        yield
    except (FcdistillError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ModelError(f"{found}: {type(error).__name__}: {reason}", required=required, fix=fix) from error


@contextlib.contextmanager
def weight_storage_errors(path: Path, doing: str) -> Iterator[None]:
    """`storage_errors` for code that writes weights: safetensors and torch report a full disk in ways of their own."""
    with storage_errors(path, doing):
        try:
            yield
        except SafetensorError as error:
            if found := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
            raise
        except RuntimeError as error:
            if "inline_container" in str(error) or "PytorchStreamWriter" in str(error):
                raise OSError(errno.EIO, "the file could not be written whole") from error
            raise


def _embedding_rows(model: PreTrainedModel, token_ids: Sequence[int]) -> dict[str, list[int]]:
    sides = (model.get_input_embeddings(), model.get_output_embeddings())
    return {name: list(token_ids) for name, module in model.named_modules() if any(module is side for side in sides)}


def _decoder_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise ModelError(
            f"a {type(model).__name__} can't be cut: its decoder has no list of layers",
            required="a decoder-only model, for example of the Llama, Qwen or Gemma families",
            fix="choose another model, or a pretrained student",
        )
    return layers
