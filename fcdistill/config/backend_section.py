"""Who answers prompts, and how answers are decoded."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, StrictBool, StrictFloat, StrictInt, field_validator

from fcdistill.config.section import ConfigModel, Dtype, Rule, ToolsInPrompt, with_default_tag
from fcdistill.config.template_section import TemplateChoice

__all__ = [
    "BackendConfig",
    "DecodeSettings",
    "LocalBackendConfig",
    "OpenAIBackendConfig",
    "ScriptedBackendConfig",
    "ServerConfig",
    "is_constrainable",
    "why_not_constrainable",
    "with_default_backend",
]


class DecodeSettings(ConfigModel):
    """How answers are decoded."""

    max_new_tokens: StrictInt = Field(256, ge=1, description="Longest answer, in tokens.")
    sampling_temperature: StrictFloat = Field(0.0, ge=0, description="0 decodes greedily.")
    top_p: StrictFloat = Field(1.0, gt=0, le=1, description="Nucleus sampling mass.")
    seed: StrictInt = Field(0, description="Seed of sampled decoding.")
    constrained: StrictBool = Field(
        False, description="Answers are nothing but text or calls that obey the schemas; local models only."
    )


class LocalBackendConfig(TemplateChoice):
    """A model that runs here, through transformers."""

    backend: Literal["local"] = "local"
    model: str = Field(description="Hub id, local directory, .gguf file or a name from `fcdistill models list`.")
    dtype: Dtype = Field("bfloat16", description="Precision of the weights.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    batch_size: StrictInt = Field(32, ge=1, description="Requests that are decoded together.")
    tools_in_prompt: ToolsInPrompt | None = Field(
        None, description="How the prompt shows the tools; unset: as the model was trained, else full."
    )
    template_date: date | None = Field(
        None,
        description="Date that a chat template writes which writes today's, so that prompts are the same on every "
        "day; unset: the one that the model was trained with, else 2024-07-26.",
    )


class ScriptedBackendConfig(ConfigModel):
    """Answers read from a file: for tests and rehearsals, without a model."""

    backend: Literal["scripted"]
    answers: Path = Field(description="JSONL of {request, text}: the last user message and the answer to it.")


_SERVER_RULES: tuple[Rule["ServerConfig"], ...] = (
    Rule(
        lambda server: (server.prompt_price is None) != (server.completion_price is None),
        "give both of prompt_price and completion_price, or neither",
    ),
)


class ServerConfig(ConfigModel):
    """A server that speaks OpenAI's API, and how it is asked."""

    rules: ClassVar = _SERVER_RULES

    base_url: str = Field(description="Where the API begins, for example http://localhost:8000/v1.")
    model: str = Field(min_length=1, description="The model's name at the server.")
    api_key_env: str | None = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; null for a server that asks for none."
    )
    max_concurrency: StrictInt = Field(16, ge=1, le=1000, description="Most requests that are under way at once.")
    timeout_s: StrictFloat = Field(120.0, gt=0, description="Longest wait for one whole answer.")
    max_retries: StrictInt = Field(6, ge=0, description="Further tries after rate limits, server errors and time-outs.")
    prompt_price: StrictFloat | None = Field(None, ge=0, description="Price of a million prompt tokens.")
    completion_price: StrictFloat | None = Field(None, ge=0, description="Price of a million completion tokens.")

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        # The messages do not repeat the value: it may hold a password, and configs go into manifests.
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or re.search(r"[\s\x00-\x1f]", value):
            raise ValueError("must be a URL that begins with http:// or https:// and names a host")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("must hold no user, password, query or fragment; the key comes from api_key_env")
        return value.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _variable_name(cls, value: str | None) -> str | None:
        # Nor here: whoever mistakes the field writes the key itself into it.
        if value is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError("must be the name of an environment variable, in capitals, not the key itself")
        return value


def _rendered_by_the_server(name: str) -> Rule["OpenAIBackendConfig"]:
    return Rule(
        lambda server: server.api == "chat" and getattr(server, name) is not None,
        f"{name} has no effect with api chat, where the server renders the prompts; remove it",
    )


_OPENAI_RULES: tuple[Rule["OpenAIBackendConfig"], ...] = (
    Rule(
        lambda server: server.api == "completions" and server.tokenizer is None,
        "api completions needs tokenizer, a model reference whose template renders the prompts",
    ),
    _rendered_by_the_server("tokenizer"),
    _rendered_by_the_server("tools_in_prompt"),
    _rendered_by_the_server("template_date"),
    _rendered_by_the_server("dialect"),
    Rule(
        lambda server: server.api == "chat" and server.template != "own",
        "template kit has no effect with api chat, where the server renders the prompts; remove it, or use api "
        "completions",
    ),
)


class OpenAIBackendConfig(ServerConfig, TemplateChoice):
    """A model behind a server that speaks OpenAI's API: vLLM, llama.cpp, a hosted one."""

    rules: ClassVar[tuple[Rule[Any], ...]] = (*_SERVER_RULES, *_OPENAI_RULES)

    backend: Literal["openai_http"]
    api: Literal["chat", "completions"] = Field(
        "chat", description="chat: the server renders the prompt and reads the calls; completions: the kit does both."
    )
    tokenizer: str | None = Field(
        None, description="completions only: model reference whose tokenizer and template render the prompts."
    )
    tools_in_prompt: ToolsInPrompt | None = Field(
        None, description="completions only: how the prompt shows the tools; unset: full."
    )
    template_date: date | None = Field(
        None,
        description="completions only: date that a chat template writes which writes today's; unset: the one that is "
        "saved with the tokenizer, else 2024-07-26.",
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What the server calls the limit of an answer's length."
    )


BackendConfig = Annotated[
    LocalBackendConfig | OpenAIBackendConfig | ScriptedBackendConfig, Field(discriminator="backend")
]


def is_constrainable(backend: BackendConfig) -> bool:
    """Whether the answers of a backend can be constrained here."""
    return backend.backend == "local"


def why_not_constrainable(backend: BackendConfig) -> str:
    """The message on a backend whose answers can't be constrained here."""
    if backend.backend == "openai_http":
        return (
            "constrained works with backend local only: what a server's answers may be is set at the server "
            "(vLLM, for example, has structured outputs); remove it"
        )
    return f"constrained works with backend local only, not with {backend.backend}; remove it"


def with_default_backend(value: Any, key: str) -> Any:
    """The values of a section, in which a model reference under `key` stands for a local model."""
    if isinstance(value, dict) and isinstance(value.get(key), str):
        value = {**value, key: {"model": value[key]}}
    return with_default_tag(value, key, "backend", "local")
