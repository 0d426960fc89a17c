"""The section `eval`."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from fcdistill.config.backend_section import (
    BackendConfig,
    DecodeSettings,
    LocalBackendConfig,
    is_constrainable,
    why_not_constrainable,
    with_default_backend,
)
from fcdistill.config.section import ConfigModel, Rule

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


_EVAL_RULES: tuple[Rule["EvalConfig"], ...] = (
    Rule(
        lambda run: (run.model is None) == (run.predictions is None),
        "give exactly one of model and predictions",
    ),
    Rule(
        lambda run: (run.cases is None) == (run.suite is None),
        "give exactly one of cases and suite",
    ),
    Rule(
        lambda run: run.suite is not None and run.tools is not None,
        "tools belongs to cases: the cases of a suite hold their own",
    ),
    Rule(
        lambda run: run.suite is not None and run.skip_invalid,
        "skip_invalid belongs to cases: of the tools of a suite none is left out",
    ),
    Rule(
        lambda run: run.suite is not None and run.cases_format != "cases",
        "cases_format belongs to cases: a suite has a format of its own",
    ),
    Rule(
        lambda run: (
            run.repeat > 1 and isinstance(run.model, LocalBackendConfig) and run.decode.sampling_temperature == 0
        ),
        lambda run: (
            f"repeat is {run.repeat}, but a local model with decode.sampling_temperature 0 answers alike each "
            "time; set a sampling_temperature above 0, or leave out repeat"
        ),
    ),
    Rule(
        lambda run: run.decode.constrained and (run.model is None or not is_constrainable(run.model)),
        lambda run: (
            "decode.constrained has no effect on saved predictions; remove it"
            if run.model is None
            else why_not_constrainable(run.model)
        ),
    ),
)


class EvalConfig(ConfigModel):
    """`fcdistill eval`: predictions on gold cases become a report."""

    rules: ClassVar = _EVAL_RULES

    cases: Path | None = Field(None, description="cases.jsonl of gold cases; alternatively give suite.")
    cases_format: CasesFormat = Field(
        "cases",
        description="cases: EvalCase records; openai-messages: rows of {messages, tools}, gold answer last.",
    )
    suite: EvalSuite | None = Field(None, description="A public suite instead of cases: bfcl:CATEGORY.")
    tools: Path | None = Field(None, description="The suite's catalogue; not needed where every case holds its tools.")
    skip_invalid: StrictBool = Field(False, description="Leave out tools that can't be used, each with a note.")
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

    @classmethod
    def spelled_out(cls, values: Any) -> Any:
        """The values, in which a model reference stands in a mapping, and each mapping says of which kind it is."""
        return with_default_backend(values, "model")
