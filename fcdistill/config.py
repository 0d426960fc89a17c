"""Configuration: one YAML file with a section per stage, checked before any work starts.

The sections are `generate`, `adapt`, `train` and `eval`; each stands for itself (YAML anchors serve to share values).
Relative paths start at the current directory. Every field has a description, which is also its documentation. Nothing
here opens the files that are named.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, overload

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from fcdistill.errors import ConfigError
from fcdistill.storage import storage_errors

__all__ = [
    "AdaptConfig",
    "AugmentationConfig",
    "BackendConfig",
    "CLASS_NAMES",
    "CacheConfig",
    "DecodeSettings",
    "Divergence",
    "Dtype",
    "EvalConfig",
    "FromTeacherLayers",
    "FullTuning",
    "GenerateConfig",
    "KdGate",
    "LocalBackendConfig",
    "LoraTuning",
    "MonitorConfig",
    "ObjectiveConfig",
    "OnPolicyConfig",
    "Pretrained",
    "Quantization",
    "Reporter",
    "ScriptedBackendConfig",
    "Signal",
    "TokenClass",
    "ToolsInPrompt",
    "TrainConfig",
    "load_config",
    "parse_config",
]

ToolsInPrompt = Literal["full", "compact", "none"]
Dtype = Literal["float32", "bfloat16", "float16"]
TokenClass = Literal["structure", "name", "arg_key", "arg_value", "text", "stop"]
CLASS_NAMES: tuple[TokenClass, ...] = TokenClass.__args__  # type: ignore[attr-defined]
Signal = Literal["online", "cached", "self"]
KdGate = Literal["off", "agree", "prob"]
Quantization = Literal["none", "8bit", "4bit"]
Reporter = Literal["tensorboard", "wandb", "trackio"]
Divergence = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl", "tvd", "logistic_ranking", "hinge"]

_DIVERGENCES_WITH: dict[str, tuple[Divergence, ...]] = {
    "jsd_beta": ("jsd",),
    "skew_alpha": ("skew_kl",),
    "ranking_top_k": ("logistic_ranking", "hinge"),
}
"""Parameters of the logit term that some divergences alone have."""

_SCORES_SAMPLES: tuple[Signal, ...] = ("online", "self")
"""Signals with which a teacher can say something of answers that did not exist before the step."""


class _Config(BaseModel):
    # Numbers and switches are strict: YAML's `yes` must not become 1, nor "10" a number.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class DecodeSettings(_Config):
    """How answers are decoded."""

    max_new_tokens: StrictInt = Field(256, ge=1, description="Longest answer, in tokens.")
    sampling_temperature: StrictFloat = Field(0.0, ge=0, description="0 decodes greedily.")
    top_p: StrictFloat = Field(1.0, gt=0, le=1, description="Nucleus sampling mass.")
    seed: StrictInt = Field(0, description="Seed of sampled decoding.")


class LocalBackendConfig(_Config):
    """A model that runs here, through transformers."""

    backend: Literal["local"] = "local"
    model: str = Field(description="Hub id, local directory, .gguf file or a name from `fcdistill models list`.")
    dtype: Dtype = Field("bfloat16", description="Precision of the weights.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    batch_size: StrictInt = Field(32, ge=1, description="Requests that are decoded together.")
    tools_in_prompt: ToolsInPrompt | None = Field(
        None, description="How the prompt shows the tools; unset: as the model was trained, else full."
    )


class ScriptedBackendConfig(_Config):
    """Answers read from a file: for tests and rehearsals, without a model."""

    backend: Literal["scripted"]
    answers: Path = Field(description="JSONL of {request, text}: the last user message and the answer to it.")


BackendConfig = Annotated[LocalBackendConfig | ScriptedBackendConfig, Field(discriminator="backend")]


class GenerateConfig(_Config):
    """`fcdistill generate`: a teacher writes traces, verified against the schemas."""

    tools: Path = Field(description="Tool catalogue: OpenAI tools JSON, MCP tools/list JSON.")
    out: Path = Field(description="Output directory.")
    teacher: BackendConfig
    seeds: Path | None = Field(None, description="JSONL of unlabelled user requests for the request-first road.")
    values: Path | None = Field(None, description="JSON of realistic values and phrases per argument.")
    examples: Path | None = Field(None, description="JSONL of WorkedExample records that show the teacher the domain.")
    decontaminate: tuple[Path, ...] = Field((), description="Eval case files whose requests must not be generated.")
    seed: StrictInt = Field(0, description="Seed of the plan and of all sampling.")
    num_call_first: StrictInt = Field(400, ge=0, description="Planned call-first traces.")
    num_request_first: StrictInt | None = Field(None, ge=0, description="Seeds to answer; unset: all of them.")
    num_varied: StrictInt = Field(
        0, ge=0, description="Requests that repeat the wording of kept ones with other values."
    )
    num_joined: StrictInt = Field(0, ge=0, description="Requests for several calls, joined from kept requests for one.")
    no_call_fraction: StrictFloat = Field(
        0.15, ge=0, le=0.5, description="Share of call-first plans that call no tool."
    )
    sampling_temperature: StrictFloat = Field(0.8, ge=0, description="Temperature at which requests are written.")
    attempts: StrictInt = Field(2, ge=1, description="Tries per planned trace before it is given up as a reject.")
    no_call_answer: str = Field(
        "I can't help with that: none of my tools does it.",
        min_length=1,
        description="The answer that traces give to requests which no tool serves.",
    )
    current_time: datetime = Field(
        datetime(2027, 5, 2, 9, 15, tzinfo=UTC), description="The now of sampled dates and relative times."
    )
    max_new_tokens: StrictInt = Field(160, ge=1, description="Longest answer of the teacher, in tokens.")

    @model_validator(mode="before")
    @classmethod
    def _default_backend(cls, value: Any) -> Any:
        return _with_default_backend(value, "teacher")


class LoraTuning(_Config):
    """Low-rank adapters through peft; the base weights stay frozen."""

    method: Literal["lora"] = "lora"
    lora_rank: StrictInt = Field(32, ge=1, description="Rank of the adapters.")
    lora_alpha: StrictFloat = Field(64, gt=0, description="Scale of the adapters, over the rank.")
    lora_dropout: StrictFloat = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="Modules that get an adapter."
    )
    quantization: Quantization = Field(
        "none",
        description="The frozen base weights while training; 4bit is QLoRA. Needs CUDA and the extra [quantized].",
    )


class FullTuning(_Config):
    """All weights are trained."""

    method: Literal["full"]


class Pretrained(_Config):
    """A student that exists already."""

    init: Literal["pretrained"] = "pretrained"
    model: str = Field(description="Hub id, local directory, .gguf file or a name from `fcdistill models list`.")


class FromTeacherLayers(_Config):
    """A student cut from a model: some of its layers, all else shared."""

    init: Literal["from_teacher_layers"]
    model: str = Field(description="The model that is cut, usually the teacher.")
    keep_every: StrictInt | None = Field(
        None, ge=2, description="Keep every k-th layer, always with the first and the last."
    )
    keep_layers: tuple[StrictInt, ...] | None = Field(None, description="Keep exactly these layers, counted from 0.")

    @model_validator(mode="after")
    def _one_rule(self) -> "FromTeacherLayers":
        if (self.keep_every is None) == (self.keep_layers is None):
            raise ValueError("give exactly one of keep_every and keep_layers")
        return self


class ObjectiveConfig(_Config):
    """loss = ce_weight * CE + kd_weight * T^2 * D(teacher, student; T) + hidden_weight * H."""

    ce_weight: StrictFloat = Field(1.0, ge=0, description="Weight of cross-entropy on the verified tokens.")
    kd_weight: StrictFloat = Field(0.0, ge=0, description="Weight of the divergence from the teacher's distribution.")
    kd_divergence: Divergence = Field(
        "forward_kl",
        description="How the student's distribution is compared with the teacher's; reverse_kl needs signal online, a "
        "teacher of another tokenizer forward_kl.",
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

    @model_validator(mode="after")
    def _consistent(self) -> "ObjectiveConfig":
        if self.ce_weight == self.kd_weight == self.hidden_weight == 0:
            raise ValueError("all weights are 0: at least one of ce_weight, kd_weight, hidden_weight must be positive")
        for name, divergences in _DIVERGENCES_WITH.items():
            # A parameter at its default does no harm, and a resolved configuration, which holds all, can be read again.
            is_set = getattr(self, name) != type(self).model_fields[name].default
            if is_set and self.kd_divergence not in divergences:
                raise ValueError(
                    f"{name} {getattr(self, name)} is set but kd_divergence is {self.kd_divergence}: remove it, "
                    f"or set kd_divergence to {' or '.join(divergences)}"
                )
        if self.layer_map != "proportional":
            if not self.layer_map:
                raise ValueError("layer_map is empty: give at least one pair, or 'proportional'")
            for pair in self.layer_map:
                if min(pair) < 1:
                    raise ValueError(f"layer_map pair {list(pair)}: indices start at 1, since 0 is the embeddings")
        return self

    @property
    def needs_teacher(self) -> bool:
        """Whether a term follows a teacher."""
        return self.kd_weight > 0 or self.hidden_weight > 0


class CacheConfig(_Config):
    """The teacher's signals on disk: written once, read by any number of trainings."""

    dir: Path = Field(description="Directory of the cache.")
    top_k: StrictInt = Field(32, ge=1, description="Likeliest tokens that are kept per position; the rest is one tail.")
    temperatures: tuple[Annotated[StrictFloat, Field(gt=0)], ...] = Field(
        (1.0, 2.0, 4.0), min_length=1, description="Values of kd_temperature for which the cache can serve."
    )
    hidden_layers: tuple[Annotated[StrictInt, Field(ge=1)], ...] | None = Field(
        None, description="Teacher layers whose hidden states are kept; unset: those that the objective aligns."
    )
    shard_traces: StrictInt = Field(256, ge=1, description="Traces per file of a new cache.")


