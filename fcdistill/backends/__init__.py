"""Who answers a prompt: a local model, a server, or a script for tests."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fcdistill.backends.base import Backend, Completion, Request
from fcdistill.backends.scripted import ScriptedBackend
from fcdistill.config import BackendConfig, OpenAIBackendConfig, ScriptedBackendConfig

if TYPE_CHECKING:
    from fcdistill.backends.openai_client import Usage

__all__ = ["Backend", "Completion", "Request", "ScriptedBackend", "open_backend"]


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
        from fcdistill.backends.openai_http import OpenAIBackend

        return OpenAIBackend.from_config(config, report)
    from fcdistill.backends.local import LocalBackend

    return LocalBackend.from_config(config)
