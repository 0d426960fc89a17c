"""Who answers prompts, and how answers are decoded."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StrictFloat, StrictInt

from fcdistill.config.base import ConfigModel, Dtype, ToolsInPrompt, with_default_tag

__all__ = [
    "BackendConfig",
    "DecodeSettings",
    "LocalBackendConfig",
    "ScriptedBackendConfig",
    "with_default_backend",
]


class DecodeSettings(ConfigModel):
    """How answers are decoded."""

    max_new_tokens: StrictInt = Field(256, ge=1, description="Longest answer, in tokens.")
    sampling_temperature: StrictFloat = Field(0.0, ge=0, description="0 decodes greedily.")
    top_p: StrictFloat = Field(1.0, gt=0, le=1, description="Nucleus sampling mass.")
    seed: StrictInt = Field(0, description="Seed of sampled decoding.")


class LocalBackendConfig(ConfigModel):
    """A model that runs here, through transformers."""

    backend: Literal["local"] = "local"
    model: str = Field(description="Hub id, local directory, .gguf file or a name from `fcdistill models list`.")
    dtype: Dtype = Field("bfloat16", description="Precision of the weights.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    batch_size: StrictInt = Field(32, ge=1, description="Requests that are decoded together.")
    tools_in_prompt: ToolsInPrompt | None = Field(
        None, description="How the prompt shows the tools; unset: as the model was trained, else full."
    )


class ScriptedBackendConfig(ConfigModel):
    """Answers read from a file: for tests and rehearsals, without a model."""

    backend: Literal["scripted"]
    answers: Path = Field(description="JSONL of {request, text}: the last user message and the answer to it.")


BackendConfig = Annotated[LocalBackendConfig | ScriptedBackendConfig, Field(discriminator="backend")]


def with_default_backend(value: Any, key: str) -> Any:
    """The values of a section, in which a model reference under `key` stands for a local model."""
    if isinstance(value, dict) and isinstance(value.get(key), str):
        value = {**value, key: {"model": value[key]}}
    return with_default_tag(value, key, "backend", "local")