class AugmentationConfig(_Config):
    """Tools that look different in every pack of examples, so that the student reads them instead of remembering."""

    shuffle_tools: StrictBool = Field(False, description="Draw the order of the tools in the prompt.")
    distractor_catalogue: Path | None = Field(
        None, description="Tools that no request asks for, of another domain: OpenAI tools JSON, MCP tools/list JSON."
    )
    num_distractors: StrictInt = Field(
        0, ge=0, description="Mix up to so many of them into the tools; how many is drawn, from 0 on."
    )
    rename_probability: StrictFloat = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that functions, and in a full prompt arguments, get meaningless names; those without "
        "a description keep theirs.",
    )

    @model_validator(mode="after")
    def _distractors_have_a_source(self) -> "AugmentationConfig":
        if self.num_distractors and self.distractor_catalogue is None:
            raise ValueError(
                f"num_distractors is {self.num_distractors} but distractor_catalogue is not given: name a catalogue"
            )
        if self.distractor_catalogue is not None and not self.num_distractors:
            raise ValueError("distractor_catalogue is given but num_distractors is 0: say how many tools are mixed in")
        return self

    @property
    def is_on(self) -> bool:
        """Whether anything is drawn."""
        return self.shuffle_tools or self.num_distractors > 0 or self.rename_probability > 0


