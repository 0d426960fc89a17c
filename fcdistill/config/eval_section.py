"""The section `eval`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, model_validator

from fcdistill.config.backend_section import (
    BackendConfig,
    DecodeSettings,
    LocalBackendConfig,
    require_constrainable,
    with_default_backend,
)
from fcdistill.config.section import ConfigModel

__all__ = ["CasesFormat", "EvalConfig", "EvalSuite", "GateConfig"]

CasesFormat = Literal["cases", "openai-messages"]

EvalSuite = Literal[
    "bfcl:simple_python",
    "bfcl:multiple",
    "bfcl:parallel",
    "bfcl:parallel_multiple",
    "bfcl:irrelevance",
    "bfcl:live_simple",
    "bfcl:live_multiple",
    "bfcl:live_parallel",
    "bfcl:live_parallel_multiple",
    "bfcl:live_irrelevance",
    "bfcl:live_relevance",
]


class GateConfig(ConfigModel):
    """When an evaluation fails, so that CI stops."""

    min_accuracy: StrictFloat | None = Field(None, ge=0, le=1, description="Lowest call accuracy that passes.")
    baseline: Path | None = Field(None, description="Baseline of an earlier run, as --write-baseline wrote it.")
    max_drop: StrictFloat = Field(
        0.02, ge=0, le=1, description="Drop of call accuracy against the baseline that is tolerated, 0 to 1."
    )
    alpha: StrictFloat = Field(
        0.05, gt=0, lt=1, description="A larger drop fails where its exact one-sided McNemar p is below this."
    )
    allow_mismatch: StrictBool = Field(
        False,
        description="Compare although cases, tools, prompts, decode settings or scorer differ; the report says so.",
    )

    @property
    def is_on(self) -> bool:
        """Whether there is anything to judge by."""
        return self.min_accuracy is not None or self.baseline is not None


class EvalConfig(ConfigModel):
    """`fcdistill eval`: predictions on gold cases become a report."""

    cases: Path | None = Field(None, description="cases.jsonl of gold cases; alternatively give suite.")
    cases_format: CasesFormat = Field(
        "cases",
        description="cases: EvalCase records; openai-messages: rows of {messages, tools}, gold answer last.",
    )
    suite: EvalSuite | None = Field(None, description="A public suite instead of cases: bfcl:CATEGORY.")
    tools: Path | None = Field(None, description="The suite's catalogue; not needed where every case holds its tools.")
    out: Path = Field(description="Output directory.")
    model: BackendConfig | None = Field(None, description="Who answers; alternatively give predictions.")
    predictions: Path | None = Field(None, description="Saved predictions: JSONL of {id, text} or {id, tool_calls}.")
    decode: DecodeSettings = DecodeSettings()
    repeat: StrictInt = Field(
        1, ge=1, description="Answers to each case, each with its own seed: for models and servers that sample."
    )
    default_equals_omitted: StrictBool = Field(
        False, description="An optional argument that equals its schema default counts as left out."
    )
    gate: GateConfig = Field(GateConfig(), description="When the run fails, so that CI stops.")
    limit: StrictInt | None = Field(None, ge=1, description="Only the first so many cases.")

    @model_validator(mode="before")
    @classmethod
    def _default_backend(cls, value: Any) -> Any:
        return with_default_backend(value, "model")

    @model_validator(mode="after")
    def _one_source(self) -> "EvalConfig":
        if (self.model is None) == (self.predictions is None):
            raise ValueError("give exactly one of model and predictions")
        if (self.cases is None) == (self.suite is None):
            raise ValueError("give exactly one of cases and suite")
        if self.suite is not None and self.tools is not None:
            raise ValueError("tools belongs to cases: the cases of a suite hold their own")
        if self.suite is not None and self.cases_format != "cases":
            raise ValueError("cases_format belongs to cases: a suite has a format of its own")
        greedy = isinstance(self.model, LocalBackendConfig) and self.decode.sampling_temperature == 0
        if self.repeat > 1 and greedy:
            raise ValueError(
                f"repeat is {self.repeat}, but a local model with decode.sampling_temperature 0 answers alike each "
                "time; set a sampling_temperature above 0, or leave out repeat"
            )
        if self.decode.constrained:
            if self.model is None:
                raise ValueError("decode.constrained has no effect on saved predictions; remove it")
            require_constrainable(self.model)
        return self
