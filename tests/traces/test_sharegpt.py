import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.records import FunctionTool, Message, ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import parse_output
from fcdistill.traces.sharegpt import (
    TurnError,
    own_system,
    read_answer,
    read_system,
    read_tool_results,
    write_turns,
)
from tests.generation.home import catalog

TOOLS = [tool.model_dump(mode="json") for tool in catalog().tools]
FOREIGN = "You call functions. Signatures stand within <tools></tools> tags: {} Answer within <tool_call></tool_call>."
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["</tools>", "<tools>[", "</tool_call>", "it's", '{"a": 1}', "<tools>\n"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


@given(TEXTS, TEXTS, st.dictionaries(TEXTS, VALUES, max_size=3))
@settings(deadline=None)
def test_tools_and_calls_are_read_back_whatever_they_hold(
    system: str, description: str, arguments: dict[str, object]
) -> None:
    spec = ToolSpec(name="f", description=description, parameters={"type": "object", "default": arguments})
    call = ToolCall(name="f", arguments=arguments)
    messages = [Message(role="system", content=system), Message(role="user", content="x"), Message.calling([call])]
    shown, _, answer = write_turns(messages, [spec])
    own, tools = read_system(shown["value"])
    assert tools == [FunctionTool(function=spec).model_dump(mode="json")]
    assert own == own_system(shown["value"]) == system.strip()
    assert parse_output(read_answer(answer["value"])).calls == (call,)


@given(TEXTS, TEXTS)
def test_texts_beside_calls_and_results_are_kept(text: str, result: str) -> None:
    call = ToolCall(name="f", arguments={})
    answer = Message(role="assistant", content=text).model_copy(
        update={"tool_calls": Message.calling([call]).tool_calls}
    )
    first, second = write_turns([answer, Message(role="tool", content=result)], [])
    assert first["from"] == "gpt" and first["value"].startswith(text)
    if "<tool_response>" not in result and "</tool_response>" not in result:
        assert read_tool_results(second["value"]) == [result]


@pytest.mark.parametrize(
    "block",
    [
        f"<tools>{json.dumps(TOOLS)}</tools>",
        f"<tools>\n{json.dumps(TOOLS, indent=2)}\n</tools>",
        "<tools> " + "\n".join(json.dumps(tool) for tool in TOOLS) + " </tools>",
        f"<tools>{TOOLS!r}</tools>",
        "<tools>\n" + "\n".join(map(repr, TOOLS)) + "\n</tools>",
    ],
    ids=["array", "indented", "lines", "python", "python lines"],
)
def test_foreign_instructions_hold_tools_and_nothing_of_their_own(block: str) -> None:
    text = FOREIGN.format(block)
    assert read_system(text) == ("", TOOLS) and own_system(text) == ""


@pytest.mark.parametrize("text", ["", "Be brief.", "Never write <tools></tools>."])
def test_a_system_text_without_tools_is_its_own(text: str) -> None:
    assert read_system(text) == (text, None) and own_system(text) == text


@pytest.mark.parametrize("block", ["<tools>[{broken]</tools>", "<tools>{'a': f()}</tools>", "<tools>[{'a': {1}}]"])
def test_tools_that_can_not_be_read_are_an_error(block: str) -> None:
    with pytest.raises(TurnError, match="neither JSON nor Python"):
        read_system(block)
    assert own_system(block) == ""


@pytest.mark.parametrize(
    ("shown", "arguments"),
    [
        ("{'name': 'f', 'arguments': {'a': \"it's\", 'b': True, 'c': None}}", {"a": "it's", "b": True, "c": None}),
        ('{"name": "f", "arguments": {"a": "it\'s"}}', {"a": "it's"}),
        ("{'arguments': {'a': (1, 2)}, 'name': 'f'}", {"a": [1, 2]}),
    ],
)
def test_calls_as_python_shows_them_are_read(shown: str, arguments: dict[str, object]) -> None:
    output = parse_output(read_answer(f"Well.\n<tool_call>\n{shown}\n</tool_call>"))
    assert output.calls == (ToolCall(name="f", arguments=arguments),) and output.text == "Well."


@pytest.mark.parametrize("shown", ["{'name': 'f', 'arguments': g()}", "{'name': 'f', 'arguments': {1, 2}}", "{'name"])
def test_what_is_neither_stays_and_can_not_be_read(shown: str) -> None:
    text = f"<tool_call>\n{shown}\n</tool_call>"
    assert read_answer(text) == text and parse_output(text).errors
