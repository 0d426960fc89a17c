"""What a model's directory says of itself: its config, and the base where it holds an adapter."""

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from fcdistill.errors import ModelError
from fcdistill.models.fetching import local_directory
from fcdistill.models.references import resolve
from fcdistill.models.students import model_errors, read_card
from fcdistill.records import ModelRef
from fcdistill.storage import read_json

__all__ = ["adapter_base", "base_directory", "read_config"]


def read_config(directory: Path) -> PretrainedConfig:
    """The config of a directory with a causal language model. Raises `ModelError` where transformers can't read it."""
    with model_errors(f"model {directory} can't be loaded", "the config.json of a causal language model"):
        return AutoConfig.from_pretrained(str(directory), trust_remote_code=False, local_files_only=True)


def adapter_base(directory: Path) -> ModelRef | None:
    """The base of an adapter directory, from its card or else from peft's config; None for other directories."""
    if not (directory / "adapter_config.json").is_file():
        return None
    card = read_card(directory)
    if card is not None:
        return card.base
    found = read_json(directory / "adapter_config.json", "adapter config").get("base_model_name_or_path")
    if not found:
        raise ModelError(
            f"adapter {directory} does not name its base model",
            required="base_model_name_or_path in adapter_config.json",
            fix="add it",
        )
    return ModelRef(model=str(found))


def base_directory(adapter: Path, base: ModelRef) -> Path:
    """The directory with the base of an adapter. Raises `ModelError` where there is none."""
    try:
        return local_directory(resolve(base.model))[0]
    except ModelError as error:
        raise ModelError(
            f"the base of adapter {adapter} is missing: {error.found}",
            required=error.required,
            fix="restore the base model, or use merged weights, which need none",
        ) from error
