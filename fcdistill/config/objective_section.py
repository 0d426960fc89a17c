"""What a training minimises, and the teacher's signals on disk."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictFloat, StrictInt, field_validator

from fcdistill.config.section import ConfigModel, Rule

__all__ = [
    "CLASS_NAMES",
    "CacheConfig",
    "DIVERGENCES_WITH",
    "Divergence",
    "KdGate",
    "ObjectiveConfig",
    "TokenClass",
]

TokenClass = Literal["structure", "name", "arg_key", "arg_value", "text", "thought", "stop"]
CLASS_NAMES: tuple[TokenClass, ...] = TokenClass.__args__  # type: ignore[attr-defined]
KdGate = Literal["off", "agree", "prob"]
Divergence = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl", "tvd", "logistic_ranking", "hinge"]

DIVERGENCES_WITH: dict[str, tuple[Divergence, ...]] = {
    "jsd_beta": ("jsd",),
    "skew_alpha": ("skew_kl",),
    "ranking_top_k": ("logistic_ranking", "hinge"),
}
"""Parameters of the logit term that some divergences alone have."""


def _belongs_to(name: str, divergences: tuple[Divergence, ...]) -> Rule["ObjectiveConfig"]:
    def is_foreign(objective: "ObjectiveConfig") -> bool:
        # A parameter at its default does no harm, and a resolved configuration, which holds all, can be read again.
        is_set = getattr(objective, name) != type(objective).model_fields[name].default
        return is_set and objective.kd_divergence not in divergences

    return Rule(
        is_foreign,
        lambda objective: (
            f"{name} {getattr(objective, name)} is set but kd_divergence is {objective.kd_divergence}: remove it, "
            f"or set kd_divergence to {' or '.join(divergences)}"
        ),
    )


def _pairs_with_embeddings(objective: "ObjectiveConfig") -> list[list[int]]:
    pairs = () if objective.layer_map == "proportional" else objective.layer_map
    return [list(pair) for pair in pairs if min(pair) < 1]


_OBJECTIVE_RULES: tuple[Rule["ObjectiveConfig"], ...] = (
    Rule(
        lambda objective: objective.ce_weight == objective.kd_weight == objective.hidden_weight == 0,
        "all weights are 0: at least one of ce_weight, kd_weight, hidden_weight must be positive",
    ),
    *(_belongs_to(name, divergences) for name, divergences in DIVERGENCES_WITH.items()),
    Rule(
        lambda objective: not objective.layer_map,
        "layer_map is empty: give at least one pair, or 'proportional'",
    ),
    Rule(
        lambda objective: bool(_pairs_with_embeddings(objective)),
        lambda objective: (
            f"layer_map pair {_pairs_with_embeddings(objective)[0]}: indices start at 1, since 0 is the embeddings"
        ),
    ),
)


class ObjectiveConfig(ConfigModel):
    """loss = ce_weight * CE + kd_weight * T^2 * D(teacher, student; T) + hidden_weight * H."""

    rules: ClassVar = _OBJECTIVE_RULES

    ce_weight: StrictFloat = Field(1.0, ge=0, description="Weight of cross-entropy on the verified tokens.")
    kd_weight: StrictFloat = Field(0.0, ge=0, description="Weight of the divergence from the teacher's distribution.")
    kd_divergence: Divergence = Field(
        "forward_kl",
        description="How the student's distribution is compared with the teacher's; reverse_kl needs a "
        "signal that is not cached, a teacher of another tokenizer forward_kl.",
    )
    jsd_beta: StrictFloat = Field(0.5, gt=0, lt=1, description="jsd: the teacher's share of the mixture.")
    skew_alpha: StrictFloat = Field(
        0.1, ge=0, lt=1, description="skew_kl: the teacher's share of the mixture; with 0 it is forward_kl."
    )
    ranking_top_k: StrictInt = Field(
        32,
        ge=2,
        description="logistic_ranking, hinge: the teacher's most probable tokens, whose order is compared; "
        "of a cache at most its top_k.",
    )
    kd_temperature: StrictFloat = Field(1.0, gt=0, description="Softens teacher and student alike.")
    kd_gate: KdGate = Field(
        "off",
        description="What a teacher's soft label counts where another token than the verified one is its likeliest: "
        "all (off), nothing (agree), or the probability that it gives the verified one (prob).",
    )
    aligned_top_k: StrictInt = Field(
        64,
        ge=1,
        description="With a teacher of another tokenizer: its likeliest strings that are compared one by one, the rest "
        "together.",
    )
    hidden_weight: StrictFloat = Field(0.0, ge=0, description="Weight of the hidden-state term.")
    hidden_loss: Literal["cosine", "mse"] = Field("cosine", description="Distance of aligned hidden states.")
    hidden_positions: Literal["completion", "request+completion"] = Field(
        "completion", description="Tokens whose hidden states are aligned."
    )
    layer_map: Literal["proportional"] | tuple[tuple[StrictInt, StrictInt], ...] = Field(
        "proportional",
        description="Pairs (student_layer, teacher_layer) as HF hidden_states indices; 0, the embeddings, is refused.",
    )
    num_layer_pairs: StrictInt = Field(
        4, ge=1, description="Pairs of a proportional map; the last layers are always one."
    )
    class_weights: dict[TokenClass, Annotated[StrictFloat, Field(ge=0)]] = Field(
        default_factory=dict, description="Weight per token class in CE and KD; 1 where not given."
    )

    @field_validator("kd_gate", mode="before")
    @classmethod
    def _yaml_reads_off_as_false(cls, value: object) -> object:
        return "off" if value is False else value

    @property
    def needs_teacher(self) -> bool:
        """Whether a term follows a teacher."""
        return self.kd_weight > 0 or self.hidden_weight > 0


class CacheConfig(ConfigModel):
    """The teacher's signals on disk: written once, read by any number of trainings."""

    dir: Path = Field(description="Directory of the cache.")
    top_k: StrictInt = Field(
        32,
        ge=0,
        description="Likeliest tokens that are kept per position; the rest is one tail. With 0 it is the completion's "
        "own token, whether likely or not.",
    )
    temperatures: tuple[Annotated[StrictFloat, Field(gt=0)], ...] = Field(
        (1.0, 2.0, 4.0), min_length=1, description="Values of kd_temperature for which the cache can serve."
    )
    hidden_layers: tuple[Annotated[StrictInt, Field(ge=1)], ...] | None = Field(
        None, description="Teacher layers whose hidden states are kept; unset: those that the objective aligns."
    )
    examples_per_pack: StrictInt = Field(
        32, ge=1, description="Traces per forward pass of a teacher, which needs no memory for gradients."
    )
    shard_traces: StrictInt = Field(256, ge=1, description="Traces per file of a new cache.")
