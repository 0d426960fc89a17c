"""A teacher that is asked over HTTP."""

from typing import Literal

from pydantic import Field

from fcdistill.config.backend_section import ServerConfig
from fcdistill.config.template_section import TemplateChoice

__all__ = ["ServedTeacherConfig"]


class ServedTeacherConfig(ServerConfig, TemplateChoice):
    """A teacher behind a server that gives the log-probabilities of a given text: its weights are nowhere else."""

    tokenizer: str = Field(
        description="Model reference of the served model, for its tokenizer and template alone; weights are not needed."
    )
    logprobs: Literal["prompt_logprobs", "echo"] = Field(
        "prompt_logprobs",
        description="How the completions API is asked about a given text. prompt_logprobs: as vLLM has it, with token "
        "ids, so that likeliest tokens can be kept; echo: as OpenAI's has it, for the text's own tokens alone.",
    )
