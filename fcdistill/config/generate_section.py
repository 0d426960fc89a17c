"""The section `generate`."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, StrictBool, StrictFloat, StrictInt, field_validator

from fcdistill.config.backend_section import (
    BackendConfig,
    LocalBackendConfig,
    is_constrainable,
    why_not_constrainable,
    with_default_backend,
)
from fcdistill.config.section import ConfigModel, Rule
from fcdistill.config.train_section import AdaptationConfig
from fcdistill.records import ConversationKind, FollowUpKind, ResultKind

__all__ = [
    "CONTAMINATION_JACCARD",
    "NEAR_DUPLICATE_JACCARD",
    "ExecutorConfig",
    "GenerateConfig",
    "PolicyName",
    "Trust",
    "VerificationConfig",
]

PolicyName = Literal["strict", "balanced", "trusting"]
Trust = Literal["production", "hand_written", "teacher"]
"""Whose answers a source has, which tells how many are wrong before any witness is heard."""

CONTAMINATION_JACCARD = 0.5
NEAR_DUPLICATE_JACCARD = 0.7
"""A word or two more, at an end of the request."""

_GIB = 1024**3


def _asking(run: "GenerateConfig") -> list[str]:
    """The fields that are set to what only a teacher can do, each with its value."""
    values = {
        "rounds": run.rounds > 1 and run.rounds,
        "shard": run.shard,
        "ray": run.ray,
        "num_votes": run.num_votes > 1 and run.num_votes,
        "blind_answers": run.blind_answers,
        "constrained": run.constrained,
        "judge": run.judge is not None and run.judge.backend,
    }
    return [f"{name} ({str(value).lower()})" for name, value in values.items() if value]


class ExecutorConfig(ConfigModel):
    """The user's own function, which carries out the calls of a candidate in a process of its own."""

    function: str = Field(
        description="module:function, called as function(name, arguments); it returns a JSON value, or raises.",
    )
    timeout_s: StrictFloat = Field(10.0, gt=0, description="Longest time of one call; then its process is killed.")
    memory_bytes: StrictInt = Field(
        2 * _GIB, ge=_GIB // 8, description="Address space of the process, what it imports included (RLIMIT_AS)."
    )
    record_results: StrictBool = Field(False, description="Keep what the calls returned in the check's detail.")

    @field_validator("function")
    @classmethod
    def _reference(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value):
            raise ValueError("must be module:function, for example tools:run")
        return value


class VerificationConfig(ConfigModel):
    """How witnesses of a candidate (words, answers, models) are combined."""

    policy: PolicyName = Field(
        "balanced",
        description="strict: words must bear out all of it; balanced: a value that has to be stated must be, and for "
        "the rest an independent answer is enough; trusting: only unsaid numbers are refused.",
    )
    precision: StrictFloat = Field(
        0.97,
        gt=0.5,
        lt=1,
        description="Share of right traces that `traces judge` aims at in what it keeps of this generation.",
    )
    trust: Trust = Field(
        "teacher", description="Whose answers these are: how many are wrong before witnesses are heard."
    )


