from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.prompts.worked_examples import choose_examples, example_turns, read_examples, with_context
from fcdistill.records import Message, ToolCall, ToolSpec, WorkedExample
from fcdistill.storage import write_jsonl
from fcdistill.tools.validation import CallValidator

LIGHT = ToolSpec(name="set_light", parameters={"type": "object", "properties": {"room": {"type": "string"}}})
TIMER = ToolSpec(name="set_timer", parameters={"type": "object", "properties": {"minutes": {"type": "integer"}}})


def example(identity: str, category: str, *calls: tuple[str, dict[str, object]], **fields: str) -> WorkedExample:
    made = tuple(ToolCall(name=name, arguments=arguments) for name, arguments in calls)
    text = "" if made else "I can't."
    return WorkedExample(id=identity, request=f"request {identity}", category=category, calls=made, text=text, **fields)


LIGHTS = [example(f"light-{n}", "simple", ("set_light", {"room": "hall"})) for n in range(3)]
TIMERS = [example(f"timer-{n}", "simple", ("set_timer", {"minutes": n})) for n in range(3)]
BOTH = [example("both", "parallel_multiple", ("set_light", {"room": "hall"}), ("set_timer", {"minutes": 1}))]
REFUSALS = [example(f"refusal-{n}", "irrelevance") for n in range(3)]
ALL = [*TIMERS, *LIGHTS, *BOTH, *REFUSALS]


def ids(examples: list[WorkedExample]) -> list[str]:
    return [each.id for each in examples]


def test_two_examples_of_each_kind_are_shown() -> None:
    calls = ["light-0", "light-1", "timer-0", "timer-1", "both"]
    assert ids(choose_examples(ALL, [LIGHT, TIMER], with_refusals=False)) == calls
    assert ids(choose_examples(ALL, [LIGHT, TIMER], with_refusals=True)) == ["refusal-0", "refusal-1", *calls]


def test_no_example_calls_a_tool_that_is_not_there() -> None:
    assert ids(choose_examples(ALL, [TIMER], with_refusals=False)) == ["timer-0", "timer-1"]
    assert choose_examples(ALL, [], with_refusals=False) == []


def test_turns_hold_the_context_in_the_users_turn() -> None:
    noon = example("noon", "simple", ("set_timer", {"minutes": 1}), system="It is noon.")
    turns = example_turns([noon, REFUSALS[0]])
    assert turns[:2] == [
        Message(role="user", content="(It is noon.)\nrequest noon"),
        Message.calling([ToolCall(name="set_timer", arguments={"minutes": 1})]),
    ]
    assert turns[2:] == [
        Message(role="user", content="request refusal-0"),
        Message(role="assistant", content="I can't."),
    ]
    assert with_context("", "hi") == "hi"


def test_examples_that_break_their_schema_are_refused(tmp_path: Path) -> None:
    validator = CallValidator([LIGHT, TIMER])
    write_jsonl(tmp_path / "good.jsonl", ALL)
    assert read_examples(tmp_path / "good.jsonl", validator) == ALL
    for wrong, message in (
        (example("e", "simple", ("set_timer", {"minutes": "ten"})), "example e: set_timer/minutes: "),
        (example("e", "simple", ("set_lihgt", {})), "did you mean set_light"),
    ):
        write_jsonl(tmp_path / "wrong.jsonl", [wrong])
        with pytest.raises(DataError, match=f"my file .*wrong.jsonl, .*{message}") as caught:
            read_examples(tmp_path / "wrong.jsonl", validator, "my file")
        assert caught.value.required and caught.value.fix
