"""Gold cases, answers to them, verdicts, and what these add up to."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fcdistill.records.conversation import (
    Behaviour,
    Category,
    FinishReason,
    FunctionTool,
    Message,
    ModelRef,
    ToolCall,
    ToolsInPrompt,
)
from fcdistill.records.record import Frozen, Record

__all__ = [
    "Answer",
    "Baseline",
    "CALL_ERRORS",
    "CallConfusion",
    "CallError",
    "Distribution",
    "EvalCase",
    "GateCheck",
    "GateVerdict",
    "OfficialDisagreement",
    "PairedComparison",
    "ParseError",
    "Prediction",
    "Rate",
    "RepeatFigures",
    "RepeatedRate",
    "Report",
    "SavedPrediction",
    "Score",
    "ScoreError",
]

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


Answer = Annotated[tuple[ToolCall, ...], Field(description="One acceptable list of calls, in any order")]


Repetition = Annotated[
    int,
    Field(ge=0, exclude_if=lambda value: value == 0, description="Which of several answers to the case, from 0"),
]


class EvalCase(Record):
    """A gold case: matching any one acceptable answer is right."""

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    tools: tuple[FunctionTool, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    """None: the suite's catalogue."""
    behaviour: Behaviour
    expected: tuple[Answer, ...] = Field(min_length=1)
    comparators: dict[str, str] = Field(default_factory=dict)
    """`tool.param` to `exact`, `casefold`, `numeric(TOL)`, `set`, `date`, `any_of`, `optional` or `ignore`; `set`,
    `any_of` and `optional` take a rule for what they hold, as in `any_of(casefold)`. Under `any_of` the expected value
    lists acceptable ones; under `optional` the argument may be left out. Where a case has none for a parameter, the
    `x-comparator` of the parameter's schema holds."""
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


class ParseError(Frozen):
    """A region of model output that looks like a call and is not one."""

    kind: Literal[
        "invalid_json", "invalid_syntax", "duplicate_key", "not_finite", "unclosed", "not_a_call", "unknown_dialect"
    ]
    detail: str
    start: int
    """Character offset of the region in the raw text; `end` is exclusive."""
    end: int


class Prediction(Record):
    """What a model answered to one case. `error` means that it was not asked successfully: the case is unscored."""

    id: str
    repetition: Repetition = 0
    text: str = ""
    prose: str | None = None
    """What the answer says in words, where its text holds thought too; None: the text says it."""
    calls: tuple[ToolCall, ...] = ()
    parse_errors: tuple[ParseError, ...] = ()
    dialects: tuple[str, ...] = ()
    """The formats in which the text's calls stand, and `unknown` where marks of a call are in none that is known."""
    finish_reason: FinishReason = "unknown"
    latency_s: float | None = None
    """Seconds of the batch that answered this case, divided by the batch's size."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    thought_tokens: int | None = Field(default=None, exclude_if=lambda value: value is None)
    """Those of the completion tokens with which the model thought; None where that is not known."""
    error: str | None = None


class SavedPrediction(Record):
    """A line of a file of saved answers: an output text, an API's `tool_calls`, or what an earlier eval wrote."""

    id: str
    repetition: int | None = Field(default=None, ge=0)
    """Which of several answers to the case, from 0; those that do not say take the free numbers in the file's order."""
    text: str | None = None
    """The raw output; calls are read from it where `tool_calls` and `calls` hold none."""
    tool_calls: tuple[Any, ...] | None = None
    """`{name, arguments}`, also in OpenAI's wrapping and with arguments as a JSON string."""
    calls: tuple[ToolCall, ...] | None = None
    parse_errors: tuple[ParseError, ...] = ()
    prose: str | None = None
    dialects: tuple[str, ...] = ()
    finish_reason: str | None = None
    latency_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    thought_tokens: int | None = None
    error: str | None = None
    """Why there is no answer; the case stays unscored."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.text is None and self.tool_calls is None and self.calls is None and self.error is None:
            raise ValueError("neither text nor tool_calls is given")
        return self


class ScoreError(Frozen):
    """One way in which an answer is wrong."""

    code: CallError
    path: str
    """`tool.param` with a JSON pointer below it, or empty for the whole answer."""
    detail: str


class Score(Record):
    """The verdict on one answer to a case."""

    id: str
    repetition: Repetition = 0
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
    official_correct: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    """The verdict of the suite's own checker, where it has one (BFCL)."""
    official_error: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Its kind of error, a colon and its words."""


class Rate(Frozen):
    """A share of answers with its 95% interval (Wilson); all three are null where there is no case.

    Every case has one answer, or equally many: then cases are still the unit of the interval.
    """

    value: float | None
    successes: int
    n: int
    """Answers."""
    low: float | None
    high: float | None


class Distribution(Frozen):
    """A quantity over the cases that have it; null where none has."""

    n: int
    mean: float | None
    p50: float | None
    p95: float | None


class RepeatedRate(Frozen):
    """A mean over cases with its 95% interval; cases are the unit."""

    value: float
    low: float
    high: float


class RepeatFigures(Frozen):
    """How reliable a model is that was asked each case several times."""

    num_always_right: int
    num_sometimes_right: int
    num_never_right: int
    """Cases by their answers; the three add up to the scored cases."""
    consistency: RepeatedRate
    """How likely two answers to one case get the same verdict."""
    pass_hat: tuple[RepeatedRate, ...]
    """How likely j answers to one case are all right, for j from 1 to the number of repetitions (pass^j)."""


class CallConfusion(Frozen):
    """Whether the case wants a call, by whether the model attempted one (a malformed attempt is an attempt)."""

    call_wanted_and_made: int
    call_wanted_not_made: int
    no_call_wanted_but_made: int
    no_call_wanted_none_made: int


class PairedComparison(Frozen):
    """A baseline and a candidate on the same cases: who was right where the other was not.

    With several answers to a case, it is right where more than half of them are; difference, interval and p-values are
    of each case's share of right answers.
    """

    num_pairs: int
    both_right: int
    baseline_only: int
    """Right before and wrong now: regressions."""
    candidate_only: int
    difference: float
    """Call accuracy of the candidate less that of the baseline."""
    low: float
    high: float
    """95% interval of the difference (paired bootstrap over cases)."""
    p_worse: float
    """Exact one-sided McNemar, or with several answers the sign-flip test: how likely so large a drop is by chance."""
    p_differs: float
    """The same, two-sided."""


class GateCheck(Frozen):
    """One rule of the gate and whether the run satisfies it."""

    rule: Literal["min_accuracy", "max_drop", "critical"]
    passed: bool
    detail: str
    """What was found and what is required, in one sentence."""


class GateVerdict(Frozen):
    """Whether a run passes the gate: what is printed, every file and the exit code follow from this alone."""

    passed: bool
    checks: tuple[GateCheck, ...]
    comparison: PairedComparison | None = None
    """Against the baseline, where one is given."""
    regressed_ids: tuple[str, ...] = ()
    fixed_ids: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()
    """What differs between baseline and run and was allowed to; a mismatch that is not allowed is no verdict."""
    warnings: tuple[str, ...] = ()


class OfficialDisagreement(Frozen):
    """A case on which the suite's own checker and our scorer differ."""

    id: str
    correct: bool
    official_correct: bool
    kind: str
    """The error that one of them found and the other did not: our error code, or the checker's kind of error."""
    detail: str


