"""Requests, verified traces, what failed, and what a generation counted."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from fcdistill.records.conversation import (
    Category,
    ConversationKind,
    FunctionTool,
    Message,
    ModelRef,
    ToolCall,
    ToolsOffered,
    ToolSpec,
)
from fcdistill.records.record import Frozen, Record

__all__ = [
    "CellCoverage",
    "Check",
    "DedupeReport",
    "Diversity",
    "GenerationStats",
    "Outcome",
    "PlannedKept",
    "Reject",
    "RemovedPair",
    "RoundYield",
    "SeedRequest",
    "SourceYield",
    "StageCount",
    "Trace",
    "TraceMeta",
    "WorkedExample",
]


class Check(Frozen):
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


class TraceMeta(Frozen):
    """Where a trace comes from."""

    source: Literal[
        "call_first",
        "request_first",
        "multi_turn",
        "step",
        "varied",
        "joined",
        "clarified",
        "continued",
        "import",
        "recorded",
    ]
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
    votes: int | None = None
    """Of several blind answers to the request, how many make the candidate's calls."""

    @property
    def failed(self) -> Check | None:
        """The first check that failed, or None for a trace to keep."""
        return next((check for check in self.candidate.meta.checks if not check.ok), None)


class StageCount(Frozen):
    """How many candidates met a check, and how many passed it."""

    checked: int
    passed: int


class PlannedKept(Frozen):
    """How many traces were planned, and how many were kept."""

    planned: int
    kept: int


class SourceYield(PlannedKept):
    """What one source gave; for recorded answers `planned` are those that were read."""

    rejected: dict[str, int] = Field(default_factory=dict)
    """Rejects by the check that failed."""
    cells_filled: int = 0
    """Cells of the plan of which it gave a kept trace."""


class Diversity(Frozen):
    """How varied the kept requests of a source are; a figure that can't be measured is null."""

    requests: int
    wordings_per_value: float | None
    """Mean number of distinct requests for a value of an enum or boolean argument."""
    type_token_ratio: float | None
    """Distinct words among all words of the requests; it falls as requests become more."""
    self_similarity: float | None
    """Mean Jaccard similarity of the words of each request and of its nearest neighbour, of at most 500 requests."""


class RoundYield(Frozen):
    """What one teacher made in one round."""

    round: int
    teacher: str
    asked: int
    """Planned traces that earlier attempts had left."""
    kept: int
    """Those of them that this round settled, and that passed all checks."""


class CellCoverage(Frozen):
    """A cell of the plan, and how many of its traces were asked for, made and kept.

    A trace with several calls counts in the cell of each.
    """

    tool: str
    """Empty where no call is planned, or a user's request says what is right."""
    arity: Category | Literal["unknown"]
    optional: tuple[str, ...] = ()
    """Optional arguments that the call gives."""
    enums: dict[str, Any] = Field(default_factory=dict)
    """Arguments whose schema lists their values, to the value that the call gives."""
    phrasing: str = ""
    """The register of the request; empty for a user's own, `recorded` where a recorded answer took the place."""
    edges: dict[str, str] = Field(default_factory=dict)
    """Arguments of the call that lie on an edge of what their schema allows, to the edge's name."""
    offered: ToolsOffered = "all"
    """Which tools the prompt shows."""
    conversation: ConversationKind | None = None
    """How the trace's calls build on one another, where they are made in several turns."""
    asked: int
    made: int
    """With a usable request and an answer to it, whatever the later checks say."""
    kept: int


class RemovedPair(Frozen):
    """A request that was removed for its likeness to another."""

    check: str
    """`duplicate`, `near_duplicate` or `contaminated`."""
    id: str
    request: str
    of: str
    """Id of the trace that stays, or of the eval case."""
    of_request: str
    jaccard: float
    """Share of common word trigrams; 1 for the same words."""


class DedupeReport(Frozen):
    """What was removed as a repetition, at which thresholds."""

    near_duplicate_jaccard: float
    contamination_jaccard: float
    removed: dict[str, int]
    """Traces by the check that removed them."""
    pairs: tuple[RemovedPair, ...]
    """Of each check the least alike: by them a threshold is judged."""


class GenerationStats(Record):
    """What a generation made: `stats.json`."""

    planned: int
    kept: int
    rejected: int
    reused: int = 0
    """Traces of earlier generations that took the place of a planned one."""
    unasked: int = 0
    """Planned traces that are missing since there is no teacher to be asked; neither kept nor rejected."""
    attempts: int
    """Attempts in all; a reject is tried again before it is given up."""
    rounds: tuple[RoundYield, ...] = ()
    """By round and teacher, in order; traces of earlier generations, and those made without a teacher, are in none."""
    stages: dict[str, StageCount]
    """Per check, over all attempts."""
    by_source: dict[str, SourceYield]
    diversity: dict[str, Diversity] = Field(default_factory=dict)
    """Of the kept requests, by source; empty in a shard's counts."""
    by_category: dict[str, PlannedKept]
    calls_by_tool: dict[str, int]
    """Calls in kept traces; a tool that stays at 0 was not covered."""
    cells: tuple[CellCoverage, ...] = ()
    """Per planned cell, in the plan's order."""
    votes: dict[str, int] = Field(default_factory=dict)
    """Where the teacher gave several answers: attempts by how many of them make the candidate's calls."""
    dedupe: DedupeReport | None = None
    """Absent from a shard's counts, and from what earlier versions wrote."""
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Wall time of all attempts: the teacher's work, and a judge's and an executor's where there is one."""
    completion_tokens_per_s: float | None
