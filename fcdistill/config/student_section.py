"""Who learns, and which of its weights."""

from typing import ClassVar, Literal

from pydantic import Field, StrictFloat, StrictInt

from fcdistill.config.section import ConfigModel, Rule
from fcdistill.config.template_section import TemplateChoice

__all__ = [
    "FromTeacherLayers",
    "FullTuning",
    "LoraTuning",
    "Pretrained",
    "Quantization",
]

Quantization = Literal["none", "8bit", "4bit"]


class LoraTuning(ConfigModel):
    """Low-rank adapters through peft; the base weights stay frozen."""

    method: Literal["lora"] = "lora"
    lora_rank: StrictInt = Field(32, ge=1, description="Rank of the adapters.")
    lora_alpha: StrictFloat = Field(64, gt=0, description="Scale of the adapters, over the rank.")
    lora_dropout: StrictFloat = Field(0.0, ge=0, lt=1, description="Dropout before the adapters.")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="Modules that get an adapter."
    )
    trainable_tokens: tuple[str, ...] | Literal["call_markers"] = Field(
        "call_markers",
        description="Tokens whose embeddings are trained beside the adapters; call_markers are those that the model's "
        "template puts around a call and the thought before it, such as <tool_call>, which base models know and seldom "
        "have learned.",
    )
    quantization: Quantization = Field(
        "none",
        description="The frozen base weights while training; 4bit is QLoRA. Needs CUDA and the extra [quantized].",
    )


class FullTuning(ConfigModel):
    """All weights are trained."""

    method: Literal["full"]


class Pretrained(TemplateChoice):
    """A student that exists already."""

    init: Literal["pretrained"] = "pretrained"
    model: str = Field(description="Hub id, local directory, .gguf file or a name from `fcdistill models list`.")


_CUT_RULES: tuple[Rule["FromTeacherLayers"], ...] = (
    Rule(
        lambda cut: (cut.keep_every is None) == (cut.keep_layers is None),
        "give exactly one of keep_every and keep_layers",
    ),
)


class FromTeacherLayers(TemplateChoice):
    """A student cut from a model: some of its layers, all else shared."""

    rules: ClassVar = _CUT_RULES

    init: Literal["from_teacher_layers"]
    model: str = Field(description="The model that is cut, usually the teacher.")
    keep_every: StrictInt | None = Field(
        None, ge=2, description="Keep every k-th layer, always with the first and the last."
    )
    keep_layers: tuple[StrictInt, ...] | None = Field(None, description="Keep exactly these layers, counted from 0.")
