"""Traces of which only the group, the category and the origin matter."""

from fcdistill.records import Message, ModelRef, Trace, TraceMeta


def trace(identity: str, group: str, category: str = "simple", made_of: tuple[str, ...] = ()) -> Trace:
    teacher = ModelRef(model="m", params={"from": list(made_of)} if made_of else {})
    meta = TraceMeta(source="call_first", category=category, plan_cell="c", teacher=teacher)  # type: ignore[arg-type]
    messages = (Message(role="user", content=identity), Message(role="assistant", content="no"))
    return Trace(id=identity, messages=messages, tools=(), split_group=group, meta=meta)
