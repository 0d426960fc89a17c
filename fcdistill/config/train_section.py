"""The sections `train` and `adapt`."""

import math
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from fcdistill.config.objective_section import DIVERGENCES_WITH, CacheConfig, ObjectiveConfig
from fcdistill.config.section import ConfigModel, Dtype, Rule, ToolsInPrompt, with_default_tag
from fcdistill.config.served_teacher import ServedTeacherConfig
from fcdistill.config.student_section import FromTeacherLayers, FullTuning, LoraTuning, Pretrained, Quantization
from fcdistill.config.template_section import KitDialect, TemplateChoice, TemplateValues

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


_AUGMENTATION_RULES: tuple[Rule["AugmentationConfig"], ...] = (
    Rule(
        lambda augmentation: augmentation.num_distractors > 0 and augmentation.distractor_catalogue is None,
        lambda augmentation: (
            f"num_distractors is {augmentation.num_distractors} but distractor_catalogue is not given: name a catalogue"
        ),
    ),
    Rule(
        lambda augmentation: augmentation.distractor_catalogue is not None and not augmentation.num_distractors,
        "distractor_catalogue is given but num_distractors is 0: say how many tools are mixed in",
    ),
)


class AugmentationConfig(ConfigModel):
    """Tools that look different in every pack of examples, so that the student reads them instead of remembering."""

    rules: ClassVar = _AUGMENTATION_RULES

    shuffle_tools: StrictBool = Field(False, description="Draw the order of the tools in the prompt.")
    distractor_catalogue: Path | None = Field(
        None, description="Tools that no request asks for, of another domain, in any layout that `generate` reads."
    )
    skip_invalid: StrictBool = Field(False, description="Leave out distractors that can't be used, each with a note.")
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

    @property
    def is_on(self) -> bool:
        """Whether anything is drawn."""
        return self.shuffle_tools or self.num_distractors > 0 or self.rename_probability > 0


def _needs_steps(name: str) -> Rule["MonitorConfig"]:
    return Rule(
        lambda monitor: bool(getattr(monitor, name)) and not monitor.enabled,
        f"{name} is set but steps is not: say how often call accuracy is measured",
    )


_MONITOR_RULES: tuple[Rule["MonitorConfig"], ...] = (_needs_steps("patience"), _needs_steps("keep_best"))


class MonitorConfig(ConfigModel):
    """Held-out requests that the student answers while it is trained."""

    rules: ClassVar = _MONITOR_RULES

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


_TRAINING_RULES: tuple[Rule["_TrainingSettings"], ...] = (
    Rule(
        lambda training: training.examples_per_step % training.examples_per_pack != 0,
        lambda training: (
            f"examples_per_pack {training.examples_per_pack} does not divide examples_per_step "
            f"{training.examples_per_step}"
        ),
    ),
    Rule(
        lambda training: training.monitor.enabled and not training.held_out_fraction,
        "monitor.steps is set but held_out_fraction is 0: hold some traces out, for example 0.1",
    ),
)


class _TrainingSettings(ConfigModel):
    """What every training has, whoever learns and whatever from."""

    rules: ClassVar = _TRAINING_RULES

    epochs: StrictFloat = Field(3.0, gt=0, description="Passes over the traces.")
    template_date: date | None = Field(
        None,
        description="Date that the chat templates write which write today's, so that prompts are the same on every "
        "day; the student keeps it. Unset: the one that is saved with the model, else 2024-07-26.",
    )
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


def _is_served(train: "TrainConfig") -> bool:
    return train.served_teacher is not None


def _teaches_itself(train: "TrainConfig") -> bool:
    return train.signal == "self"


def _reads_cache(train: "TrainConfig") -> bool:
    return train.signal == "cached" and train.objective.needs_teacher


def _cached_tokens(train: "TrainConfig") -> int:
    """Tokens that the cache keeps per position; 0 without a cache too."""
    return 0 if train.cache is None else train.cache.top_k


def _listed_temperatures(train: "TrainConfig") -> str:
    return "" if train.cache is None else ", ".join(map(str, train.cache.temperatures))


def _base_quantization(train: "TrainConfig") -> Quantization:
    return train.tuning.quantization if isinstance(train.tuning, LoraTuning) else "none"


def _needs_weights_here(name: str) -> Rule["TrainConfig"]:
    return Rule(
        lambda train: train.teacher is None and getattr(train, name) not in (None, "none"),
        lambda train: f"{name} is {getattr(train, name)} but teacher is not given: name one, or remove it",
    )


def _changes_the_tools_of_samples(name: str) -> Rule["TrainConfig"]:
    return Rule(
        lambda train: bool(getattr(train.augmentation, name)) and train.on_policy_fraction > 0,
        f"augmentation.{name} and on_policy_fraction are both set, but what the student samples is "
        "validated against the tools of the traces: set one of them to 0",
    )


