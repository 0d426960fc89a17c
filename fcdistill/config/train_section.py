"""The sections `train` and `adapt`."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from fcdistill.config.objective_section import DIVERGENCES_WITH, CacheConfig, ObjectiveConfig
from fcdistill.config.section import ConfigModel, Dtype, ToolsInPrompt, with_default_tag
from fcdistill.config.served_teacher import ServedTeacherConfig
from fcdistill.config.student_section import FromTeacherLayers, FullTuning, LoraTuning, Pretrained, Quantization

__all__ = [
    "AdaptConfig",
    "AdaptationConfig",
    "AugmentationConfig",
    "MonitorConfig",
    "OnPolicyConfig",
    "Reporter",
    "Signal",
    "TrainConfig",
]

Signal = Literal["online", "cached", "self"]
Reporter = Literal["tensorboard", "wandb", "trackio"]

_SCORES_SAMPLES: tuple[Signal, ...] = ("online", "self")
"""Signals with which a teacher can say something of answers that did not exist before the step."""


class AugmentationConfig(ConfigModel):
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


class MonitorConfig(ConfigModel):
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


class OnPolicyConfig(ConfigModel):
    """How the student answers for itself, where on_policy_fraction is set."""

    sampling_temperature: StrictFloat = Field(
        1.0, ge=0, description="Temperature at which the student samples its answers; 0 decodes greedily."
    )
    top_p: StrictFloat = Field(1.0, gt=0, le=1, description="Nucleus sampling mass.")
    max_new_tokens: StrictInt = Field(
        256, ge=1, description="Longest answer, in tokens; one that is cut here is learned from without an end."
    )


class _Files(ConfigModel):
    """What a training reads and writes."""

    traces: Path = Field(description="traces.jsonl of `generate`, or any file of Trace records.")
    out: Path = Field(description="Output directory.")


class _TrainingSettings(ConfigModel):
    """What every training has, whoever learns and whatever from."""

    epochs: StrictFloat = Field(3.0, gt=0, description="Passes over the traces.")
    max_steps: StrictInt | None = Field(
        None, ge=1, description="Stop after so many optimizer steps, where the epochs have more."
    )
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
        False,
        description="Compile CE and the divergence over rows of logits (between two tokenizers, CE alone); the first "
        "steps wait.",
    )
    gradient_checkpointing: StrictBool = Field(
        False, description="Less memory, more time: layers are computed again on the way back."
    )
    save_steps: StrictInt = Field(50, ge=1, description="Optimizer steps between checkpoints.")
    log_steps: StrictInt = Field(
        5,
        ge=1,
        description="Optimizer steps between lines of metrics.jsonl; checkpoints and evaluations have one too.",
    )
    report_to: tuple[Reporter, ...] = Field(
        (), description="Experiment trackers that receive the same lines; each needs its package of the same name."
    )
    run_name: str | None = Field(
        None, min_length=1, description="What trackers call the run; unset: the output directory's name."
    )
    merge: StrictBool = Field(True, description="Also write merged weights beside a LoRA adapter.")
    seed: StrictInt = 0

    def num_steps(self, num_examples: int) -> int:
        """Optimizer steps of a training on so many examples; the last one of an epoch may have fewer of them."""
        steps = math.ceil(self.epochs * math.ceil(num_examples / self.examples_per_step))
        return steps if self.max_steps is None else min(steps, self.max_steps)

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        if self.examples_per_step % self.examples_per_pack:
            raise ValueError(
                f"examples_per_pack {self.examples_per_pack} does not divide examples_per_step {self.examples_per_step}"
            )
        if self.monitor.enabled and not self.held_out_fraction:
            raise ValueError("monitor.steps is set but held_out_fraction is 0: hold some traces out, for example 0.1")
        return self


class TrainConfig(_TrainingSettings, _Files):
    """`fcdistill train`: traces and a teacher's signal become a student."""

    student: Annotated[Pretrained | FromTeacherLayers, Field(discriminator="init")]
    tuning: Annotated[LoraTuning | FullTuning, Field(discriminator="method")] = LoraTuning()
    teacher: str | None = Field(
        None,
        description="Model reference; where kd_weight or hidden_weight is set, it or served_teacher is needed, unless "
        "signal is self.",
    )
    served_teacher: ServedTeacherConfig | None = Field(
        None, description="A teacher behind a server instead, which is asked once, into the cache: signal is cached."
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
        value = with_default_tag(value, "student", "init", "pretrained")
        return with_default_tag(value, "tuning", "method", "lora")

    @model_validator(mode="after")
    def _servable(self) -> "TrainConfig":
        if self.served_teacher is None:
            return self
        if self.teacher is not None:
            raise ValueError(f"teacher is {self.teacher}, but served_teacher is given too: remove one of them")
        if self.signal != "cached":
            raise ValueError(
                f"signal is {self.signal}, but served_teacher is asked once and not at every step: set signal to cached"
            )
        self.served_teacher.require_teachable(self.objective, self.cache)
        return self

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
        elif self.objective.needs_teacher and self.teacher is None and self.served_teacher is None:
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
            ranks = self.objective.kd_divergence in DIVERGENCES_WITH["ranking_top_k"]
            if self.objective.kd_weight and ranks and self.cache.top_k < 2:
                raise ValueError(
                    f"cache.top_k is {self.cache.top_k}, but objective.kd_divergence is "
                    f"{self.objective.kd_divergence}, which compares the order of at least 2 tokens: raise cache.top_k "
                    "for a new cache, or choose another kd_divergence, for example forward_kl"
                )
            if self.objective.kd_gate != "off" and self.cache.top_k == 0:
                raise ValueError(
                    f"objective.kd_gate is {self.objective.kd_gate}, but cache.top_k is 0: such a cache does not hold "
                    "which token is the likeliest; set kd_gate to off, or raise cache.top_k"
                )
            if self.objective.kd_weight and self.objective.kd_temperature not in self.cache_temperatures:
                raise ValueError(
                    f"objective.kd_temperature is {self.objective.kd_temperature}, but cache.temperatures are "
                    f"{', '.join(map(str, self.cache.temperatures))}: choose one of them, or add it for a new cache"
                )
        return self

    @property
    def cache_temperatures(self) -> tuple[float, ...]:
        """Values of kd_temperature for which the cache serves: a server's answers hold for 1 alone."""
        if self.cache is None:
            return ()
        return self.cache.temperatures if self.served_teacher is None else (1.0,)

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
        for name in ("rename_probability", "num_distractors"):
            if getattr(self.augmentation, name) and self.on_policy_fraction:
                raise ValueError(
                    f"augmentation.{name} and on_policy_fraction are both set, but what the student samples is "
                    "validated against the tools of the traces: set one of them to 0"
                )
        return self


class AdaptationConfig(_TrainingSettings):
    """How a teacher learns verified traces, whoever it is and whichever they are."""

    tuning: LoraTuning = LoraTuning()
    tools_in_prompt: ToolsInPrompt = Field(
        "full",
        description="How its prompt shows the tools, here and wherever it teaches; none is cheapest, and fits a "
        "catalogue that does not change.",
    )


class AdaptConfig(AdaptationConfig, _Files):
    """`fcdistill adapt`: a teacher learns the verified traces before it teaches them."""

    teacher: str = Field(description="Model reference of the teacher.")

    def training(self) -> TrainConfig:
        """The training that this is: cross-entropy, with the teacher in the student's place."""
        shared = {name: getattr(self, name) for name in (*_Files.model_fields, *_TrainingSettings.model_fields)}
        return TrainConfig(
            student=Pretrained(model=self.teacher),
            tuning=self.tuning,
            tools_in_prompt=self.tools_in_prompt,
            **shared,
        )
