"""The records that the stages exchange: one frozen pydantic model per line of a file.

Structure is stored, never rendered text, because teacher and student may speak other dialects. `messages` and `tools`
have OpenAI's shape, so that a traces file loads unchanged as a `transformers`/TRL data set; `expected` and `calls` hold
bare calls. Nothing here reads files (`storage`) or judges content (`validation`).
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = [
    "StageCount",
    "TeacherReport",
    "TokenFigures",
    "PlannedKept",
    "Outcome",
    "GenerationStats",
    "CALL_ERRORS",
    "Answer",
    "Behaviour",
    "CallConfusion",
    "CallError",
    "Category",
    "Check",
    "Distribution",
    "EvalCase",
    "FunctionCall",
    "FunctionTool",
    "Manifest",
    "Message",
    "MetricsLine",
    "ModelRef",
    "ParseError",
    "Prediction",
    "RECORD_TYPES",
    "Rate",
    "Record",
    "Reject",
    "Report",
    "SavedPrediction",
    "Score",
    "ScoreError",
    "SeedRequest",
    "ToolCall",
    "ToolSpec",
    "Trace",
    "TraceMeta",
    "WorkedExample",
]

SCHEMA_VERSION = 1

Category = Literal["simple", "multiple", "parallel", "parallel_multiple", "irrelevance", "clarify"]
"""BFCL's words, and `clarify` for requests that lack a required value."""

Behaviour = Literal["call", "no_call", "clarify"]

CallError = Literal[
    "no_output",
    "truncated",
    "parse_error",
    "unexpected_call",
    "missing_call",
    "wrong_count",
    "unknown_function",
    "wrong_function",
    "missing_required",
    "extra_arg",
    "wrong_type",
    "enum_violation",
    "constraint_violation",
    "wrong_value",
]

CALL_ERRORS: tuple[CallError, ...] = CallError.__args__  # type: ignore[attr-defined]
"""All error codes; a case's primary error is the one that stands first here."""

