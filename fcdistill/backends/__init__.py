"""Who answers a prompt: a local model, a server, or a script for tests."""

from fcdistill.backends.base import Backend, Completion, Request
from fcdistill.backends.scripted import ScriptedBackend
from fcdistill.config import BackendConfig, OpenAIBackendConfig, ScriptedBackendConfig

__all__ = ["Backend", "Completion", "Request", "ScriptedBackend", "open_backend"]


def open_backend(config: BackendConfig) -> Backend:
    """The backend that a config names; only a local model, and a tokenizer that renders prompts, import torch.

    Raises:
        FcdistillError: the model or the script can't be used.
    """
    if isinstance(config, ScriptedBackendConfig):
        return ScriptedBackend.from_config(config)
    if isinstance(config, OpenAIBackendConfig):
        from fcdistill.backends.openai_http import OpenAIBackend

        return OpenAIBackend.from_config(config)
    from fcdistill.backends.local import LocalBackend

    return LocalBackend.from_config(config)
