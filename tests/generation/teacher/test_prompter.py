"""Tests of `fcdistill.generation.teacher.prompter`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.backends.base import Request
from fcdistill.generation.plan.plan import REGISTERS, PlanItem
from fcdistill.generation.teacher.prompter import Prompter, add_typos, clean_request
from fcdistill.generation.verification.clarifying import Lacking
from fcdistill.generation.verification.english.words import words_of
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.records import ToolCall, WorkedExample
from fcdistill.storage import read_jsonl
from tests.generation.home import EXAMPLES, book, catalog, catalog_of, tool

EXAMPLE_RECORDS = read_jsonl(EXAMPLES, WorkedExample)
HOME = Prompter(catalog(), book(), EXAMPLE_RECORDS)
BARE = Prompter(catalog(), book(), ())
LIGHT = ToolCall(name="set_light", arguments={"room": "kitchen", "state": "on"})
MUSIC = ToolCall(name="play_music", arguments={"query": "jazz"})


def item(*calls: ToolCall, identity: str = "i", room: str = "kitchen", **fields: object) -> PlanItem:
    facts = tuple((("room", room), ("state", "on")) if call is LIGHT else (("query", "jazz"),) for call in calls)
    plain = PlanItem(
        id=identity, source="call_first", category="simple", cell="c", split_group="g", calls=calls, facts=facts
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def prefix(request: Request) -> Sequence[object]:
    return (*request.messages[:-1], request.specs)


@pytest.mark.parametrize("prompter", [HOME, BARE])
def test_prompts_of_one_kind_share_all_but_the_last_message(prompter: Prompter) -> None:
    for calls in ((LIGHT,), (MUSIC,), (LIGHT, MUSIC)):
        one = prompter.write_request(item(*calls))
        other = prompter.write_request(item(*calls, identity="j", room="office", register="terse"))
        assert prefix(one) == prefix(other) and one.messages[-1] != other.messages[-1]
        assert (one.id, other.id) == ("i", "j")
    topics = [prompter.write_request(item(category="irrelevance", topic=topic)) for topic in ("the news", "a joke")]
    assert prefix(topics[0]) == prefix(topics[1])
    asked = [prompter.ask_back("i", text, [Lacking("set_light", "room")]) for text in ("light on", "heat it")]
    assert prefix(asked[0]) == prefix(asked[1])
    answers = [prompter.answer(item(), text) for text in ("light on", "heat it")]
    assert prefix(answers[0]) == prefix(answers[1])


@pytest.mark.parametrize("register", REGISTERS)
def test_the_brief_holds_intent_facts_and_style(register: str) -> None:
    brief = HOME.write_request(item(LIGHT, MUSIC, register=register)).messages[-1]
    intent, facts, style = brief.content.splitlines()
    assert brief.role == "user"
    assert intent.startswith("Intent: set light: Switch the light") and " / play music: " in intent
    assert facts == "Facts: room: kitchen; state: on / query: jazz"
    assert style.startswith("Style: ") and len(style) > len("Style: ")


def test_examples_of_the_tool_are_shown_with_their_requests() -> None:
    shown = [message.content for message in HOME.write_request(item(LIGHT)).messages if message.role == "assistant"]
    own = [example.request for example in EXAMPLE_RECORDS if [call.name for call in example.calls] == ["set_light"]]
    assert own and set(own[:6]) <= set(shown)
    assert {example.request: example for example in EXAMPLE_RECORDS}.keys() >= set(shown)


def test_requests_with_several_calls_show_examples_with_several() -> None:
    shown = [
        message.content for message in HOME.write_request(item(LIGHT, MUSIC)).messages if message.role == "assistant"
    ]
    assert shown and all(len(example.calls) > 1 for example in EXAMPLE_RECORDS if example.request in shown)


@pytest.mark.parametrize("calls", [(LIGHT,), (LIGHT, MUSIC)])
def test_without_examples_neutral_ones_are_shown(calls: tuple[ToolCall, ...]) -> None:
    shown = [message.content for message in BARE.write_request(item(*calls)).messages if message.role == "assistant"]
    assert len(shown) >= 3 and not any("light" in text for text in shown)


def test_a_described_example_uses_the_words_of_its_request() -> None:
    example = WorkedExample(
        id="e",
        request="tomorrow at 6 pm, nudge me to call the bank",
        category="simple",
        system="Current time: 2027-05-02T09:15:00Z (Sunday).",
        calls=(ToolCall(name="create_reminder", arguments={"text": "call the bank", "at": "2027-05-03T18:00:00Z"}),),
    )
    call = ToolCall(name="create_reminder", arguments={"text": "feed the fish", "at": "2027-05-03T18:00:00Z"})
    asked = Prompter(catalog(), book(), [example]).write_request(item(call))
    assert "at: tomorrow at 6 pm" in asked.messages[1].content


def test_implied_arguments_are_no_facts_of_an_example() -> None:
    call = ToolCall(name="set_light", arguments={"room": "office", "state": "on", "brightness": 85})
    example = WorkedExample(id="e", request="office to 85", category="simple", calls=(call,))
    brief = Prompter(catalog(), book(), [example]).write_request(item(LIGHT)).messages[1].content
    assert "Facts: room: office; brightness: 85\n" in brief


def test_a_call_without_arguments_has_no_facts() -> None:
    own = catalog_of(tool("ping", {}))
    plain = PlanItem(
        id="i",
        source="call_first",
        category="simple",
        cell="c",
        split_group="g",
        calls=(ToolCall(name="ping"),),
        facts=((),),
    )
    assert "\nFacts: none\n" in Prompter(own, ValueBook(), ()).write_request(plain).messages[-1].content


def test_the_teacher_is_told_what_is_missing_where_that_is_one_value() -> None:
    room, state = Lacking("set_light", "room"), Lacking("set_light", "state")
    assert BARE.ask_back("i", "heat it", [room]).messages[-1].content == "Request: heat it\nMissing: room"
    assert all("\nMissing: " in turn.content for turn in BARE.ask_back("i", "heat it", [room]).messages[1::2])
    for unclear in ([], [room, state]):
        assert BARE.ask_back("i", "heat it", unclear).messages[-1].content == "Request: heat it"


def test_the_teams_questions_tell_what_they_ask_for() -> None:
    shown = HOME.ask_back("i", "heat it", []).messages
    team = [example for example in EXAMPLE_RECORDS if example.category == "clarify"]
    asked = {turn.content: before.content for before, turn in zip(shown, shown[1:], strict=False)}
    assert asked["How long should the timer run?"] == "Request: Set a timer for the potatoes\nMissing: duration"
    # Rooms are called so for one tool and otherwise for another.
    assert asked["In which room should I turn the light on?"] == "Request: Can you turn the light on?"
    assert {example.text for example in team} <= asked.keys()


def test_the_blind_answer_sees_tools_request_and_context_only() -> None:
    asked = HOME.answer(item(LIGHT, system="Current time: 2027-05-02T09:15:00Z."), "kitchen light")
    assert asked.specs == catalog().specs
    assert asked.messages[-1].content == "(Current time: 2027-05-02T09:15:00Z.)\nkitchen light"
    called = {call.name for message in asked.messages for call in message.calls}
    assert called == catalog().by_name.keys()
    assert all(message.calls for message in asked.messages if message.role == "assistant")
    assert [message.role for message in asked.messages] == ["user", "assistant"] * (len(asked.messages) // 2) + ["user"]


def test_refusals_are_shown_where_no_hint_says_that_a_call_is_right() -> None:
    unhinted = dataclasses.replace(item(LIGHT), category=None)
    asked = HOME.answer(unhinted, "kitchen light")
    assert any(message.role == "assistant" and not message.calls for message in asked.messages)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('  "kitchen light on"\n', "kitchen light on"),
        ("“kitchen light on”", "kitchen light on"),
        ("Request: 'light on'", "light on"),
        ("User: Request: light on", "Request: light on"),
        ("it's on", "it's on"),
        ('play "Imagine"', 'play "Imagine"'),
        ("'", "'"),
        ("", ""),
        ("Sure, could you dim the light?", "Could you dim the light?"),
        ("“Of course! Kitchen light on”", "Kitchen light on"),
        ("sure", "sure"),
        ("Okay, ", "Okay,"),
        ("surely not", "surely not"),
    ],
)
def test_clean_request(text: str, clean: str) -> None:
    assert clean_request(text) == clean


REQUESTS = st.lists(
    st.sampled_from("please turn kitchen light Abbey Road 30 twenty fifteen 7:30 dozen birthday bathroom on a".split()),
    min_size=1, max_size=12,
).map(" ".join)  # fmt: skip


@given(REQUESTS, st.text(max_size=5))
def test_typos_keep_numbers_capitals_and_word_count(text: str, seed: str) -> None:
    typed = add_typos(text, seed, keep={"birthday"})
    assert typed == add_typos(text, seed, keep={"birthday"})
    before, after = text.split(" "), typed.split(" ")
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert len(changed) <= 2
    for one, other in changed:
        assert one in ("please", "turn", "kitchen", "light", "bathroom") and one[0] == other[0]
        assert abs(len(one) - len(other)) <= 1
    assert [w for w in words_of(typed) if w.is_number] == [w for w in words_of(text) if w.is_number]


def test_typos_happen_and_depend_on_the_seed() -> None:
    text = "please turn the kitchen light brighter before dinner"
    typed = {add_typos(text, str(seed)) for seed in range(20)}
    assert len(typed) > 5 and len(typed - {text}) > 4


def test_short_texts_stay() -> None:
    assert add_typos("on at 7", "x") == "on at 7" and add_typos("", "x") == ""
