import pytest

from fcdistill.generation.imports.recorded_answer import RecordedAnswer, recorded_answers
from fcdistill.records import Check, ToolCall
from fcdistill.toolcalls.parsing import render_calls
from fcdistill.traces.source_formats import Conversation, Turn
from tests.generation.home import verifier


def weather(city: str) -> str:
    return render_calls([ToolCall(name="get_weather", arguments={"city": city})])


def answers(*turns: Turn) -> list[RecordedAnswer]:
    return recorded_answers(Conversation(turns), verifier())


def last_check(answer: RecordedAnswer) -> Check:
    """The check that the answer fails, or the last one: of an answer with calls its grounding."""
    check = answer.judged(trust_no_call=False).checks[-1]
    assert not check.ok or check.name == "grounding"
    return check


def test_a_value_may_stem_from_a_result_and_from_words_but_not_from_calls_or_instructions() -> None:
    before = [Turn("user", "How is the weather there?"), Turn("assistant", "In Oslo?"), Turn("user", "Yes.")]
    assert last_check(answers(*before, Turn("assistant", weather("Oslo")))[-1]).ok
    result = [Turn("user", "Where am I, and how is the weather?"), Turn("tool", '{"place": "Oslo"}')]
    assert last_check(answers(*result, Turn("assistant", weather("Oslo")))[-1]).ok
    for other in (Turn("system", "The user often asks for Oslo."), Turn("assistant", weather("Oslo"))):
        turns = (Turn("user", "Hi."), other, Turn("user", "The weather?"), Turn("assistant", weather("Oslo")))
        assert not last_check(answers(*turns)[-1]).ok


def test_facts_of_a_request_may_reach_calls_of_other_steps_for_it() -> None:
    light = render_calls([ToolCall(name="set_light", arguments={"room": "kitchen", "state": "on", "brightness": 40})])
    request = Turn("user", "The weather in Oslo, then the kitchen light on at 40.")
    first, second = answers(request, Turn("assistant", weather("Oslo")), Turn("tool", "rain"), Turn("assistant", light))
    assert last_check(first).ok and last_check(second).ok
    (alone,) = answers(request, Turn("assistant", weather("Oslo")))
    assert "in no argument: 40" in last_check(alone).detail
    again = answers(request, Turn("assistant", weather("Oslo")), Turn("user", "Go on."), Turn("assistant", light))
    assert "in no argument: 40" in last_check(again[0]).detail
    assert "in no argument: 40" not in last_check(first).detail


@pytest.mark.parametrize(
    ("text", "is_report"),
    [("It rains.", True), (weather("Oslo"), False), ("<tool_call>\n{", False), ("", False)],
)
def test_a_report_is_a_text_after_a_result(text: str, is_report: bool) -> None:
    turns = [Turn("user", "hi"), Turn("tool", "rain"), Turn("assistant", text)]
    assert answers(*turns)[0].is_report is is_report
    assert not answers(turns[0], turns[2])[0].is_report


def test_what_can_not_be_read_stays_as_written_and_spoils_what_follows() -> None:
    bad, good = answers(
        Turn("user", "a"), Turn("assistant", "<tool_call>\n{\n</tool_call>"), Turn("user", "b"), Turn("assistant", "c")
    )
    assert last_check(bad).name == "parse"
    detail = "turn 2, before the answer, can't be read: "
    assert last_check(good).name == "context" and last_check(good).detail.startswith(detail)
    assert good.context[1].content == "<tool_call>\n{\n</tool_call>" and not good.context[1].tool_calls


def test_a_user_speaks_before_an_answer() -> None:
    (answer,) = answers(Turn("system", "a"), Turn("assistant", "Welcome!"))
    assert last_check(answer).detail == "no user speaks before the answer"


def test_ids_tie_results_to_calls() -> None:
    turns = [
        Turn("user", "a"),
        Turn("assistant", f"Well.\n{weather('Oslo')}", call_ids=("x",)),
        Turn("tool", "rain", tool_call_id="x", name="get_weather"),
        Turn("assistant", "It rains.", recorded=False),
    ]
    context = recorded_answers(Conversation((*turns, Turn("user", "b"), Turn("assistant", "c"))), verifier())[
        -1
    ].context
    assert context[1].content == "Well." and context[1].tool_calls[0].id == context[2].tool_call_id == "x"
    assert [answer.index for answer in answers(*turns)] == [1]