_GENERATE_RULES: tuple[Rule["GenerateConfig"], ...] = (
    Rule(
        lambda run: run.teacher is None and not run.recorded,
        "teacher: required and not given; only recorded answers (recorded) make traces without one",
    ),
    Rule(
        lambda run: run.teacher is None and bool(_asking(run)),
        lambda run: (
            f"there is no teacher, and {' and '.join(_asking(run))} would ask one: name a teacher, or unset "
            + ("them" if len(_asking(run)) > 1 else "it")
        ),
    ),
    Rule(
        lambda run: run.teacher is not None and run.constrained and not is_constrainable(run.teacher),
        lambda run: why_not_constrainable(run.teacher) if run.teacher is not None else "",
    ),
    Rule(
        lambda run: run.num_votes > 1 and not run.sampling_temperature,
        "num_votes above 1 needs a sampling_temperature above 0: else all answers are the same",
    ),
    Rule(
        lambda run: run.judge is not None and run.num_votes == 1 and not run.blind_answers and not run.judge_grounding,
        "judge is never asked: set num_votes above 1, blind_answers or judge_grounding",
    ),
    Rule(
        lambda run: run.judge is None and run.judge_grounding,
        "judge_grounding needs a judge",
    ),
    Rule(
        lambda run: run.shard is not None and run.rounds > 1,
        lambda run: (
            f"shard is {run.shard}, but rounds is {run.rounds}, and the teacher can't learn before all shards "
            f"are done: set rounds to 1 for the shards; the generation without shard, with rounds {run.rounds}, "
            "then takes them up as its first round and goes on"
        ),
    ),
    Rule(
        lambda run: run.shard is not None and run.ray is not None,
        lambda run: f"shard is {run.shard}, but ray is {run.ray}, and Ray works at all shards: unset one",
    ),
    Rule(
        lambda run: run.rounds > 1 and not isinstance(run.teacher, LocalBackendConfig),
        lambda run: (
            f"rounds is {run.rounds}, but teacher.backend is {getattr(run.teacher, 'backend', None)}, and only a model "
            "that runs here can learn between rounds: set rounds to 1, or name a local teacher"
        ),
    ),
    Rule(
        lambda run: run.rounds > 1 and not run.blind_answers and (run.seeds is None or run.num_request_first == 0),
        lambda run: (
            f"rounds is {run.rounds}, but there are no requests for the adapted teacher to answer: give seeds, or "
            "set blind_answers to true or rounds to 1"
        ),
    ),
    Rule(
        lambda run: run.num_continued > 0 and run.multi_turn_results,
        lambda run: (
            f"num_continued is {run.num_continued}, but multi_turn_results is true, and continued conversations have "
            "no results: set multi_turn_results to false, or num_continued to 0"
        ),
    ),
    Rule(
        lambda run: not run.multi_turn_shares.keys() <= set(run.conversation_kinds),
        lambda run: (
            f"multi_turn_shares names {', '.join(sorted(run.multi_turn_shares.keys() - set(run.conversation_kinds)))}, "
            f"but with multi_turn_results {str(run.multi_turn_results).lower()} the kinds of conversations are "
            f"{', '.join(run.conversation_kinds)}: name some of these, or change multi_turn_results"
        ),
    ),
    Rule(
        lambda run: bool(run.multi_turn_shares) and not any(run.multi_turn_shares.values()),
        "multi_turn_shares are all 0: give one kind a share above 0, or remove the field",
    ),
)