FinishReason = Literal["stop", "call_complete", "length", "error", "unknown"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Record(_Frozen):
    """A line of a file."""

    schema_version: Literal[1] = 1


class ToolSpec(_Frozen):
    """One tool: a name, what it does, and a JSON Schema of its arguments."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema 2020-12 of the arguments object, unless its `$schema` says otherwise."""


class ToolCall(_Frozen):
    """One call. `arguments` is an object, never a JSON string."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class FunctionTool(_Frozen):
    """A `ToolSpec` in OpenAI's wrapping, as chat templates expect it."""

    type: Literal["function"] = "function"
    function: ToolSpec


class FunctionCall(_Frozen):
    """A `ToolCall` in OpenAI's wrapping, as chat templates expect it."""

    id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    type: Literal["function"] = "function"
    function: ToolCall


class Message(_Frozen):
    """One chat message. `content` is never null, since several chat templates break on null."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[FunctionCall, ...] = Field(default=(), exclude_if=lambda value: not value)
    tool_call_id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    name: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @field_validator("content", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object) -> object:
        return "" if value is None else value

    @model_validator(mode="after")
    def _calls_are_the_assistants(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a message of role {self.role!r} holds tool_calls; only the assistant calls tools")
        return self

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The bare calls of this message."""
        return tuple(call.function for call in self.tool_calls)

    @classmethod
    def calling(cls, calls: "tuple[ToolCall, ...] | list[ToolCall]") -> "Message":
        """An assistant message that makes these calls."""
        return cls(role="assistant", tool_calls=tuple(FunctionCall(function=call) for call in calls))


class ModelRef(_Frozen):
    """Which model answered or was trained, and with which decode parameters."""

    model: str
    revision: str = ""
    params: dict[str, Any] = Field(default_factory=dict)


class Check(_Frozen):
    """The outcome of one verification stage."""

    name: str
    ok: bool
    detail: str = ""


class SeedRequest(Record):
    """An unlabelled request of a user."""

    id: str
    text: str = Field(min_length=1)
    category: Category | None = None
    """A hint, where its author gave one."""
    system: str = ""
    """Context that the request needs, for example the current time."""


class TraceMeta(_Frozen):
    """Where a trace comes from."""

    source: Literal["call_first", "request_first", "varied", "joined", "import"]
    category: Category
    plan_cell: str
    teacher: ModelRef
    checks: tuple[Check, ...] = ()
    attempt: int = Field(default=0, ge=0)


class WorkedExample(Record):
    """A request with its right answer, written by the team: it shows the teacher how requests and answers look."""

    id: str
    request: str = Field(min_length=1)
    category: Category
    system: str = ""
    """Context that the request needs, for example the current time."""
    calls: tuple[ToolCall, ...] = ()
    text: str = ""
    """The answer where no call is right."""

    @model_validator(mode="after")
    def _calls_or_text(self) -> Self:
        if bool(self.calls) == bool(self.text):
            raise ValueError("give exactly one of calls and text")
        return self


class Trace(Record):
    """A conversation that ends with the assistant's answer: calls, or a text without calls."""

    id: str
    messages: tuple[Message, ...] = Field(min_length=2)
    tools: tuple[FunctionTool, ...]
    split_group: str
    """Rows of one group share arguments or a seed: they stay on one side of any split."""
    meta: TraceMeta

    @model_validator(mode="after")
    def _ends_with_the_assistant(self) -> Self:
        if self.messages[-1].role != "assistant":
            raise ValueError(f"the last message has role {self.messages[-1].role!r}; a trace ends with the assistant")
        return self

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The bare tools."""
        return tuple(tool.function for tool in self.tools)

    @property
    def answer(self) -> Message:
        """The final assistant message, which training supervises."""
        return self.messages[-1]


class Reject(Record):
    """A trace candidate that failed a check. Its final message holds the raw text where no call could be parsed."""

    id: str
    check: str
    detail: str
    candidate: Trace


class Outcome(Record):
    """A line of the generation journal: one attempt at one planned trace, with the verdicts in its checks."""

    id: str
    attempt: int
    candidate: Trace
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Wall time of the chunk that made it, divided by the chunk's size."""

    @property
    def failed(self) -> Check | None:
        """The first check that failed, or None for a trace to keep."""
        return next((check for check in self.candidate.meta.checks if not check.ok), None)


class StageCount(_Frozen):
    """How many candidates met a check, and how many passed it."""

    checked: int
    passed: int


class PlannedKept(_Frozen):
    """How many traces were planned, and how many were kept."""

    planned: int
    kept: int


class GenerationStats(Record):
    """What a generation made: `stats.json`."""

    planned: int
    kept: int
    rejected: int
    attempts: int
    """Attempts in all; a reject is tried again before it is given up."""
    stages: dict[str, StageCount]
    """Per check, over all attempts."""
    by_source: dict[str, PlannedKept]
    by_category: dict[str, PlannedKept]
    calls_by_tool: dict[str, int]
    """Calls in kept traces; a tool that stays at 0 was not covered."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Seconds that the teacher worked."""
    completion_tokens_per_s: float | None


class TokenFigures(_Frozen):
    """How a teacher sees verified tokens of one kind."""

    num_tokens: int
    nll: float
    """Mean negative log-likelihood at temperature 1, in nats per token."""
    agreement_rate: float
    """Share of tokens than which the teacher deems none likelier."""


class TeacherReport(Record):
    """What a teacher thinks of the verified answers, before a student follows it: `teacher.json`."""

    teacher: ModelRef
    signal: str
    num_examples: int
    """Training examples that were drawn for it."""
    overall: TokenFigures
    by_class: dict[str, TokenFigures]
    """Per class of the teacher's own tokens; classes without a token are left out."""
    by_tool: dict[str, TokenFigures]
    """Names, keys and values of the calls of each tool; under `(no call)` all tokens of answers without a call."""


Answer = Annotated[tuple[ToolCall, ...], Field(description="One acceptable list of calls, in any order")]


class EvalCase(Record):
    """A gold case: matching any one acceptable answer is right."""

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[FunctionTool, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    """None: the suite's catalogue."""
    behaviour: Behaviour
    expected: tuple[Answer, ...] = Field(min_length=1)
    comparators: dict[str, str] = Field(default_factory=dict)
    """`tool.param` to `exact`, `casefold`, `numeric(TOL)`, `set`, `date`, `any_of` or `ignore`; `set` and `any_of` take
    a rule for what they hold, as in `any_of(casefold)`. Under `any_of` the expected value lists acceptable ones."""
    category: Category
    tags: tuple[str, ...] = ()
    critical: bool = False

    @model_validator(mode="after")
    def _behaviour_matches_expected(self) -> Self:
        if self.behaviour == "call" and not all(self.expected):
            raise ValueError("behaviour is 'call' but an expected answer holds no call")
        if self.behaviour != "call" and self.expected != ((),):
            raise ValueError(f"behaviour is {self.behaviour!r}: expected must be [[]]")
        if self.messages[-1].role not in ("user", "tool"):
            raise ValueError(f"the last message has role {self.messages[-1].role!r}; a case ends with user or tool")
        return self


class ParseError(_Frozen):
    """A region of model output that looks like a call and is not one."""

    kind: Literal["invalid_json", "duplicate_key", "not_finite", "unclosed", "not_a_call"]
    detail: str
    start: int
    """Character offset of the region in the raw text; `end` is exclusive."""
    end: int


class Prediction(Record):
    """What a model answered to one case. `error` means that it was not asked successfully: the case is unscored."""

    id: str
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    parse_errors: tuple[ParseError, ...] = ()
    finish_reason: FinishReason = "unknown"
    latency_s: float | None = None
    """Seconds of the batch that answered this case, divided by the batch's size."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None


class SavedPrediction(Record):
    """A line of a file of saved answers: an output text, an API's `tool_calls`, or what an earlier eval wrote."""

    id: str
    text: str | None = None
    """The raw output; calls are read from it where `tool_calls` and `calls` hold none."""
    tool_calls: tuple[Any, ...] | None = None
    """`{name, arguments}`, also in OpenAI's wrapping and with arguments as a JSON string."""
    calls: tuple[ToolCall, ...] | None = None
    parse_errors: tuple[ParseError, ...] = ()
    finish_reason: str | None = None
    latency_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    """Why there is no answer; the case stays unscored."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.text is None and self.tool_calls is None and self.calls is None and self.error is None:
            raise ValueError("neither text nor tool_calls is given")
        return self


class ScoreError(_Frozen):
    """One way in which an answer is wrong."""

    code: CallError
    path: str
    """`tool.param` with a JSON pointer below it, or empty for the whole answer."""
    detail: str


class Score(Record):
    """The verdict on one case."""

    id: str
    category: Category
    behaviour: Behaviour
    tools: tuple[str, ...]
    """Names of the tools in the first expected answer."""
    correct: bool
    primary_error: CallError | None
    errors: tuple[ScoreError, ...] = ()
    parsed: bool
    """No region failed to parse, and there was an output."""
    schema_valid: bool
    """Parsed, and every call names a known tool and satisfies its schema."""
    names_correct: bool
    """The multiset of called names equals that of an acceptable answer."""
    arguments_matched: int = 0
    arguments_predicted: int = 0
    arguments_expected: int = 0
    """Top-level arguments of the best-matching answer, for precision, recall and F1."""
    called: bool = False


class Rate(_Frozen):
    """A share of cases with its 95% interval (Wilson); all three are null where there is no case."""

    value: float | None
    successes: int
    n: int
    low: float | None
    high: float | None


class Distribution(_Frozen):
    """A quantity over the cases that have it; null where none has."""

    n: int
    mean: float | None
    p50: float | None
    p95: float | None


class CallConfusion(_Frozen):
    """Whether the case wants a call, by whether the model attempted one (a malformed attempt is an attempt)."""

    call_wanted_and_made: int
    call_wanted_not_made: int
    no_call_wanted_but_made: int
    no_call_wanted_none_made: int


class Report(Record):
    """What an evaluation found. Every rate is over all scored cases; unscored ones are counted apart."""

    num_cases: int
    num_unscored: int
    unscored_ids: tuple[str, ...]
    """Cases without an answer: the backend failed on them, or the saved predictions lack them."""
    call_accuracy: Rate
    """The headline: right behaviour, right names, right arguments."""
    parse_rate: Rate
    schema_valid_rate: Rate
    name_accuracy: Rate
    argument_precision: float | None
    argument_recall: float | None
    argument_f1: float | None
    """Over top-level arguments: right ones among all predicted, among all expected, and their harmonic mean."""
    call_confusion: CallConfusion
    errors: dict[CallError, int]
    """Wrong cases by their primary error; the values add up to the number of wrong cases."""
    by_category: dict[str, Rate]
    by_tool: dict[str, Rate]
    """Call accuracy of the cases whose first expected answer calls the tool."""
    latency_s: Distribution
    prompt_tokens: Distribution
    completion_tokens: Distribution
    model: ModelRef | None
    cases_sha256: str
    tools_sha256: str | None
    decode_sha256: str | None
    default_equals_omitted: bool
    scorer_version: int


class MetricsLine(Record):
    """A line of metrics.jsonl: means over the optimizer steps since the line before, or a held-out evaluation.

    `ce`, `kd` and `hidden` are the components before their weights:
    loss = ce_weight * ce + kd_weight * kd + hidden_weight * hidden.
    Where some steps train on what the student samples, `loss` is the mean over all steps, and each component that over
    the steps of its kind.
    """

    step: int
    epoch: float
    loss: float | None = None
    ce: float | None = None
    kd: float | None = None
    """KL(teacher || student) at kd_temperature, times its square."""
    hidden: float | None = None
    kd_gate_pass: float | None = None
    """Share of the token weight that `kd_gate` leaves to the teacher's soft labels; none where it is off."""
    on_policy_kd: float | None = None
    """`kd` of the steps that train on samples."""
    on_policy_hidden: float | None = None
    """`hidden` of these steps."""
    on_policy_examples: int | None = None
    """Samples that were trained on."""
    on_policy_valid: float | None = None
    """Share of them that can be read and whose calls fit their tools' schemas."""
    learning_rate: float | None = None
    grad_norm: float | None = None
    """Before clipping."""
    tokens_per_s: float | None = None
    """Tokens that the student computed for the loss, each shared one once; those of sampling only take time."""
    examples_per_s: float | None = None
    held_out_ce: float | None = None
    """Nats per completion token."""
    held_out_token_accuracy: float | None = None
    held_out_call_accuracy: float | None = None
    """Share of the monitored traces that the student answers with exactly the verified calls."""


class Manifest(Record):
    """How an artefact directory came to be."""

    stage: str
    status: Literal["running", "complete"]
    config: dict[str, Any]
    seed: int
    packages: dict[str, str]
    model: ModelRef | None = None
    tokenizer_sha256: str | None = None
    template_sha256: str | None = None
    inputs: dict[str, str] = Field(default_factory=dict)
    """Input path to SHA-256."""
    started_at: str
    wall_time_s: float = 0.0
    """Seconds of work, added up over resumed runs."""


RECORD_TYPES: dict[str, type[BaseModel]] = {
    "eval_case": EvalCase,
    "generation_stats": GenerationStats,
    "manifest": Manifest,
    "metrics_line": MetricsLine,
    "outcome": Outcome,
    "prediction": Prediction,
    "reject": Reject,
    "report": Report,
    "saved_prediction": SavedPrediction,
    "score": Score,
    "seed_request": SeedRequest,
    "teacher_report": TeacherReport,
    "tool_call": ToolCall,
    "tool_spec": ToolSpec,
    "trace": Trace,
    "worked_example": WorkedExample,
}
"""File stem under `schemas/records/` to the record's type."""
