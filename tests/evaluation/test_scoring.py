import json
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcdistill.evaluation.predictions import prediction_from_text
from fcdistill.evaluation.scoring import Scorer, score_case
from fcdistill.records import CALL_ERRORS, EvalCase, Message, Prediction, Score, ToolCall, ToolSpec
from fcdistill.toolcalls.parsing import render_calls
from fcdistill.tools.catalog import read_catalog
from tests.evaluation.mutations import calls, catalogues, object_mutations, path_of, values
from tests.paths import ROOT

SPECS = {spec.name: spec for spec in read_catalog(ROOT / "schemas" / "smart_home.json").specs}
SCORER = Scorer(tuple(SPECS.values()))
DIALECTS: tuple[str, ...] = ("hermes", "llama3", "mistral", "json", "fenced")

GOLD_CALLS = [
    ToolCall(name=name, arguments=arguments)
    for name, arguments in [
        ("set_light", {"room": "kitchen", "state": "on", "brightness": 30, "color": "red"}),
        ("set_thermostat", {"room": "office", "temperature": 21.5, "mode": "heat"}),
        ("get_sensor", {"sensor": "humidity", "room": "bathroom"}),
        ("get_weather", {"city": "Oslo", "day": "tomorrow"}),
        ("play_music", {"query": "Nina Simone", "room": "kitchen", "volume": 40, "shuffle": True}),
        ("control_playback", {"action": "pause"}),
        ("set_timer", {"duration": {"hours": 1, "minutes": 30}, "label": "bread"}),
        ("set_alarm", {"time": "07:00", "days": ["mon", "fri"]}),
        ("create_reminder", {"text": "call mum", "at": "2027-05-03T18:00:00Z", "priority": "high"}),
        ("lock_door", {"door": "front", "action": "lock"}),
        ("start_vacuum", {"rooms": ["kitchen", "office"], "mode": "turbo"}),
        ("add_shopping_items", {"items": [{"name": "milk", "quantity": 2}, {"name": "eggs"}]}),
    ]
]
CALLS_BY_NAME = {call.name: call for call in GOLD_CALLS}


