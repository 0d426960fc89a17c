"""What is said and called: messages, tools and calls, in OpenAI's shape."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fcdistill.records.record import Frozen

__all__ = [
    "Behaviour",
    "Category",
    "ConversationKind",
    "FinishReason",
    "FollowUpKind",
    "FunctionCall",
    "FunctionTool",
    "Message",
    "ModelRef",
    "ResultKind",
    "ToolCall",
    "ToolSpec",
    "ToolsInPrompt",
    "ToolsOffered",
]

Category = Literal["simple", "multiple", "parallel", "parallel_multiple", "irrelevance", "clarify"]
"""BFCL's words, and `clarify` for requests that lack a required value."""


ResultKind = Literal["chained", "referring", "repeated"]
"""How a later call builds on an earlier one whose result is heard: one request asks for both, and the second takes a
value of the first one's result; a later request refers to that value; or a later request asks for the same again with
one other value."""


FollowUpKind = Literal["completed", "corrected", "carried_over", "switched", "resumed", "social"]
"""How a user goes on after a call whose result nobody hears: the value that the request lacked is said; one value is
corrected; the same is asked for with another value; something else is asked for; something else is asked for, and then
the first call again with another value; or one of two turns is a greeting or the like, for which a tool without
parameters is called."""


ConversationKind = Literal[ResultKind, FollowUpKind]
"""How the turns of a conversation build on one another."""


ToolsOffered = Literal["all", "others", "none"]
"""Which tools a prompt shows: all, all but those that its request asks for, or none."""


Behaviour = Literal["call", "no_call", "clarify"]


FinishReason = Literal["stop", "call_complete", "length", "error", "unknown"]


ToolsInPrompt = Literal["full", "compact", "none"]
"""How a prompt shows the tools: their JSON Schemas, a signature each, or not at all."""


class ToolSpec(Frozen):
    """One tool: a name, what it does, and a JSON Schema of its arguments."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON Schema 2020-12 of the arguments object, unless its `$schema` says otherwise."""


class ToolCall(Frozen):
    """One call. `arguments` is an object, never a JSON string."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class FunctionTool(Frozen):
    """A `ToolSpec` in OpenAI's wrapping, as chat templates expect it."""

    type: Literal["function"] = "function"
    function: ToolSpec


class FunctionCall(Frozen):
    """A `ToolCall` in OpenAI's wrapping, as chat templates expect it."""

    id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    type: Literal["function"] = "function"
    function: ToolCall


class Message(Frozen):
    """One chat message. `content` is never null, since several chat templates break on null."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    reasoning: str = Field(default="", exclude_if=lambda value: not value)
    """What the assistant thought before it answered; no mark of a thought stands round it."""
    tool_calls: tuple[FunctionCall, ...] = Field(default=(), exclude_if=lambda value: not value)
    tool_call_id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    name: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @field_validator("content", "reasoning", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object) -> object:
        return "" if value is None else value

    @model_validator(mode="after")
    def _calls_and_thoughts_are_the_assistants(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"a message of role {self.role!r} holds tool_calls; only the assistant calls tools")
        if self.reasoning and self.role != "assistant":
            raise ValueError(f"a message of role {self.role!r} holds reasoning; only the assistant's thought is told")
        return self

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The bare calls of this message."""
        return tuple(call.function for call in self.tool_calls)

    @classmethod
    def calling(cls, calls: "tuple[ToolCall, ...] | list[ToolCall]", *, reasoning: str = "") -> "Message":
        """An assistant message that makes these calls, after this thought."""
        wrapped = tuple(FunctionCall(function=call) for call in calls)
        return cls(role="assistant", reasoning=reasoning, tool_calls=wrapped)


class ModelRef(Frozen):
    """Which model answered or was trained, and with which decode parameters."""

    model: str
    revision: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
