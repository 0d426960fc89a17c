"""Requests about a light as cases and as traces."""

from typing import Any

from fcdistill.records import EvalCase, Message, ModelRef, ToolCall, Trace, TraceMeta


def case(identity: str, *texts: str) -> EvalCase:
    turns = [Message(role=("user", "assistant")[index % 2], content=text) for index, text in enumerate(texts)]  # type: ignore[arg-type]
    return EvalCase(id=identity, messages=tuple(turns), behaviour="no_call", expected=((),), category="irrelevance")


def trace(identity: str, *texts: str, answer: Message | None = None, category: str = "simple") -> Trace:
    turns = [Message(role=("user", "assistant")[index % 2], content=text) for index, text in enumerate(texts)]  # type: ignore[arg-type]
    meta = TraceMeta(source="call_first", category=category, plan_cell="c", teacher=ModelRef(model="m"))  # type: ignore[arg-type]
    messages = (*turns, answer or calling(room="kitchen"))
    return Trace(id=identity, messages=messages, tools=(), split_group="g", meta=meta)


def calling(**arguments: Any) -> Message:
    return Message.calling([ToolCall(name="set_light", arguments=arguments)])


LONG = "please turn the light in the kitchen on right now"