class GenerateConfig(ConfigModel):
    """`fcdistill generate`: a teacher writes traces, verified against the schemas."""

    rules: ClassVar = _GENERATE_RULES

    tools: Path = Field(description="Tool catalogue: JSON as OpenAI, MCP, Anthropic, Gemini or Bedrock have it.")
    skip_invalid: StrictBool = Field(False, description="Leave out tools that can't be used, each with a note.")
    out: Path = Field(description="Output directory.")
    teacher: BackendConfig | None = Field(
        None, description="Who is asked; unset: nobody, and recorded answers are all there is."
    )
    recorded: tuple[Path, ...] = Field(
        (),
        description="Files of recorded answers: logs as `traces import` reads them, or worked examples. They take "
        "their places in the plan, and the teacher is asked for the rest.",
    )
    seeds: Path | None = Field(None, description="JSONL of unlabelled user requests for the request-first source.")
    values: Path | None = Field(None, description="JSON of realistic values and phrases per argument.")
    results: Path | None = Field(
        None, description="JSON of what tools give back, and which arguments their results can fill."
    )
    examples: Path | None = Field(None, description="JSONL of WorkedExample records that show the teacher the domain.")
    decontaminate: tuple[Path, ...] = Field((), description="Eval case files whose requests must not be generated.")
    reuse: tuple[Path, ...] = Field(
        (),
        description="traces.jsonl of earlier generations that fit the catalogue: they take their places in the plan, "
        "and only what is missing is made.",
    )
    seed: StrictInt = Field(0, description="Seed of the plan and of all sampling.")
    num_call_first: StrictInt = Field(400, ge=0, description="Planned call-first traces.")
    num_request_first: StrictInt | None = Field(None, ge=0, description="Seeds to answer; unset: all of them.")
    num_varied: StrictInt = Field(
        0, ge=0, description="Requests that repeat the wording of kept ones with other values."
    )
    num_joined: StrictInt = Field(0, ge=0, description="Requests for several calls, joined from kept requests for one.")
    num_multi_turn: StrictInt = Field(
        0, ge=0, description="Planned conversations in which a second call builds on the first one or its result."
    )
    multi_turn_results: StrictBool = Field(
        True,
        description="Whether the user of a conversation hears what the calls gave back; false, as for a voice "
        "assistant: the user goes on after the call, or answers a question.",
    )
    multi_turn_shares: dict[ConversationKind, Annotated[StrictFloat, Field(ge=0)]] = Field(
        {},
        description="Kinds of conversations with their relative shares; unset: all that multi_turn_results allows, "
        "equally many of each.",
    )
    num_continued: StrictInt = Field(
        0, ge=0, description="Conversations without results that are made from kept requests, without a teacher."
    )
    num_clarified: StrictInt = Field(
        0, ge=0, description="Conversations made from kept clarify traces: the user gives the value, the call follows."
    )
    no_call_fraction: StrictFloat = Field(
        0.15, ge=0, le=0.5, description="Share of call-first plans that call no tool."
    )
    edge_fraction: StrictFloat = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of plans for one call with a number or a length on an edge of its range.",
    )
    removed_tools_fraction: StrictFloat = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of plans for requests that no tool serves whose prompt lacks the very tool, or all tools; "
        "for students that read the tools.",
    )
    sampling_temperature: StrictFloat = Field(
        0.8, ge=0, description="Temperature at which requests are written, and answers drawn where there are several."
    )
    constrained: StrictBool = Field(
        False, description="Blind answers are nothing but text or calls that obey the schemas; local models only."
    )
    attempts: StrictInt = Field(2, ge=1, description="Tries per planned trace before it is given up as a reject.")
    rounds: StrictInt = Field(
        1,
        ge=1,
        description="Rounds of attempts: before each but the first, the local teacher learns the traces kept so far, "
        "and then answers the requests that are left; it lies in the output directory as teacher-round-N.",
    )
    adaptation: AdaptationConfig = Field(AdaptationConfig(), description="How the teacher learns between rounds.")
    no_call_answer: str = Field(
        "I can't help with that: none of my tools does it.",
        min_length=1,
        description="The answer that traces give to requests which no tool serves.",
    )
    current_time: datetime = Field(
        datetime(2027, 5, 2, 9, 15, tzinfo=UTC), description="The now of sampled dates and relative times."
    )
    max_new_tokens: StrictInt = Field(160, ge=1, description="Longest answer of the teacher, in tokens.")
    num_votes: StrictInt = Field(
        1, ge=1, description="Blind answers per request; of several, more than half must make the same calls."
    )
    blind_answers: StrictBool = Field(
        False,
        description="Keep a call-first trace only where the teacher, asked blindly, makes its calls: proof from a "
        "strong teacher. Off, since a weak one writes requests well that it can't answer.",
    )
    verification: VerificationConfig = Field(
        VerificationConfig(), description="How the witnesses of a candidate are combined."
    )
    executor: ExecutorConfig | None = Field(
        None,
        description="module:function, or its fields: carries out all calls; where one fails, the trace is rejected.",
    )
    judge: BackendConfig | None = Field(
        None,
        description="Second model, asked where answers disagree; a candidate is kept where it picks the same calls.",
    )
    judge_grounding: StrictBool = Field(
        False, description="Ask the judge about calls that the grounding check refuses, too."
    )
    near_duplicate_jaccard: StrictFloat = Field(
        NEAR_DUPLICATE_JACCARD,
        gt=0,
        le=1,
        description="Share of common word trigrams from which requests with one answer are near duplicates.",
    )
    contamination_jaccard: StrictFloat = Field(
        CONTAMINATION_JACCARD,
        gt=0,
        le=1,
        description="Share of common word trigrams from which a request counts as taken from an eval case.",
    )
    shard: str | None = Field(
        None,
        description="i/n: work at the i-th of n parts of the plan alone, in out/shard-i-of-n; unset: take up the parts "
        "that lie in out, and finish the generation.",
    )
    ray: StrictInt | None = Field(
        None,
        ge=1,
        description="So many shards are worked at as tasks of Ray, on this machine or the cluster at RAY_ADDRESS, and "
        "then taken up; all machines need out and the inputs under the same paths.",
    )
    ray_gpus: StrictFloat = Field(0.0, ge=0, description="GPUs that Ray keeps free for the work at each shard.")

    @property
    def conversation_kinds(self) -> tuple[ConversationKind, ...]:
        """The kinds of conversations that there can be, in which results are heard or not."""
        kinds: tuple[ConversationKind, ...] = get_args(ResultKind if self.multi_turn_results else FollowUpKind)
        return kinds

    @property
    def conversation_shares(self) -> dict[ConversationKind, float]:
        """The kinds of conversations that are to be made, each with its share, which is above 0."""
        shares = self.multi_turn_shares or dict.fromkeys(self.conversation_kinds, 1.0)
        return {kind: shares[kind] for kind in self.conversation_kinds if shares.get(kind)}

    @classmethod
    def spelled_out(cls, values: Any) -> Any:
        """The values, in which a model reference stands in a mapping, and each mapping says of which kind it is."""
        return with_default_backend(with_default_backend(values, "teacher"), "judge")

    @field_validator("executor", mode="before")
    @classmethod
    def _bare_function(cls, value: Any) -> Any:
        return {"function": value} if isinstance(value, str) else value

    @field_validator("shard")
    @classmethod
    def _one_of_so_many(cls, value: str | None) -> str | None:
        if value is not None:
            numbers = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", value)
            if numbers is None or int(numbers[1]) > int(numbers[2]):
                raise ValueError("must be i/n with i from 1 to n, for example 1/4")
        return value