class MonitorConfig(_Config):
    """Held-out requests that the student answers while it is trained."""

    steps: StrictInt | None = Field(
        None, ge=1, description="Optimizer steps between measurements of call accuracy; unset: none."
    )
    num_examples: StrictInt = Field(64, ge=1, description="Held-out traces that are asked, the first in the file.")
    max_new_tokens: StrictInt = Field(256, ge=1, description="Longest answer, in tokens.")
    batch_size: StrictInt = Field(32, ge=1, description="Requests that are decoded together.")
    patience: StrictInt | None = Field(
        None, ge=1, description="Measurements without a rise after which training stops; unset: it goes on."
    )
    keep_best: StrictBool | None = Field(
        None,
        description="Save the student as it was at its highest call accuracy, not as it ends; unset: where patience is "
        "set.",
    )

    @property
    def enabled(self) -> bool:
        """Whether call accuracy is measured."""
        return self.steps is not None

    @property
    def keeps_best(self) -> bool:
        """Whether the student of the highest call accuracy is saved."""
        return self.patience is not None if self.keep_best is None else self.keep_best

    @model_validator(mode="after")
    def _consistent(self) -> "MonitorConfig":
        for name in ("patience", "keep_best"):
            if getattr(self, name) and not self.enabled:
                raise ValueError(f"{name} is set but steps is not: say how often call accuracy is measured")
        return self