_SERVED_RULES: tuple[Rule["TrainConfig"], ...] = (
    Rule(
        lambda train: _is_served(train) and train.teacher is not None,
        lambda train: f"teacher is {train.teacher}, but served_teacher is given too: remove one of them",
    ),
    Rule(
        lambda train: _is_served(train) and train.signal != "cached",
        lambda train: (
            f"signal is {train.signal}, but served_teacher is asked once and not at every step: set signal to cached"
        ),
    ),
    Rule(
        lambda train: (
            _is_served(train)
            and (train.objective.hidden_weight > 0 or bool(train.cache is not None and train.cache.hidden_layers))
        ),
        "objective.hidden_weight or cache.hidden_layers is set, but a server gives no hidden states: set them "
        "to 0 and null, or name a teacher that is loaded here",
    ),
    Rule(
        lambda train: _is_served(train) and train.objective.kd_weight > 0 and train.objective.kd_temperature != 1,
        lambda train: (
            f"objective.kd_temperature is {train.objective.kd_temperature}, but a server gives log-probabilities at "
            "temperature 1, from which those at another can't be had without the rest of the vocabulary: set it "
            "to 1, or name a teacher that is loaded here"
        ),
    ),
    Rule(
        # The default does no harm, and a resolved configuration, which holds it, can be read again.
        lambda train: (
            _is_served(train)
            and train.cache is not None
            and train.cache.temperatures not in ((1.0,), CacheConfig.model_fields["temperatures"].default)
        ),
        lambda train: (
            f"cache.temperatures are {_listed_temperatures(train)}, but a server's answers hold for "
            "temperature 1 alone: leave them away"
        ),
    ),
    Rule(
        lambda train: (
            train.served_teacher is not None and train.served_teacher.logprobs == "echo" and _cached_tokens(train) > 0
        ),
        lambda train: (
            f"cache.top_k is {_cached_tokens(train)}, but served_teacher.logprobs is echo, which names likely tokens "
            "by texts that several tokens may share: set cache.top_k to 0, or logprobs to prompt_logprobs"
        ),
    ),
)
"""What a server can't teach."""

_TEACHER_RULES: tuple[Rule["TrainConfig"], ...] = (
    Rule(
        lambda train: _teaches_itself(train) and train.teacher is not None,
        lambda train: (
            f"signal is self, whose teacher is the student without its adapter, but teacher is {train.teacher}: "
            "remove teacher, or set signal to online or cached"
        ),
    ),
    Rule(
        lambda train: _teaches_itself(train) and not isinstance(train.tuning, LoraTuning),
        "signal is self, but tuning.method is full: the teacher is what an adapter leaves as it was; set "
        "tuning.method to lora, or name the same model as teacher and set signal to online",
    ),
    Rule(
        lambda train: (
            not _teaches_itself(train)
            and train.objective.needs_teacher
            and train.teacher is None
            and train.served_teacher is None
        ),
        "objective.kd_weight or objective.hidden_weight is set but teacher is not: name one",
    ),
    _needs_weights_here("teacher_device"),
    _needs_weights_here("teacher_quantization"),
    Rule(
        lambda train: (
            train.teacher is None
            and (train.teacher_template != "own" or train.teacher_chat_template_kwargs is not None)
        ),
        "teacher_template or teacher_chat_template_kwargs is set but teacher is not given: name one, set them in "
        "served_teacher or student as template and chat_template_kwargs, or remove them",
    ),
    Rule(
        lambda train: isinstance(train.student, FromTeacherLayers) and _base_quantization(train) != "none",
        lambda train: (
            f"tuning.quantization is {_base_quantization(train)}, but student.init is "
            "from_teacher_layers: layers are cut out of weights as they are; set tuning.quantization to none"
        ),
    ),
    Rule(
        lambda train: train.on_policy_fraction > 0 and not train.objective.needs_teacher,
        lambda train: (
            f"on_policy_fraction is {train.on_policy_fraction}, but no term of the objective follows a teacher, who "
            "alone can score what the student samples: set objective.kd_weight, or on_policy_fraction to 0"
        ),
    ),
    Rule(
        lambda train: train.on_policy_fraction > 0 and train.signal not in _SCORES_SAMPLES,
        lambda train: (
            f"on_policy_fraction is {train.on_policy_fraction}, but signal is {train.signal}, which knows nothing of "
            f"answers that the student has yet to sample: set signal to {' or '.join(_SCORES_SAMPLES)}, or "
            "on_policy_fraction to 0"
        ),
    ),
)
"""Who teaches, and what it can say."""