class Report(Record):
    """What an evaluation found. Every rate is over all scored cases; unscored ones are counted apart."""

    num_cases: int
    repeat: int = Field(default=1, ge=1, exclude_if=lambda value: value == 1)
    """Answers to each case."""
    num_unscored: int
    unscored_ids: tuple[str, ...]
    """Cases that lack an answer: the backend failed on them, or the saved predictions lack them."""
    call_accuracy: Rate
    """The headline: right behaviour, right names, right arguments."""
    repeats: RepeatFigures | None = Field(default=None, exclude_if=lambda value: value is None)
    """Where each case was asked several times and any was scored. What follows counts a case by one answer that speaks
    for it (right where more than half of its answers are), but for the rates, which are over all answers."""
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
    thought_tokens: Distribution = Distribution(n=0, mean=None, p50=None, p95=None)
    """Of the completion tokens those with which the model thought."""
    dialects: dict[str, int] = Field(default_factory=dict)
    """Answers by the format in which their calls stand, the commonest first; `unknown` are marks of a call in no known
    one."""
    dialect: str | None = None
    """The format that the model's chat template writes; null where that is not known here."""
    num_other_dialect: int | None = None
    """Answers with a call in another format than that; null where it is not known."""
    num_unknown_dialect: int = 0
    """Answers with marks of a call in no known format."""
    model: ModelRef | None
    cases_sha256: str
    tools_sha256: str | None
    template_sha256: str | None = None
    """Of the chat template; null where saved predictions were scored or a server rendered the prompts."""
    tools_in_prompt: ToolsInPrompt | None = None
    """Null where the template is."""
    decode_sha256: str | None
    """Null where saved predictions were scored."""
    decode: dict[str, bool | int | float] | None = Field(default=None, exclude_if=lambda value: value is None)
    """The settings that the hash is of, as the configuration names them."""
    default_equals_omitted: bool
    scorer_version: int
    official_accuracy: Rate | None = Field(default=None, exclude_if=lambda value: value is None)
    """What the suite's own checker calls right, where it has one (BFCL)."""
    official_disagreements: tuple[OfficialDisagreement, ...] = Field(default=(), exclude_if=lambda value: not value)
    set_aside: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Cases of the suite that no answer could satisfy, each with the reason: they are not among the cases."""
    gate: GateVerdict | None = None
    """The verdict, where a floor or a baseline was given."""


class Baseline(Record):
    """What later runs are judged against: the verdicts on each case, and under which conditions it was found."""

    scores: tuple[Score, ...]
    """All answers' verdicts."""
    repeat: int = Field(default=1, ge=1, exclude_if=lambda value: value == 1)
    """Answers to each case."""
    cases_sha256: str
    tools_sha256: str | None
    template_sha256: str | None = None
    """Of the chat template; null where saved predictions were scored or a server rendered the prompts."""
    tools_in_prompt: ToolsInPrompt | None = None
    decode_sha256: str | None
    """Null where saved predictions were scored."""
    default_equals_omitted: bool
    scorer_version: int
    model: ModelRef | None = None
    """Who answered; another model may be judged against it."""
