"""What is known of a model without its weights: its layers and width, its modules, its card."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from fcdistill.errors import ModelError
from fcdistill.models.directories import adapter_base, base_directory, read_config
from fcdistill.models.fetching import local_directory
from fcdistill.models.references import resolve
from fcdistill.models.students import StudentCard, cut_layers, model_errors, read_card
from fcdistill.records import ModelRef

__all__ = ["ModelShape", "card_of", "load_skeleton", "model_shape"]


@dataclass(frozen=True)
class ModelShape:
    """What is known of a model without its weights.

    Attributes:
        ref: the reference with its revision.
        num_layers: decoder layers.
        width: hidden size.
    """

    ref: ModelRef
    num_layers: int
    width: int


def model_shape(ref: str) -> ModelShape:
    """The shape and the revision of a reference; no weights are loaded.

    Raises:
        ModelError: the reference, or what it names, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    resolved = resolve(ref)
    directory, revision = local_directory(resolved)
    num_layers, width = _layers_and_width(directory)
    return ModelShape(resolved.ref.model_copy(update={"revision": revision}), num_layers, width)


def card_of(ref: str) -> StudentCard | None:
    """The card of a student or of an adapted teacher, None for any other model; no weights are loaded.

    Raises:
        ModelError: the reference, or the card, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    return read_card(local_directory(resolve(ref))[0])


def load_skeleton(ref: str) -> PreTrainedModel:
    """The modules of a reference on the meta device: shapes and names, no weights. An adapter has merged into its base.

    Raises:
        ModelError: the reference, or what it names, is unusable.
        DownloadError: the model is not here and can't be fetched.
    """
    return _skeleton(local_directory(resolve(ref))[0])


def _layers_and_width(directory: Path) -> tuple[int, int]:
    base = adapter_base(directory)
    if base is None:
        shape = read_config(directory).get_text_config()
        return shape.num_hidden_layers, shape.hidden_size
    num_layers, width = _layers_and_width(base_directory(directory, base))
    return len(base.params.get("keep_layers") or range(num_layers)), width


def _skeleton(directory: Path) -> PreTrainedModel:
    base = adapter_base(directory)
    if base is not None:
        model = _skeleton(base_directory(directory, base))
        keep = base.params.get("keep_layers")
        return cut_layers(model, keep) if keep else model
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory} has no config.json", required="a model directory", fix="check the path")
    config = read_config(directory)
    with torch.device("meta"), model_errors(f"model {directory} can't be built", "a causal language model's config"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return model
