"""Who answers a prompt: a local model, a server, or a script for tests."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fcdistill.backends.base import Backend, Completion, PromptFormat, Request
from fcdistill.backends.scripted import ScriptedBackend
from fcdistill.config import BackendConfig, LocalBackendConfig, OpenAIBackendConfig, ScriptedBackendConfig

if TYPE_CHECKING:
    from fcdistill.backends.openai.client import Usage

__all__ = ["Backend", "Completion", "PromptFormat", "Request", "ScriptedBackend", "open_backend", "prompt_format"]


def open_backend(config: BackendConfig, report: "Callable[[Usage], None] | None" = None) -> Backend:
    """The backend that a config names; only a local model, and a tokenizer that renders prompts, import torch.

    Args:
        config: who answers.
        report: is told what a server was asked and what that cost, when its backend is closed.

    Raises:
        FcdistillError: the model or the script can't be used.
    """
    if isinstance(config, ScriptedBackendConfig):
        return ScriptedBackend.from_config(config)
    if isinstance(config, OpenAIBackendConfig):
        from fcdistill.backends.openai.http_backend import OpenAIBackend

        return OpenAIBackend.from_config(config, report)
    from fcdistill.backends.local.local_backend import LocalBackend

    return LocalBackend.from_config(config)


def prompt_format(config: BackendConfig) -> PromptFormat | None:
    """How the backend of a config will render prompts, found out without weights; None where that is not its business.

    Raises:
        FcdistillError: the model, or its tokenizer, can't be used.
    """
    if isinstance(config, ScriptedBackendConfig) or (isinstance(config, OpenAIBackendConfig) and not config.tokenizer):
        return None
    from fcdistill.models.fetching import without_weights
    from fcdistill.models.loading import load_tokenizer
    from fcdistill.models.shapes import card_of
    from fcdistill.prompts.rendering import call_format, template_sha256

    reference = config.tokenizer if isinstance(config, OpenAIBackendConfig) else config.model
    assert reference is not None
    small = without_weights(reference)
    card = card_of(small) if isinstance(config, LocalBackendConfig) else None
    style = config.tools_in_prompt or (card.tools_in_prompt if card else "full")
    tokenizer = load_tokenizer(small, config, template_date=config.template_date)
    dialect = (card.dialect if card else None) or call_format(tokenizer).dialect
    return PromptFormat(template_sha256(tokenizer), style, dialect)
