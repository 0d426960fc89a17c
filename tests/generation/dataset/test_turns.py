"""What traces of several turns share, and which steps they hold."""

from fcdistill.generation.dataset.turns import (
    conversation_key,
    earlier_steps,
    has_one_request,
    merge_groups,
    user_texts,
)
from fcdistill.records import Message, ModelRef, ToolCall, Trace, TraceMeta
from tests.generation.home import catalog

READ = ToolCall(name="get_sensor", arguments={"sensor": "humidity"})
LIGHT = ToolCall(name="set_light", arguments={"room": "office", "state": "on"})


def user(text: str) -> Message:
    return Message(role="user", content=text)


def trace(*messages: Message, identity: str = "t", group: str = "g") -> Trace:
    meta = TraceMeta(source="multi_turn", category="simple", plan_cell="c", teacher=ModelRef(model="m"))
    return Trace(id=identity, messages=messages, tools=catalog().tools, split_group=group, meta=meta)


SYSTEM = Message(role="system", content="s")
TALK = trace(
    SYSTEM,
    user("How humid?"),
    Message.calling([READ]),
    Message(role="tool", content='{"value": 4}'),
    Message(role="assistant", content="Value: 4."),
    user("Then light the office."),
    Message.calling([LIGHT]),
)


def test_what_the_user_says() -> None:
    assert user_texts(TALK) == ["How humid?", "Then light the office."]
    assert not has_one_request(TALK) and has_one_request(trace(SYSTEM, user("a"), Message.calling([LIGHT])))


def test_the_past_of_an_answer_is_all_that_was_said_and_done_before_it() -> None:
    def key(*messages: Message) -> str:
        return conversation_key(trace(*messages, Message.calling([LIGHT])))

    assert key(user("How humid?")) == key(SYSTEM, user("how HUMID")) != key(user("How hot?"))
    assert key(*TALK.messages[:-1]) != key(*TALK.messages[:4], *TALK.messages[5:-1])
    other = [*TALK.messages[:-1]]
    other[2] = Message.calling([ToolCall(name="get_sensor", arguments={"sensor": "temperature"})])
    assert key(*TALK.messages[:-1]) != key(*other)
    assert conversation_key(trace(user("x"), Message.calling([LIGHT]))) == key(user("x")), "the answer plays no part"


def test_a_question_to_the_user_is_an_answer_too_but_a_report_of_a_result_is_none() -> None:
    asking = trace(
        user("Light, please."),
        Message(role="assistant", content="Which room?"),
        user("office"),
        Message.calling([LIGHT]),
    )
    (step,) = earlier_steps(asking)
    assert step.answer.content == "Which room?" and step.meta.category == "clarify"
    assert "answer 1 of t" in step.meta.checks[-1].detail


def test_the_steps_before_the_answer_are_answers_too() -> None:
    (step,) = earlier_steps(TALK)
    assert step.messages == TALK.messages[:3] and step.answer.calls == (READ,)
    assert (step.id, step.split_group, step.meta.source) == ("t-step-1", "g", "step")
    assert list(earlier_steps(step)) == []


def test_groups_that_share_a_key_become_one_through_others_too() -> None:
    keys = {"a": ["1"], "b": ["1", "2"], "c": ["2"], "d": ["3"], "e": []}
    answer = Message.calling([LIGHT])
    traces = [trace(user(name), answer, identity=name, group=f"group-{name}") for name in keys]
    merged = merge_groups([*traces, traces[4]], lambda each: keys[each.id])
    assert [each.split_group for each in merged] == ["group-a", "group-a", "group-a", "group-d", "group-e", "group-e"]