def call(name: str, /, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def case_of(*answers: list[ToolCall], behaviour: str = "call", comparators: dict[str, str] | None = None) -> EvalCase:
    return EvalCase.model_validate(
        {
            "id": "a",
            "messages": [{"role": "user", "content": "please"}],
            "behaviour": behaviour,
            "expected": [[item.model_dump() for item in answer] for answer in answers] or [[]],
            "comparators": comparators or {},
            "category": "simple",
        }
    )


def answer(*calls: ToolCall, text: str = "", finish_reason: str = "stop") -> Prediction:
    return Prediction.model_validate({"id": "a", "text": text, "calls": calls, "finish_reason": finish_reason})


def found(score: Score) -> list[tuple[str, str]]:
    assert score.correct is (not score.errors) is (score.primary_error is None)
    if score.errors:
        assert score.primary_error == min((error.code for error in score.errors), key=CALL_ERRORS.index)
        assert score.primary_error == score.errors[0].code
    return [(error.code, error.path) for error in score.errors]


def errors_of(case: EvalCase, prediction: Prediction, **options: bool) -> list[tuple[str, str]]:
    return found(score_case(case, tuple(SPECS.values()), prediction, **options))


@pytest.mark.parametrize("gold", GOLD_CALLS, ids=lambda gold: gold.name)
def test_each_single_mutation_of_the_arguments_gets_exactly_its_error(gold: ToolCall) -> None:
    schema = SPECS[gold.name].parameters
    seen = set()
    for arguments, code, pointer in object_mutations(gold.arguments, schema):
        seen.add(code)
        score = SCORER.score(case_of([gold]), answer(call(gold.name, **arguments)))
        assert found(score) == [(code, path_of(gold.name, pointer))], arguments
        assert score.parsed and score.names_correct
        assert score.schema_valid is (code == "wrong_value")
    assert {"missing_required", "extra_arg", "wrong_type", "wrong_value"} <= seen


@pytest.mark.parametrize("gold", GOLD_CALLS, ids=lambda gold: gold.name)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_gold_answer_is_right_in_every_dialect(gold: ToolCall, dialect: str) -> None:
    score = SCORER.score(case_of([gold]), prediction_from_text("a", render_calls([gold], dialect), "stop"))
    assert found(score) == []
    assert score.parsed and score.schema_valid and score.names_correct and score.called
    assert score.arguments_matched == score.arguments_expected == score.arguments_predicted == len(gold.arguments)


@pytest.mark.parametrize("gold", GOLD_CALLS, ids=lambda gold: gold.name)
def test_each_single_mutation_of_the_answer_gets_its_error(gold: ToolCall) -> None:
    case, text = case_of([gold]), render_calls([gold])
    other = GOLD_CALLS[GOLD_CALLS.index(gold) - 1]

    def codes(prediction: Prediction) -> list[str]:
        return [code for code, _ in found(SCORER.score(case, prediction))]

    assert codes(answer()) == ["no_output"]
    assert codes(answer(text=" \n\t")) == ["no_output"]
    assert codes(answer(gold, finish_reason="length")) == ["truncated"]
    assert codes(prediction_from_text("a", text[:-20], "length"))[:2] == ["truncated", "parse_error"]
    assert codes(prediction_from_text("a", text.replace("}", "", 1), "stop")) == ["parse_error"]
    assert codes(answer(text="Sure, I will.")) == ["missing_call"]
    assert codes(answer(gold, gold)) == ["wrong_count"]
    assert codes(answer(gold, other)) == ["wrong_count"]
    assert codes(answer(call("zzz", **gold.arguments))) == ["unknown_function"]
    assert codes(answer(other)) == ["wrong_function"]
    # A wrong function that can't take these arguments is also told so, but the function is the primary error.
    assert codes(answer(call(other.name, **gold.arguments)))[0] == "wrong_function"


def test_unwanted_calls() -> None:
    gold = CALLS_BY_NAME["lock_door"]
    assert errors_of(case_of(behaviour="no_call"), answer(text="I can't do that.")) == []
    assert errors_of(case_of(behaviour="no_call"), answer()) == [("no_output", "")]
    assert errors_of(case_of(behaviour="no_call"), answer(gold, gold)) == [("unexpected_call", "lock_door")] * 2
    assert errors_of(case_of(behaviour="no_call"), answer(call("lock_door", door="front"))) == [
        ("unexpected_call", "lock_door"),
        ("missing_required", "lock_door.action"),
    ]


@pytest.mark.parametrize("behaviour", ["no_call", "clarify"])
def test_a_malformed_attempt_is_never_an_abstention(behaviour: str) -> None:
    prediction = prediction_from_text(
        "a", '<tool_call>{"name": "lock_door", "arguments": {"door": ?}</tool_call>', "stop"
    )
    score = SCORER.score(case_of(behaviour=behaviour), prediction)
    assert [error.code for error in score.errors] == ["parse_error"]
    assert score.called and not score.parsed and not score.names_correct and not score.schema_valid


@pytest.mark.parametrize("text", ["Which room?", "どの部屋ですか？", "أي غرفة؟", "Tell me: which room? Thanks."])
def test_a_clarifying_question(text: str) -> None:
    assert errors_of(case_of(behaviour="clarify"), answer(text=text)) == []


def test_clarifying_without_a_question() -> None:
    score = SCORER.score(case_of(behaviour="clarify"), answer(text="No."))
    assert found(score) == [("wrong_value", "")]
    assert score.errors[0].detail == "no question was asked"
    called = answer(CALLS_BY_NAME["lock_door"], text="Right?")
    assert errors_of(case_of(behaviour="clarify"), called) == [("unexpected_call", "lock_door")]


def test_all_errors_are_told_and_the_first_in_order_is_primary() -> None:
    gold = [CALLS_BY_NAME["set_light"], CALLS_BY_NAME["set_timer"]]
    got = [
        call("set_timer", duration={"minutes": 9999}, label="tea"),
        call("set_light", room="kitchn", state="on", brightness=30, color="red", zzz=1),
    ]
    assert errors_of(case_of(gold), answer(*got)) == [
        ("extra_arg", "set_light.zzz"),
        ("enum_violation", "set_light.room"),
        ("constraint_violation", "set_timer.duration/minutes"),
        ("wrong_value", "set_timer.duration/hours"),
        ("wrong_value", "set_timer.label"),
    ]


@settings(deadline=None)
@given(st.lists(st.sampled_from(GOLD_CALLS), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_calls_never_matters(gold: list[ToolCall], rng: random.Random) -> None:
    shuffled = rng.sample(gold, len(gold))
    score = SCORER.score(case_of(gold), answer(*shuffled))
    assert found(score) == []
    mutated = [call(shuffled[0].name, **{**shuffled[0].arguments, "zzz": 1}), *shuffled[1:]]
    for order in (mutated, rng.sample(mutated, len(mutated))):
        assert errors_of(case_of(gold), answer(*order)) == [("extra_arg", f"{shuffled[0].name}.zzz")]
    assert [code for code, _ in errors_of(case_of(gold), answer(*shuffled[1:], text="x"))] == [
        "missing_call" if len(gold) == 1 else "wrong_count"
    ]


def test_matching_is_not_greedy() -> None:
    rules = {"set_light.brightness": "numeric(10)"}
    gold = [call("set_light", room="kitchen", state="on", brightness=value) for value in (50, 60)]
    # 55 fits both and 45 only the first: taking 55 for the first would leave 45 without a partner.
    got = [call("set_light", room="kitchen", state="on", brightness=value) for value in (55, 45)]
    assert errors_of(case_of(gold, comparators=rules), answer(*got)) == []


def test_any_acceptable_answer_is_right_and_the_closest_is_reported() -> None:
    one = [call("set_light", room="kitchen", state="on")]
    two = [call("set_light", room=room, state="off") for room in ("office", "garage")]
    case = case_of(one, two)
    assert errors_of(case, answer(*one)) == errors_of(case, answer(*two)) == []
    assert errors_of(case, answer(call("set_light", room="kitchen", state="off"))) == [
        ("wrong_value", "set_light.state")
    ]
    assert errors_of(case, answer(two[0], call("set_light", room="garage", state="on"))) == [
        ("wrong_value", "set_light.state")
    ]
    assert SCORER.score(case, answer(*two)).names_correct
    assert SCORER.score(case, answer(*two)).tools == ("set_light",)


def test_comparators_apply_to_their_argument_only() -> None:
    gold = [call("play_music", query=["jazz", "smooth jazz"], room="kitchen", volume=40)]
    rules = {
        "play_music.query": "any_of(casefold)",
        "play_music.volume": "numeric(5)",
        "play_music.shuffle": "ignore",
    }
    case = case_of(gold, comparators=rules)
    assert errors_of(case, answer(call("play_music", query="JAZZ", room="kitchen", volume=44, shuffle=True))) == []
    score = SCORER.score(case, answer(call("play_music", query="rock", room="office", volume=46)))
    assert found(score) == [
        ("wrong_value", "play_music.query"),
        ("wrong_value", "play_music.room"),
        ("wrong_value", "play_music.volume"),
    ]


def test_default_equals_omitted() -> None:
    bare = call("add_shopping_items", items=[{"name": "milk"}])
    full = call("add_shopping_items", items=[{"name": "milk", "quantity": 1}])
    quiet, loud = call("start_vacuum", rooms=["office"]), call("start_vacuum", rooms=["office"], mode="standard")
    for one, other in ((bare, full), (full, bare), (quiet, loud), (loud, quiet)):
        assert errors_of(case_of([one]), answer(other)) != []
        assert errors_of(case_of([one]), answer(other), default_equals_omitted=True) == []
    turbo = call("start_vacuum", rooms=["office"], mode="turbo")
    for one, other in ((quiet, turbo), (turbo, quiet)):
        assert errors_of(case_of([one]), answer(other), default_equals_omitted=True) == [
            ("wrong_value", "start_vacuum.mode")
        ]
    alternatives = case_of(
        [call("start_vacuum", rooms=["office"], mode=["standard", "quiet"])],
        comparators={"start_vacuum.mode": "any_of"},
    )
    assert errors_of(alternatives, answer(quiet), default_equals_omitted=True) == []
    assert errors_of(alternatives, answer(quiet)) == [("wrong_value", "start_vacuum.mode")]


def test_argument_counts() -> None:
    gold = [CALLS_BY_NAME["set_light"], CALLS_BY_NAME["set_timer"], CALLS_BY_NAME["control_playback"]]
    got = [
        call("set_light", room="kitchen", state="on", brightness=31),
        call("set_timer", duration={"hours": 1, "minutes": 30}),
        call("lock_door", door="front", action="lock"),
    ]
    score = SCORER.score(case_of(gold, comparators={"set_light.state": "ignore"}), answer(*got))
    # set_light: room of room, brightness, color; set_timer: duration of duration, label; control_playback: none of 1.
    assert (score.arguments_matched, score.arguments_expected, score.arguments_predicted) == (2, 3 + 2 + 1, 2 + 1 + 2)
    unwanted = SCORER.score(case_of(behaviour="no_call"), answer(*got))
    assert (unwanted.arguments_matched, unwanted.arguments_expected, unwanted.arguments_predicted) == (0, 0, 6)


def test_an_argument_named_like_a_pointer() -> None:
    spec = ToolSpec(name="f", parameters={"type": "object", "properties": {"a/b~c": {"type": "string"}}})
    case = case_of([call("f", **{"a/b~c": "x"})])
    assert found(score_case(case, [spec], answer(call("f", **{"a/b~c": "y"})))) == [("wrong_value", "f.a~1b~0c")]
    assert found(score_case(case, [spec], answer(call("f", **{"a/b~c": 1})))) == [("wrong_type", "f.a~1b~0c")]


def test_only_an_answer_to_the_case_can_be_scored() -> None:
    for prediction in (Prediction(id="b", text="x"), Prediction(id="a", error="time-out")):
        with pytest.raises(ValueError, match="no answer to case 'a'"):
            SCORER.score(case_of([GOLD_CALLS[0]]), prediction)


@st.composite
def answered(draw: st.DrawFn) -> tuple[list[ToolSpec], list[ToolCall]]:
    """A catalogue, and calls of its tools that are the gold answer."""
    specs = draw(catalogues())
    return specs, draw(calls(specs))


@settings(max_examples=30, deadline=None)
@given(answered(), st.sampled_from(DIALECTS), st.randoms(use_true_random=False))
def test_gold_calls_of_any_tools_are_right_in_any_order_and_dialect(
    drawn: tuple[list[ToolSpec], list[ToolCall]], dialect: str, rng: random.Random
) -> None:
    specs, gold = drawn
    text = render_calls(rng.sample(gold, len(gold)), dialect)
    score = score_case(case_of(gold), specs, prediction_from_text("a", text, "stop"))
    assert found(score) == []
    assert score.parsed and score.schema_valid and score.names_correct and score.called
    assert score.arguments_matched == score.arguments_expected == score.arguments_predicted


@settings(max_examples=100, deadline=None)
@given(answered(), st.randoms(use_true_random=False), st.data())
def test_a_single_mutation_of_any_call_gets_exactly_its_error(
    drawn: tuple[list[ToolSpec], list[ToolCall]], rng: random.Random, data: st.DataObject
) -> None:
    specs, gold = drawn
    index = data.draw(st.integers(0, len(gold) - 1))
    schema = next(spec.parameters for spec in specs if spec.name == gold[index].name)
    arguments, code, pointer = data.draw(st.sampled_from(list(object_mutations(gold[index].arguments, schema))))
    got = [*gold[:index], call(gold[index].name, **arguments), *gold[index + 1 :]]
    expected = [(code, path_of(gold[index].name, pointer))]
    for order in (got, rng.sample(got, len(got))):
        score = score_case(case_of(gold), specs, answer(*order))
        assert found(score) == expected
        assert score.parsed and score.names_correct and score.schema_valid is (code == "wrong_value")
        assert score.errors[0].detail


@settings(max_examples=40, deadline=None)
@given(answered(), st.data())
def test_a_single_mutation_of_any_answer_gets_exactly_its_error(
    drawn: tuple[list[ToolSpec], list[ToolCall]], data: st.DataObject
) -> None:
    specs, gold = drawn
    text = render_calls(gold)

    def errors(prediction: Prediction, behaviour: str = "call") -> list[tuple[str, str]]:
        case = case_of(gold) if behaviour == "call" else case_of(behaviour=behaviour)
        return found(score_case(case, specs, prediction))

    cut = data.draw(st.integers(len(text) - len("</tool_call>") - 2, len(text) - len("</tool_call>")))
    assert errors(answer(text=data.draw(st.sampled_from(["", " ", "\n\t"])))) == [("no_output", "")]
    assert errors(answer(*gold, finish_reason="length")) == [("truncated", "")]
    assert errors(prediction_from_text("a", text[:cut], "length"))[0] == ("truncated", "")
    broken = text[::-1].replace('"', "", 1)[::-1]  # the last quote is gone
    assert ("parse_error", "") in errors(prediction_from_text("a", broken, "stop"))
    unwanted = errors(answer(*gold), "no_call")
    assert unwanted == [("unexpected_call", item.name) for item in gold] == errors(answer(*gold, text="?"), "clarify")
    assert errors(answer(text="Sure, I will.")) == [("missing_call", "")]
    extra = data.draw(calls(specs, max_size=1))
    assert errors(answer(*gold, *extra)) == [("wrong_count", "")]
    assert errors(answer(*gold[1:])) == ([("wrong_count", "")] if len(gold) > 1 else [("no_output", "")])
    unknown = call("nobody", **gold[0].arguments)
    assert errors(answer(unknown, *gold[1:])) == [("unknown_function", "nobody")]
    for spec in specs:
        if spec.name != gold[0].name:
            other = call(spec.name, **data.draw(values(spec.parameters)))
            assert errors(answer(other, *gold[1:])) == [("wrong_function", spec.name)]


def test_every_error_is_among_the_mutations() -> None:
    arguments = {
        code for gold in GOLD_CALLS for _, code, _ in object_mutations(gold.arguments, SPECS[gold.name].parameters)
    }
    answers = {"no_output", "truncated", "parse_error", "unexpected_call", "missing_call", "wrong_count"}
    assert arguments | answers | {"unknown_function", "wrong_function"} == set(CALL_ERRORS)


WORDS = st.text("abcdefgh", min_size=1, max_size=6)
INSTANTS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
Judged = tuple[str, Any, list[Any], list[Any]]
"""A rule, an expected value, values that are right under it, and values that are not; `...` is one left out."""


def scaled(number: int, tolerance: int) -> Judged:
    near, far = (
        [number - tolerance, number + tolerance, float(number)],
        [number + tolerance + 1, number - tolerance - 0.5],
    )
    return f"numeric({tolerance})", number, near, far


def timed(moment: datetime) -> Judged:
    elsewhere = moment.astimezone(timezone(timedelta(hours=2)))
    wrong = [(moment + timedelta(seconds=1)).isoformat(), moment.date().isoformat(), "soon"]
    return "date", moment.isoformat(), [elsewhere.isoformat(), moment.strftime("%Y-%m-%dT%H:%M:%SZ")], wrong


COMPARED: st.SearchStrategy[Judged] = st.one_of(
    WORDS.map(lambda word: ("exact", word, [word], [word.upper(), f"{word} ", ...])),
    WORDS.map(lambda word: ("casefold", word, [word, word.upper(), word.title()], [f"{word}x", ...])),
    st.builds(scaled, st.integers(-99, 99), st.integers(0, 9)),
    INSTANTS.map(timed),
    st.lists(WORDS, min_size=2, max_size=4, unique=True).map(
        lambda words: ("set", words, [words[::-1]], [words[1:], [*words, words[0]], [*words[1:], "x"], ...])
    ),
    st.lists(WORDS, min_size=1, max_size=4).map(
        lambda words: ("set(casefold)", words, [[word.upper() for word in reversed(words)]], [[*words, "x"], ...])
    ),
    st.lists(WORDS, min_size=1, max_size=3).map(lambda words: ("any_of", words, list(words), ["x", words, ...])),
    st.lists(WORDS, min_size=1, max_size=3).map(
        lambda words: ("any_of(casefold)", words, [word.upper() for word in words], ["x", ...])
    ),
    WORDS.map(lambda word: ("optional", word, [word, ...], [f"{word}x"])),
    st.lists(WORDS, min_size=1, max_size=3).map(lambda words: ("optional(any_of)", words, [*words, ...], ["x"])),
    WORDS.map(lambda word: ("ignore", word, [word, f"{word}x", 7, [], ...], [])),
)


@settings(max_examples=80, deadline=None)
@given(COMPARED, WORDS)
def test_every_comparator_accepts_and_refuses_as_it_says(judged: Judged, other: str) -> None:
    rule, expected, right, wrong = judged
    spec = ToolSpec(name="f", parameters={"type": "object", "properties": {"x": {}, "y": {"type": "string"}}})
    case = case_of([call("f", x=expected, y=other)], comparators={"f.x": rule})

    def errors(value: Any) -> list[tuple[str, str]]:
        given_value = {} if value is ... else {"x": value}
        return found(score_case(case, [spec], answer(call("f", **given_value, y=other))))

    for value in right:
        assert errors(value) == [], (rule, value)
    for value in wrong:
        assert errors(value), (rule, value)
        assert all(code == "wrong_value" and path.split("/")[0] == "f.x" for code, path in errors(value))


FRAGMENTS = st.sampled_from(
    [
        "<tool_call>", "</tool_call>", "```json", "```", "[TOOL_CALLS]", "<|python_tag|>", "{", "}", "[", "]", '"', ",",
        "\\ud800", "\\u0000", "NaN", "1e999", "-0", "null", "?", "\n", '{"name": "set_light", "arguments": {',
        '"room": "kitchen", "state": "on"}}', '{"name": "set_timer", "arguments": {"duration": {"minutes": 5}}}',
        '{"name": "zzz", "arguments": {"a": [[[[1]]]]}}', '{"name": "set_light", "arguments": {"room": "\\ud800"}}',
    ]
)  # fmt: skip
CASES = st.sampled_from(
    [
        case_of([GOLD_CALLS[0]]),
        case_of([GOLD_CALLS[6], GOLD_CALLS[7]], [GOLD_CALLS[11]], comparators={"add_shopping_items.items": "set"}),
        case_of(behaviour="no_call"),
        case_of(behaviour="clarify"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(CASES, st.lists(FRAGMENTS | st.text(max_size=6), max_size=12), st.sampled_from(["stop", "length", "unknown"]))
def test_scoring_is_total_on_arbitrary_text(case: EvalCase, parts: list[str], finish_reason: Any) -> None:
    prediction = prediction_from_text("a", "".join(parts), finish_reason)
    score = SCORER.score(case, prediction)
    found(score)
    assert Score.model_validate_json(score.model_dump_json()) == score
    assert Prediction.model_validate_json(prediction.model_dump_json()) == prediction
    if score.correct and case.behaviour == "call":
        assert score.parsed and score.schema_valid and score.names_correct
    if score.correct and case.behaviour != "call":
        assert not score.called


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(CASES, st.sampled_from(GOLD_CALLS), st.data())
def test_scoring_is_total_on_arbitrary_arguments(case: EvalCase, gold: ToolCall, data: st.DataObject) -> None:
    names = st.sampled_from(list(SPECS[gold.name].parameters["properties"]))
    arguments = data.draw(st.dictionaries(names | st.text(max_size=4), JSON_VALUES, max_size=4))
    score = SCORER.score(case, answer(call(gold.name, **arguments)))
    assert Score.model_validate_json(score.model_dump_json()) == score
    assert score.schema_valid or not score.correct


def test_a_very_long_answer_is_scored() -> None:
    text = "\n".join([render_calls([GOLD_CALLS[0]])] * 500)
    assert [code for code, _ in errors_of(case_of([GOLD_CALLS[0]]), prediction_from_text("a", text, "stop"))] == [
        "wrong_count"
    ]
    deep = json.dumps({"name": "set_light", "arguments": {"room": "kitchen", "state": "on", "x": 0}})
    for depth in (100, 400, 5000):
        nested = deep.replace("0", "[" * depth + "]" * depth)
        score = SCORER.score(case_of([GOLD_CALLS[0]]), prediction_from_text("a", nested, "stop"))
        assert score.primary_error == "parse_error"


def test_messages_of_several_turns_are_scored_like_any_other() -> None:
    case = case_of([GOLD_CALLS[5]]).model_copy(
        update={
            "messages": (
                Message(role="user", content="what is on?"),
                Message.calling([GOLD_CALLS[2]]),
                Message(role="tool", content="{}"),
            )
        }
    )
    assert errors_of(case, answer(GOLD_CALLS[5])) == []