class OnPolicyConfig(_Config):
    """How the student answers for itself, where on_policy_fraction is set."""

    sampling_temperature: StrictFloat = Field(
        1.0, ge=0, description="Temperature at which the student samples its answers; 0 decodes greedily."
    )
    top_p: StrictFloat = Field(1.0, gt=0, le=1, description="Nucleus sampling mass.")
    max_new_tokens: StrictInt = Field(
        256, ge=1, description="Longest answer, in tokens; one that is cut here is learned from without an end."
    )


class _TrainingConfig(_Config):
    """What every training has, whoever learns."""

    traces: Path = Field(description="traces.jsonl of `generate`, or any file of Trace records.")
    out: Path = Field(description="Output directory.")
    epochs: StrictFloat = Field(3.0, gt=0, description="Passes over the traces.")
    max_steps: StrictInt | None = Field(None, ge=1, description="Stop after so many optimizer steps.")
    examples_per_step: StrictInt = Field(16, ge=1, description="Traces per optimizer step.")
    examples_per_pack: StrictInt = Field(16, ge=1, description="Traces per forward pass; divides examples_per_step.")
    pack_tokens: StrictInt = Field(4096, ge=64, description="Longest packed row; what does not fit opens another row.")
    max_example_tokens: StrictInt = Field(4096, ge=16, description="Longer traces are left out, counted and named.")
    learning_rate: StrictFloat = Field(1e-3, gt=0)
    learning_rate_schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: StrictFloat = Field(
        0.05, ge=0, lt=1, description="Share of the steps with a rising learning rate."
    )
    weight_decay: StrictFloat = Field(0.0, ge=0)
    max_grad_norm: StrictFloat = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    held_out_fraction: StrictFloat = Field(
        0.0, ge=0, lt=1, description="Share of split groups kept for held-out figures."
    )
    monitor: MonitorConfig = MonitorConfig()
    dtype: Dtype = Field(
        "bfloat16", description="Precision of products and of frozen weights; trained weights are kept in float32."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    compile_loss: StrictBool = Field(
        False, description="Compile the loss over rows of logits: less memory and time, but the first steps wait."
    )
    gradient_checkpointing: StrictBool = Field(False, description="Less memory, a third more time.")
    save_steps: StrictInt = Field(50, ge=1, description="Optimizer steps between checkpoints.")
    log_steps: StrictInt = Field(5, ge=1, description="Optimizer steps between lines of metrics.jsonl.")
    report_to: tuple[Reporter, ...] = Field(
        (), description="Experiment trackers that receive the same lines; each needs its package of the same name."
    )
    run_name: str | None = Field(
        None, min_length=1, description="What trackers call the run; unset: the output directory's name."
    )
    merge: StrictBool = Field(True, description="Also write merged weights beside a LoRA adapter.")
    seed: StrictInt = 0

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        if self.examples_per_step % self.examples_per_pack:
            raise ValueError(
                f"examples_per_pack {self.examples_per_pack} does not divide examples_per_step {self.examples_per_step}"
            )
        if self.monitor.enabled and not self.held_out_fraction:
            raise ValueError("monitor.steps is set but held_out_fraction is 0: hold some traces out, for example 0.1")
        return self


class TrainConfig(_TrainingConfig):
    """`fcdistill train`: traces and a teacher's signal become a student."""

    student: Annotated[Pretrained | FromTeacherLayers, Field(discriminator="init")]
    tuning: Annotated[LoraTuning | FullTuning, Field(discriminator="method")] = LoraTuning()
    teacher: str | None = Field(
        None, description="Model reference; needed where kd_weight or hidden_weight is set, unless signal is self."
    )
    teacher_device: str | None = Field(
        None,
        description="cpu, cuda:N or mps; auto spreads the teacher over the GPUs that no student uses; unset: the "
        "student's device.",
    )
    teacher_quantization: Quantization = Field(
        "none", description="The teacher's weights; 8bit and 4bit need CUDA and the extra [quantized]."
    )
    teacher_examples: Path | None = Field(
        None,
        description="JSONL of WorkedExample records that the teacher alone reads, as earlier turns: it sees how the "
        "student writes its calls.",
    )
    teacher_report_examples: StrictInt = Field(
        64, ge=0, description="Traces on which the teacher is measured before training, into teacher.json; 0: none."
    )
    objective: ObjectiveConfig = ObjectiveConfig()
    signal: Signal = Field(
        "online",
        description="Whether the teacher runs at every step, or once, into the cache. With self it is the student "
        "without its adapter, which reads the tools in full.",
    )
    cache: CacheConfig | None = Field(
        None, description="What `fcdistill cache` writes; needed where signal is cached, and made then where it is not."
    )
    on_policy_fraction: StrictFloat = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the optimizer steps, drawn from the seed, that train on what the student answers to the "
        "requests, scored by the teacher, instead of on the traces' answers; needs signal online or self.",
    )
    on_policy: OnPolicyConfig = Field(OnPolicyConfig(), description="How the student answers on these steps.")
    tools_in_prompt: ToolsInPrompt = Field("full", description="How the student's prompt shows the tools.")
    augmentation: AugmentationConfig = Field(
        AugmentationConfig(), description="What is drawn anew in the training examples of each pack and epoch."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_unions(cls, value: Any) -> Any:
        value = _with_default_tag(value, "student", "init", "pretrained")
        return _with_default_tag(value, "tuning", "method", "lora")

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if self.signal == "self":
            if self.teacher is not None:
                raise ValueError(
                    f"signal is self, whose teacher is the student without its adapter, but teacher is {self.teacher}: "
                    "remove teacher, or set signal to online or cached"
                )
            if not isinstance(self.tuning, LoraTuning):
                raise ValueError(
                    "signal is self, but tuning.method is full: the teacher is what an adapter leaves as it was; set "
                    "tuning.method to lora, or name the same model as teacher and set signal to online"
                )
        elif self.objective.needs_teacher and self.teacher is None:
            raise ValueError("objective.kd_weight or objective.hidden_weight is set but teacher is not: name one")
        if self.teacher is None:
            for name in ("teacher_device", "teacher_quantization"):
                if getattr(self, name) not in (None, "none"):
                    raise ValueError(
                        f"{name} is {getattr(self, name)} but teacher is not given: name one, or remove it"
                    )
        if isinstance(self.student, FromTeacherLayers) and getattr(self.tuning, "quantization", "none") != "none":
            raise ValueError(
                f"tuning.quantization is {getattr(self.tuning, 'quantization', 'none')}, but student.init is "
                "from_teacher_layers: layers are cut out of weights as they are; set tuning.quantization to none"
            )
        if self.on_policy_fraction and not self.objective.needs_teacher:
            raise ValueError(
                f"on_policy_fraction is {self.on_policy_fraction}, but no term of the objective follows a teacher, who "
                "alone can score what the student samples: set objective.kd_weight, or on_policy_fraction to 0"
            )
        if self.on_policy_fraction and self.signal not in _SCORES_SAMPLES:
            raise ValueError(
                f"on_policy_fraction is {self.on_policy_fraction}, but signal is {self.signal}, which knows nothing of "
                f"answers that the student has yet to sample: set signal to {' or '.join(_SCORES_SAMPLES)}, or "
                "on_policy_fraction to 0"
            )
        if self.signal == "cached" and self.objective.needs_teacher:
            if self.cache is None:
                raise ValueError("signal is cached but cache is not given: name at least its dir")
            if self.objective.kd_weight and self.objective.kd_divergence == "reverse_kl":
                raise ValueError(
                    "objective.kd_divergence is reverse_kl, but signal is cached: it needs the teacher's whole "
                    "distribution, and a cache keeps its top_k tokens; set signal to online, or choose another "
                    "kd_divergence, for example forward_kl"
                )
            ranks = self.objective.kd_divergence in _DIVERGENCES_WITH["ranking_top_k"]
            if self.objective.kd_weight and ranks and self.cache.top_k < 2:
                raise ValueError(
                    f"cache.top_k is {self.cache.top_k}, but objective.kd_divergence is "
                    f"{self.objective.kd_divergence}, which compares the order of at least 2 tokens: raise cache.top_k "
                    "for a new cache, or choose another kd_divergence, for example forward_kl"
                )
            if self.objective.kd_weight and self.objective.kd_temperature not in self.cache.temperatures:
                raise ValueError(
                    f"objective.kd_temperature is {self.objective.kd_temperature}, but cache.temperatures are "
                    f"{', '.join(map(str, self.cache.temperatures))}: choose one of them, or add it for a new cache"
                )
        return self

    @model_validator(mode="after")
    def _augmentable(self) -> "TrainConfig":
        if self.augmentation.is_on and self.tools_in_prompt == "none":
            raise ValueError(
                "augmentation changes the tools that a prompt shows, but tools_in_prompt is none: set it to full or "
                "compact, or remove augmentation"
            )
        if self.augmentation.is_on and self.signal == "cached" and self.objective.needs_teacher:
            raise ValueError(
                "augmentation draws other texts in every epoch, but signal is cached and a cache is of fixed texts: "
                "set signal to online, or remove augmentation"
            )
        if self.augmentation.rename_probability and self.on_policy_fraction:
            raise ValueError(
                "augmentation.rename_probability and on_policy_fraction are both set, but what the student samples is "
                "validated against the tools of the traces: set one of them to 0"
            )
        return self


class AdaptConfig(_TrainingConfig):
    """`fcdistill adapt`: a teacher learns the verified traces before it teaches them."""

    teacher: str = Field(description="Model reference of the teacher, which reads the tools in full.")
    tuning: LoraTuning = LoraTuning()

    def training(self) -> TrainConfig:
        """The training that this is: cross-entropy, with the teacher in the student's place."""
        shared = {name: getattr(self, name) for name in _TrainingConfig.model_fields}
        return TrainConfig(student=Pretrained(model=self.teacher), tuning=self.tuning, **shared)


class EvalConfig(_Config):
    """`fcdistill eval`: predictions on gold cases become a report."""

    cases: Path = Field(description="cases.jsonl of EvalCase records.")
    tools: Path | None = Field(None, description="The suite's catalogue; not needed where every case holds its tools.")
    out: Path = Field(description="Output directory.")
    model: BackendConfig | None = Field(None, description="Who answers; alternatively give predictions.")
    predictions: Path | None = Field(None, description="Saved predictions: JSONL of {id, text} or {id, tool_calls}.")
    decode: DecodeSettings = DecodeSettings()
    default_equals_omitted: StrictBool = Field(
        False, description="An optional argument that equals its schema default counts as left out."
    )
    limit: StrictInt | None = Field(None, ge=1, description="Only the first so many cases.")

    @model_validator(mode="before")
    @classmethod
    def _default_backend(cls, value: Any) -> Any:
        return _with_default_backend(value, "model")

    @model_validator(mode="after")
    def _one_source(self) -> "EvalConfig":
        if (self.model is None) == (self.predictions is None):
            raise ValueError("give exactly one of model and predictions")
        return self


Section = Literal["adapt", "eval", "generate", "train"]
StageConfig = AdaptConfig | EvalConfig | GenerateConfig | TrainConfig

_SECTIONS: dict[Section, type[StageConfig]] = {
    "adapt": AdaptConfig,
    "eval": EvalConfig,
    "generate": GenerateConfig,
    "train": TrainConfig,
}


@overload
def load_config(path: Path, section: Literal["adapt"], overrides: Iterable[str] = ()) -> AdaptConfig: ...
@overload
def load_config(path: Path, section: Literal["eval"], overrides: Iterable[str] = ()) -> EvalConfig: ...
@overload
def load_config(path: Path, section: Literal["generate"], overrides: Iterable[str] = ()) -> GenerateConfig: ...
@overload
def load_config(path: Path, section: Literal["train"], overrides: Iterable[str] = ()) -> TrainConfig: ...
def load_config(path: Path, section: Section, overrides: Iterable[str] = ()) -> StageConfig:
    """The checked configuration of one stage.

    Args:
        path: the YAML file.
        section: `generate`, `adapt`, `train` or `eval`.
        overrides: `field=value` or `field.subfield=value`, the value in YAML.

    Raises:
        ConfigError: the file or a field is unusable; the message names the field, what was found and what is allowed.
    """
    document = _read_yaml(path)
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError(
            f"config {path} is not a mapping", required=f"sections {', '.join(_SECTIONS)}", fix="see README.md"
        )
    for key in document:
        if key not in _SECTIONS and not key.startswith("x-"):
            raise ConfigError(
                f"config {path}: unknown section {key!r}",
                required=f"sections {', '.join(_SECTIONS)} (and x-... for YAML anchors)",
                fix=_did_you_mean(key, _SECTIONS) or "remove it",
            )
    if section not in document:
        raise ConfigError(
            f"config {path} has no section {section!r}", required=f"a section {section!r}", fix="add it; see README.md"
        )
    values = document[section]
    for override in overrides:
        values = _override(values, override)
    return parse_config(values, section, f"config {path}")


@overload
def parse_config(values: Any, section: Literal["adapt"], origin: str) -> AdaptConfig: ...
@overload
def parse_config(values: Any, section: Literal["eval"], origin: str) -> EvalConfig: ...
@overload
def parse_config(values: Any, section: Literal["generate"], origin: str) -> GenerateConfig: ...
@overload
def parse_config(values: Any, section: Literal["train"], origin: str) -> TrainConfig: ...
def parse_config(values: Any, section: Section, origin: str) -> StageConfig:
    """Check the values of one section. Raises `ConfigError`; `origin` says in its message where they come from."""
    config_type = _SECTIONS[section]
    try:
        return config_type.model_validate(values)
    except ValidationError as error:
        lines = [_explain(item, values, config_type) for item in error.errors(include_url=False)]
        raise ConfigError(
            f"{origin}, section {section}:\n  " + "\n  ".join(dict.fromkeys(lines)),
            required="the fields and values that `fcdistill schemas config` lists",
            fix="correct the named fields",
        ) from None


def _with_default_tag(value: Any, key: str, tag: str, default: str) -> Any:
    if isinstance(value, dict) and isinstance(value.get(key), dict) and tag not in value[key]:
        return {**value, key: {tag: default, **value[key]}}
    return value


def _with_default_backend(value: Any, key: str) -> Any:
    if isinstance(value, dict) and isinstance(value.get(key), str):
        value = {**value, key: {"model": value[key]}}
    return _with_default_tag(value, key, "backend", "local")


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but a key may occur only once in a mapping, and 1e-3 is a number."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        "while reading a mapping", node.start_mark, f"key {key.value!r} occurs twice", key.start_mark
                    )
                seen.add(key.value)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(
            f"config {path} does not exist or is no file",
            required=f"a YAML file (relative paths start at the current directory, here {Path.cwd()})",
            fix="check the path",
        )
    with storage_errors(path, "read"):
        raw = path.read_bytes()
    try:
        return _parse_yaml(raw.decode("utf-8"), str(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"config {path} is not valid YAML: {error}", required="YAML, UTF-8", fix="correct the file"
        ) from None


def _parse_yaml(text: str, name: str) -> Any:
    loader = _Loader(text)
    loader.name = name  # for the messages of errors
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _override(values: Any, override: str) -> Any:
    name, separator, text = override.partition("=")
    if not separator or not name:
        raise ConfigError(
            f"--set {override!r} names no field and value", required="--set field=value", fix="for example --set seed=1"
        )
    try:
        value = _parse_yaml(text, "--set")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {override!r}: {error}", required="a value in YAML", fix="quote it") from None
    return _replaced(values, name.split("."), value, override)


def _replaced(values: Any, path: list[str], value: Any, override: str) -> Any:
    if not path:
        return value
    if values is not None and not isinstance(values, dict):
        raise ConfigError(
            f"--set {override!r}: {path[0]!r} lies below {values!r}, which is no mapping",
            required="fields below a mapping",
            fix="set the whole mapping, in YAML: --set 'field={subfield: value, ...}'",
        )
    inner = values or {}
    return {**inner, path[0]: _replaced(inner.get(path[0]), path[1:], value, override)}


def _explain(item: ErrorDetails, values: Any, config_type: type[BaseModel]) -> str:
    field = _field_name(item["loc"], values) or "(section)"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        location = [str(part) for part in item["loc"]]
        fields = _fields_at(config_type, location[:-1])
        hint = _did_you_mean(location[-1], fields)
        return f"{field}: unknown field. {hint or 'Allowed: ' + ', '.join(fields) + '.'}"
    if item["type"] == "missing":
        return f"{field}: required and not given"
    if item["type"] in ("model_type", "model_attributes_type"):
        message = "must be a mapping of fields"
    if item["type"] == "path_type":
        message = "must be a path"
    if item["type"] == "value_error":
        return message if field == "(section)" else f"{field}: {message}"
    return f"{field}: {message} (found {item['input']!r})"


def _field_name(location: tuple[int | str, ...], values: Any) -> str:
    """The dotted name of a place as the user wrote it: pydantic's locations hold the tags of unions too."""
    steps = []
    for index, step in enumerate(location):
        if isinstance(values, dict) and step in values:
            values = values[step]
        elif isinstance(values, list) and isinstance(step, int):
            values = values[step] if step < len(values) else None
        elif index < len(location) - 1 or step == "[key]" or not isinstance(values, dict):
            continue
        steps.append(str(step))
    return ".".join(steps)


def _fields_at(config_type: type[BaseModel], location: list[str]) -> list[str]:
    """Field names of the (sub)model at a pydantic error location; union tags are steps of it too."""
    schema = config_type.model_json_schema()
    models = [schema]
    for step in location:
        fields = [model["properties"][step] for model in models if step in model.get("properties", {})]
        if fields:
            models = [branch for field in fields for branch in _branches(field, schema)]
        else:
            models = [model for model in models if step in _constants(model)] or models
    return sorted({name for model in models for name in model.get("properties", {})})


def _branches(field: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas that a field's value may follow, references and unions resolved."""
    if "$ref" in field:
        field = schema["$defs"][field["$ref"].rsplit("/", 1)[1]]
    alternatives = [*field.get("oneOf", ()), *field.get("anyOf", ())]
    return [branch for each in alternatives for branch in _branches(each, schema)] or [field]


def _constants(model: dict[str, Any]) -> list[Any]:
    return [field.get("const") for field in model.get("properties", {}).values()]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def describe_fields() -> dict[str, list[tuple[str, str, str, str]]]:
    """Per section, every field as (name, type, default, meaning); fields of subsections as `field.subfield`."""
    return {section: list(_described(config_type, "")) for section, config_type in _SECTIONS.items()}


def _described(config_type: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in config_type.model_fields.items():
        members = [member for member in _members(field.annotation) if isinstance(member, type)]
        nested = [member for member in members if issubclass(member, BaseModel)]
        if not nested:
            shown = _type_text(field.annotation)
            default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
            yield f"{prefix}{name}", shown, default, field.description or ""
        for member in nested:
            yield from _described(member, f"{prefix}{name}.")


def _members(annotation: Any) -> Iterator[Any]:
    """The types of a possibly annotated union."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _type_text(annotation: Any) -> str:
    """A type as users read it: `full | compact | none`, `int`, `list of str`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin is Literal:
        return " | ".join(str(value) for value in arguments)
    if origin in (Union, UnionType):
        return " | ".join(_type_text(member) for member in arguments if member is not NoneType)
    if origin is tuple:
        inner = [_type_text(member) for member in arguments if member is not ...]
        return f"list of {inner[0]}" if ... in arguments else f"[{', '.join(inner)}]"
    if origin is dict:
        return f"{_type_text(arguments[0])} -> {_type_text(arguments[1])}"
    return {"Path": "path", "StrictInt": "int"}.get(annotation.__name__, str(annotation.__name__))
