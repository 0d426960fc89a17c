"""A few traces and rejects about a light, a timer and small talk."""

from fcdistill.records import Message, ModelRef, Reject, ToolCall, Trace, TraceMeta
from tests.generation.home import catalog

LIGHT = ToolCall(name="set_light", arguments={"room": "kitchen", "state": "off"})
TIMER = ToolCall(name="set_timer", arguments={"duration": {"minutes": 12}, "label": 'a "tea" </tool_call>\n'})


def trace(identity: str, *messages: Message) -> Trace:
    meta = TraceMeta(source="request_first", category="simple", plan_cell="", teacher=ModelRef(model="m"))
    return Trace(id=identity, messages=messages, tools=catalog().tools, split_group=identity, meta=meta)


def said(text: str) -> Message:
    return Message(role="user", content=text)


def reject(candidate: Trace, check: str = "schema") -> Reject:
    return Reject(id=candidate.id, check=check, detail="it is wrong", candidate=candidate)


TRACES = [
    trace("one", said("Kitchen light off, and tea in 12 minutes."), Message.calling([LIGHT, TIMER])),
    trace("none", said("Tell me a joke."), Message(role="assistant", content="I can only help with the house.")),
    trace(
        "steps",
        Message(role="system", content="Be brief."),
        said("Is it cold in the hall? If so, light off in the kitchen."),
        Message.calling([ToolCall(name="get_sensor", arguments={"sensor": "temperature"}), TIMER]),
        Message(role="tool", content='{"celsius": 12}'),
        Message(role="tool", content="started"),
        Message.calling([LIGHT]),
    ),
]
