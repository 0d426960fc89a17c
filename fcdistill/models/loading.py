"""From a reference to a model with its weights and its tokenizer.

Weights come from safetensors, and code from a model's repository is never run. How prompts are rendered is not known
here.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from fcdistill.config import Dtype, Quantization, TemplateChoice
from fcdistill.errors import ModelError
from fcdistill.machine.allocator import keep_freed_memory
from fcdistill.models.devices import choose_device
from fcdistill.models.directories import adapter_base, base_directory, read_config
from fcdistill.models.fetching import local_directory
from fcdistill.models.quantization import bits_and_bytes
from fcdistill.models.references import resolve
from fcdistill.models.students import StudentCard, cut_layers, model_errors, read_card, stop_at_ends_of_turns
from fcdistill.prompts.rendering import prepare_tokenizer
from fcdistill.prompts.template_clock import set_template_date
from fcdistill.records import ModelRef

__all__ = ["LoadedModel", "load_model", "load_tokenizer"]

_OWN_TEMPLATE = TemplateChoice()


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, its prepared tokenizer, where they come from, and the card of a student."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    ref: ModelRef
    card: StudentCard | None


def load_tokenizer(
    ref: str, choice: TemplateChoice = _OWN_TEMPLATE, *, thinks: bool | None = None, template_date: date | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of a reference, with a template that shows tools, padding on the left.

    Args:
        ref: as for `load_model`.
        choice: which chat template it gets, and with which values.
        thinks: whether the model thinks where the choice does not say; None: as its template has it.
        template_date: the date that its template writes, if it does; None: the one that was saved with it, else
            `DEFAULT_TEMPLATE_DATE`.

    Raises:
        ConfigError: the template knows nothing of a value of the choice.
        ModelError: the reference, or what it names, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    directory, _ = local_directory(resolve(ref))
    return _tokenizer(directory, choice, thinks, template_date)


def load_model(
    ref: str,
    choice: TemplateChoice = _OWN_TEMPLATE,
    *,
    thinks: bool | None = None,
    dtype: Dtype,
    device: str = "auto",
    quantization: Quantization = "none",
    max_memory: Mapping[int, int] | None = None,
    template_date: date | None = None,
) -> LoadedModel:
    """The model of a reference, in eval mode. An adapter is loaded on its base and merged into it.

    Args:
        ref: a catalogue name, directory, run directory, .gguf file or hub id.
        choice: which chat template its tokenizer gets, and with which values.
        thinks: as `load_tokenizer` takes it.
        dtype: `float32`, `bfloat16` or `float16`.
        device: `auto` (CUDA, else MPS, else CPU) or a torch device.
        quantization: of its linear layers; `require_quantization` has found that they can be.
        max_memory: bytes of weights by index of the GPU, where the model is spread over several instead of `device`.
        template_date: as `load_tokenizer` takes it.

    Raises:
        ModelError: the reference, or what it names, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    resolved = resolve(ref)
    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    directory, revision = local_directory(resolved)
    tokenizer = _tokenizer(directory, choice, thinks, template_date)
    options: dict[str, Any] = {}
    if quantization != "none":
        options = {"quantization_config": bits_and_bytes(quantization, dtype), "device_map": {"": place}}
    if max_memory is not None:
        options |= {"device_map": "auto", "max_memory": dict(max_memory)}
    model = _weights(directory, dtype, options)
    if not options:
        model = model.to(place)
    model.eval()
    stop_at_ends_of_turns(model, tokenizer)
    num_rows = model.get_input_embeddings().num_embeddings
    largest_id = max(tokenizer.get_vocab().values())
    if largest_id >= num_rows:
        raise ModelError(
            f"model {ref}: its tokenizer has id {largest_id}, but it embeds only {num_rows} tokens",
            required="a tokenizer and weights that belong together",
            fix="restore the model's own tokenizer files",
        )
    params = {"dtype": dtype} | ({"quantization": quantization} if quantization != "none" else {})
    found = resolved.ref.model_copy(update={"revision": revision, "params": params})
    return LoadedModel(model, tokenizer, found, read_card(directory))


def _tokenizer(
    directory: Path, choice: TemplateChoice, thinks: bool | None, template_date: date | None
) -> PreTrainedTokenizerBase:
    if not any(
        (directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    ):
        base = adapter_base(directory)
        if base is None:
            raise ModelError(
                f"{directory} has no tokenizer",
                required="tokenizer.json (or the older tokenizer.model, vocab.json or vocab.txt)",
                fix="copy the tokenizer files of the model beside its weights",
            )
        return load_tokenizer(base.model, choice, thinks=thinks, template_date=template_date)
    config = read_config(directory) if (directory / "config.json").is_file() else None
    with model_errors(f"the tokenizer in {directory} can't be loaded", "a tokenizer that transformers knows"):
        tokenizer = AutoTokenizer.from_pretrained(
            str(directory), config=config, trust_remote_code=False, local_files_only=True, padding_side="left"
        )
    prepare_tokenizer(tokenizer, choice, thinks=thinks)
    set_template_date(tokenizer, template_date)
    return tokenizer


def _weights(directory: Path, dtype: str, options: Mapping[str, Any]) -> PreTrainedModel:
    """The weights of a directory; `options` are further arguments of transformers, for where and how they are kept."""
    base = adapter_base(directory)
    if base is not None:
        if options:
            raise ModelError(
                f"{directory} is an adapter, which is merged into its base as a whole",
                required="merged weights, where they are to be quantised or spread over several devices",
                fix="name the directory with the merged weights",
            )
        model = _weights(base_directory(directory, base), dtype, {})
        if keep := base.params.get("keep_layers"):
            model = cut_layers(model, keep)
        with (
            _without_progress_bars(),
            model_errors(f"adapter {directory} can't be loaded", f"an adapter of {base.model}"),
        ):
            # Merged, because an unmerged adapter makes each forward pass about a third slower.
            merged: PreTrainedModel = PeftModel.from_pretrained(model, str(directory)).merge_and_unload()
        return merged
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory} has no config.json", required="a model directory", fix="check the path")
    if not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"{directory} has no *.safetensors file",
            required="weights as safetensors (pickled .bin weights are never loaded)",
            fix="convert the weights, or restore the missing file",
        )
    config = read_config(directory)
    with _without_progress_bars(), model_errors(f"model {directory} can't be loaded", "intact weights"):
        loaded, info = AutoModelForCausalLM.from_pretrained(
            str(directory),
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"model {directory} lacks {len(missing)} weights, for example {missing[0]}",
            required="all weights that its config.json asks for",
            fix="restore the model's files",
        )
    return loaded


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()
