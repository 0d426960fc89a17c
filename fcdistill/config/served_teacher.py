"""A teacher that is asked over HTTP, and what can be learned from such a one."""

from typing import Literal

from pydantic import Field

from fcdistill.config.backend_section import ServerConfig
from fcdistill.config.objective_section import CacheConfig, ObjectiveConfig

__all__ = ["ServedTeacherConfig"]


class ServedTeacherConfig(ServerConfig):
    """A teacher behind a server that gives the log-probabilities of a given text: its weights are nowhere else."""

    tokenizer: str = Field(
        description="Model reference of the served model, for its tokenizer and template alone; weights are not needed."
    )
    logprobs: Literal["prompt_logprobs", "echo"] = Field(
        "prompt_logprobs",
        description="How the completions API is asked about a given text. prompt_logprobs: as vLLM has it, with token "
        "ids, so that likeliest tokens can be kept; echo: as OpenAI's has it, for the text's own tokens alone.",
    )

    def require_teachable(self, objective: ObjectiveConfig, cache: CacheConfig | None) -> None:
        """Raise `ValueError` where an objective wants, or a cache is to hold, what no server gives."""
        if objective.hidden_weight or (cache is not None and cache.hidden_layers):
            raise ValueError(
                "objective.hidden_weight or cache.hidden_layers is set, but a server gives no hidden states: set them "
                "to 0 and null, or name a teacher that is loaded here"
            )
        if objective.kd_weight and objective.kd_temperature != 1:
            raise ValueError(
                f"objective.kd_temperature is {objective.kd_temperature}, but a server gives log-probabilities at "
                "temperature 1, from which those at another can't be had without the rest of the vocabulary: set it "
                "to 1, or name a teacher that is loaded here"
            )
        # The default does no harm, and a resolved configuration, which holds it, can be read again.
        if cache is not None and cache.temperatures not in ((1.0,), CacheConfig.model_fields["temperatures"].default):
            raise ValueError(
                f"cache.temperatures are {', '.join(map(str, cache.temperatures))}, but a server's answers hold for "
                "temperature 1 alone: leave them away"
            )
        if cache is not None and cache.top_k and self.logprobs == "echo":
            raise ValueError(
                f"cache.top_k is {cache.top_k}, but served_teacher.logprobs is echo, which names likely tokens by "
                "texts that several tokens may share: set cache.top_k to 0, or logprobs to prompt_logprobs"
            )