_CACHED_RULES: tuple[Rule["TrainConfig"], ...] = (
    Rule(
        lambda train: _reads_cache(train) and train.cache is None,
        "signal is cached but cache is not given: name at least its dir",
    ),
    Rule(
        lambda train: (
            _reads_cache(train) and train.objective.kd_weight > 0 and train.objective.kd_divergence == "reverse_kl"
        ),
        "objective.kd_divergence is reverse_kl, but signal is cached: it needs the teacher's whole "
        "distribution, and a cache keeps its top_k tokens; set signal to online, or choose another "
        "kd_divergence, for example forward_kl",
    ),
    Rule(
        lambda train: (
            _reads_cache(train)
            and _cached_tokens(train) < 2
            and train.objective.kd_weight > 0
            and train.objective.kd_divergence in DIVERGENCES_WITH["ranking_top_k"]
        ),
        lambda train: (
            f"cache.top_k is {_cached_tokens(train)}, but objective.kd_divergence is "
            f"{train.objective.kd_divergence}, which compares the order of at least 2 tokens: raise cache.top_k "
            "for a new cache, or choose another kd_divergence, for example forward_kl"
        ),
    ),
    Rule(
        lambda train: _reads_cache(train) and train.objective.kd_gate != "off" and _cached_tokens(train) == 0,
        lambda train: (
            f"objective.kd_gate is {train.objective.kd_gate}, but cache.top_k is 0: such a cache does not hold "
            "which token is the likeliest; set kd_gate to off, or raise cache.top_k"
        ),
    ),
    Rule(
        lambda train: (
            _reads_cache(train)
            and train.objective.kd_weight > 0
            and train.objective.kd_temperature not in train.cache_temperatures
        ),
        lambda train: (
            f"objective.kd_temperature is {train.objective.kd_temperature}, but cache.temperatures are "
            f"{_listed_temperatures(train)}: choose one of them, or add it for a new cache"
        ),
    ),
)
"""What a training asks of the cache that it reads."""

_TOOLS_RULES: tuple[Rule["TrainConfig"], ...] = (
    Rule(
        lambda train: train.augmentation.is_on and train.tools_in_prompt == "none",
        "augmentation changes the tools that a prompt shows, but tools_in_prompt is none: set it to full or "
        "compact, or remove augmentation",
    ),
    Rule(
        lambda train: train.augmentation.is_on and _reads_cache(train),
        "augmentation draws other texts in every epoch, but signal is cached and a cache is of fixed texts: "
        "set signal to online, or remove augmentation",
    ),
    _changes_the_tools_of_samples("rename_probability"),
    _changes_the_tools_of_samples("num_distractors"),
)
"""What is drawn anew in the tools."""

_THOUGHT_RULES: tuple[Rule["TrainConfig"], ...] = (
    Rule(
        lambda train: (
            train.keep_thinking and (train.student.chat_template_kwargs or {}).get("enable_thinking") is False
        ),
        "keep_thinking is true, but student.chat_template_kwargs says enable_thinking: false: remove one of them",
    ),
    Rule(
        lambda train: train.keep_thinking and train.augmentation.rename_probability > 0,
        "keep_thinking and augmentation.rename_probability are both set, but thoughts call the tools by the names that "
        "they had: set one of them to false or 0",
    ),
)
"""What the student learns to think."""


class TrainConfig(_TrainingSettings, _Files):
    """`fcdistill train`: traces and a teacher's signal become a student."""

    rules: ClassVar[tuple[Rule[Any], ...]] = (
        *_TRAINING_RULES, *_SERVED_RULES, *_TEACHER_RULES, *_CACHED_RULES, *_TOOLS_RULES,
        *_THOUGHT_RULES,
    )  # fmt: skip

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
    teacher_template: Literal["own", "kit"] = Field(
        "own", description="The teacher's chat template, as template is of the student."
    )
    teacher_dialect: KitDialect | None = Field(
        None, description="How the kit's template writes the teacher's calls, where it has that; as the student's does."
    )
    teacher_chat_template_kwargs: TemplateValues | None = Field(
        None,
        description="Values for its switches; unset: the teacher thinks (enable_thinking) only with keep_thinking.",
    )
    teacher_examples: Path | None = Field(
        None,
        description="JSONL of WorkedExample records that the teacher alone reads, as earlier turns: it sees how the "
        "student writes its calls.",
    )
    teacher_report_examples: StrictInt = Field(
        64, ge=0, description="Traces on which the teacher is measured before training, into teacher.json; 0: none."
    )
    keep_thinking: StrictBool = Field(
        False,
        description="Train the student to write what the trace's answer was thought out with (reasoning) before the "
        "answer, in its own template's way; student and teacher think then (enable_thinking: true where "
        "chat_template_kwargs do not set it).",
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

    @classmethod
    def spelled_out(cls, values: Any) -> Any:
        """The values, in which student and tuning say of which kind they are."""
        values = with_default_tag(values, "student", "init", "pretrained")
        return with_default_tag(values, "tuning", "method", "lora")

    @property
    def teacher_choice(self) -> TemplateChoice:
        """The chat template of the teacher, whoever that is."""
        if self.signal == "self":
            return self.student
        if self.served_teacher is not None:
            return self.served_teacher
        return TemplateChoice(
            template=self.teacher_template,
            dialect=self.teacher_dialect,
            chat_template_kwargs=self.teacher_chat_template_kwargs,
        )

    @property
    def cache_temperatures(self) -> tuple[float, ...]:
        """Values of kd_temperature for which the cache serves: a server's answers hold for 1 alone."""
        if self.cache is None:
            return ()
        return self.cache.temperatures if self.served_teacher is None else (1.0,)


class AdaptationConfig(_TrainingSettings, TemplateChoice):
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
            student=Pretrained(
                model=self.teacher, **{name: getattr(self, name) for name in TemplateChoice.model_fields}
            ),
            tuning=self.tuning,
            tools_in_prompt=self.tools_in_prompt,
            **shared,
        )
