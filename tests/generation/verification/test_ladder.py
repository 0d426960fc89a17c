"""Tests of `fcdistill.generation.verification.ladder`."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import fcdistill
from fcdistill.config import PolicyName
from fcdistill.generation.verification.clarifying import Lacking
from fcdistill.generation.verification.ladder import (
    Similar,
    Verdict,
    blind_answer,
    chained_request,
    clarify_question,
    collected_trace,
    conversation_step,
    cut_request,
    derived_trace,
    follow_up_step,
    imported_answer,
    lacking_request,
    mistyped_request,
    opening_request,
    other_of_two_step,
    proving_answer,
    repeated_step,
    resumed_step,
    written_request,
)
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.generation.verification.verifier import Verifier
from fcdistill.records import Category, Check, Message, ModelRef, ToolCall, Trace, TraceMeta
from fcdistill.toolcalls.parsing import parse_output, render_calls
from fcdistill.tools.validation import CallValidator
from tests.generation.home import catalog, catalog_of, tool, verifier

GENERATION = Path(fcdistill.__file__).parent / "generation"
VERIFIER = verifier()
OTHERS_CHECKS = {("plan.tool_results", "dialect.check_schema")}
"""Not the verifier's: what a JSON Schema library calls its own."""


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


LIGHT = call("set_light", room="kitchen", state="on")
DIMMED = call("set_light", room="kitchen", state="on", brightness=40)
PAUSE = call("control_playback", action="pause")
WEATHER = call("get_weather", city="Oslo")
SENSOR = call("get_sensor", sensor="temperature", room="office")
HEAT = call("set_thermostat", room="nursery", temperature=21)
TAKEN = {"temperature": 21}


def told(checks: Sequence[Check]) -> str:
    """The names of checks in a row; a failed one, which must be the last, ends in "!"."""
    assert all(check.ok for check in checks[:-1])
    return " ".join(f"{check.name}{'' if check.ok else '!'}" for check in checks)


# --- everybody goes through them


def single_checks(package: Path) -> Iterator[tuple[str, str]]:
    """Where the modules of a package, but for those of `verification`, take hold of one of the verifier's checks."""
    names = {name for name in vars(Verifier) if name.startswith("check_")}
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        if not module.startswith("verification."):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in names:
                    yield module, ast.unparse(node)


def test_no_module_outside_verification_makes_a_single_check() -> None:
    assert set(single_checks(GENERATION)) == OTHERS_CHECKS


def test_a_single_check_is_found_however_it_is_taken(tmp_path: Path) -> None:
    (tmp_path / "verification").mkdir()
    (tmp_path / "verification" / "ladder.py").write_text("verifier.check_request(text)")
    (tmp_path / "imports.py").write_text("def f(self):\n    return map(self.judges[0].check_said, texts)")
    (tmp_path / "derive.py").write_text("derived_trace(verifier, text, calls, now)")
    assert list(single_checks(tmp_path)) == [("imports", "self.judges[0].check_said")]


# --- single requests and answers


@pytest.mark.parametrize(
    ("text", "calls", "checks", "kept"),
    [
        ("kitchen light on", [LIGHT], "request schema grounding", [LIGHT]),
        ("I'm turning it on", [LIGHT], "request!", []),
        ("the moon is far away", [], "request", []),
        ("the kitchen is far away", [LIGHT], "request!", []),
        ("kitchen light on", [LIGHT, LIGHT], "request schema!", [LIGHT, LIGHT]),
        ("light on", [LIGHT], "request schema grounding!", [LIGHT]),
        (
            "kitchen light on",
            [call("set_light", brightness=40, state="on", room="kitchen")],
            "request schema repair grounding",
            [LIGHT],
        ),
    ],
)
def test_written_requests(text: str, calls: list[ToolCall], checks: str, kept: list[ToolCall]) -> None:
    verdict = written_request(VERIFIER, text, calls, None)
    assert told(verdict.checks) == checks and list(verdict.calls) == kept


def test_kept_calls_are_as_students_write_them() -> None:
    shuffled = call("set_light", state="on", room="kitchen")
    (written,) = written_request(VERIFIER, "kitchen light on", [shuffled], None).calls
    (answered,) = blind_answer(VERIFIER, output(shuffled), "kitchen light on", "simple", None).calls
    (failed,) = blind_answer(VERIFIER, output(shuffled), "kitchen light on", "parallel", None).calls
    assert list(written.arguments) == list(answered.arguments) == ["room", "state"]
    assert list(failed.arguments) == ["state", "room"]


def test_a_repair_says_what_failed() -> None:
    verdict = written_request(VERIFIER, "kitchen light on", [DIMMED], None)
    assert verdict.checks[2].detail == "not in the request: set_light.brightness = 40"


def test_cut_requests() -> None:
    text, checks = cut_request(VERIFIER, "kitchen light off, I leave now", call_off(), "room", None)
    assert (text, told(checks)) == ("light off, I leave now", "cut")
    text, checks = cut_request(VERIFIER, "kitchen light off, I leave the kitchen", call_off(), "room", None)
    assert told(checks) == "cut!" and "kitchen" in checks[0].detail
    text, checks = cut_request(VERIFIER, "light off", call_off(), "room", None)
    assert (text, checks[0].detail) == ("light off", "the words of 'room' can't be cut from 'light off'")


def call_off() -> ToolCall:
    return call("set_light", room="kitchen", state="off")


def test_mistyped_requests_are_compared_with_the_calls_alone() -> None:
    assert told(mistyped_request(VERIFIER, "Sure, kitchen ligth on", [LIGHT], None)) == "grounding"
    assert told(mistyped_request(VERIFIER, "kcthn light on", [LIGHT], None)) == "grounding!"


def test_clarify_questions() -> None:
    room = [Lacking("set_light", "room")]
    assert told(clarify_question(VERIFIER, "light on", "In which room?", room)) == "question"
    assert told(clarify_question(VERIFIER, "light on", "Now?", room)) == "question!"


def output(*calls: ToolCall) -> Any:
    return parse_output(render_calls(list(calls)))


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


FORMS = [
    ("", "parse!", "empty"),
    ("<tool_call>{oops</tool_call>", "parse!", "invalid_json"),
    (hermes("set_lamp", "{}"), "parse tool!", "set_lamp"),
    (hermes("set_light", '{"room": "attic", "state": "on"}'), "parse tool schema!", "/room"),
    (hermes("set_light", '{"room": "office", "state": "on", "x": 1}'), "parse tool schema!", "/x"),
    (render_calls([LIGHT, LIGHT]), "parse tool schema!", "twice"),
    (render_calls([LIGHT, PAUSE]), "parse tool schema", ""),
    ("Which room?", "parse tool schema", ""),
]


@pytest.mark.parametrize(("text", "checks", "said"), FORMS)
def test_proving_answers(text: str, checks: str, said: str) -> None:
    found = proving_answer(VERIFIER, parse_output(text))
    assert told(found) == checks and said in found[-1].detail


@pytest.mark.parametrize(("text", "checks", "said"), FORMS)
def test_every_answer_is_read_alike(text: str, checks: str, said: str) -> None:
    """A blind answer and an imported one fail for the same reasons as one that proves; the first may be repaired."""
    form = proving_answer(VERIFIER, parse_output(text))
    blind = blind_answer(VERIFIER, parse_output(text), "hm", None, None)
    recorded = imported(text)
    for judged in (blind.checks, recorded.checks[1:]):
        assert list(judged[: len(form)]) == form
        assert len(judged) == len(form) + form[-1].ok


@pytest.mark.parametrize(
    ("calls", "text", "category", "checks"),
    [
        ([LIGHT], "kitchen light on", "simple", "parse tool schema count grounding"),
        ([LIGHT], "kitchen light on", None, "parse tool schema grounding"),
        ([LIGHT, PAUSE], "pause, kitchen light on", "parallel_multiple", "parse tool schema count grounding"),
        ([LIGHT, PAUSE], "pause, kitchen light on", "simple", "parse tool schema count!"),
        ([], "kitchen light on", "simple", "parse tool schema count!"),
        ([], "kitchen light on", None, "parse tool schema count!"),
        ([LIGHT], "light on", "simple", "parse tool schema count grounding!"),
        ([call("set_light", room="kitchen", state="on", x=1)], "kitchen light on", "simple",
         "parse tool repair schema count grounding"),
        ([call("set_light", room="kitchen", state="on", x=1)], "kitchen light on", "parallel",
         "parse tool repair schema count!"),
        ([call("set_light", room="kitchen", state="on", x=1)], "kitchen light on", None,
         "parse tool repair schema grounding"),
        ([call("set_light", room="kitchen", state="on", brightness=9)], "kitchen light on", "simple",
         "parse tool schema count repair grounding"),
    ],
)  # fmt: skip
def test_blind_answers(calls: list[ToolCall], text: str, category: Category | None, checks: str) -> None:
    said = output(*calls) if calls else parse_output("Which one?")
    verdict = blind_answer(VERIFIER, said, text, category, None)
    assert told(verdict.checks) == checks
    assert verdict.calls == ((LIGHT,) if "repair" in checks else tuple(calls))


def imported(
    text: str,
    *,
    problem: str = "",
    others: Sequence[ToolCall] = (),
    trust: bool = False,
    category: Category | None = None,
    policy: PolicyName = "strict",
) -> Verdict:
    said = "the weather there, and the kitchen light on at 40"
    by_policy = replace(VERIFIER, policy=policy)
    return imported_answer(
        by_policy, parse_output(text), context_problem=problem, said=f"Oslo\n{said}", request=said, others=others,
        now=None, category=category, trust_no_call=trust,
    )  # fmt: skip


def test_imported_answers() -> None:
    weather = render_calls([WEATHER])
    assert told(imported(weather, problem="it can't be read").checks) == "context!"
    assert told(imported("").checks) == "context parse!"
    assert told(imported("In Oslo?").checks) == "context parse tool schema count!"
    assert told(imported("In Oslo?", trust=True).checks) == "context parse tool schema count"
    assert told(imported("In Oslo?", category="clarify").checks) == "context parse tool schema count"
    assert told(imported("In Oslo?", category="simple").checks) == "context parse tool schema count!"
    assert told(imported(weather, category="clarify").checks) == "context parse tool schema count!"
    assert told(imported(weather, category="multiple").checks) == "context parse tool schema count grounding!"
    assert told(imported(weather).checks) == "context parse tool schema grounding!"
    assert told(imported(weather, others=[DIMMED]).checks) == "context parse tool schema grounding"
    broken = [call("set_light", **DIMMED.arguments, x=1), call("set_lamp")]
    assert told(imported(weather, others=broken).checks) == "context parse tool schema grounding!"
    assert told(imported(weather, policy="balanced").checks) == "context parse tool schema grounding"
    assert imported(weather, problem="it can't be read").calls == imported(weather).calls == (WEATHER,)


@pytest.mark.parametrize("policy", get_args(PolicyName))
def test_one_teachers_only_answer_and_a_request_for_sampled_calls_are_no_proof(policy: PolicyName) -> None:
    """Without an independent answer, balanced asks for what strict asks for."""
    by_policy, text = replace(VERIFIER, policy=policy), "it is too dark where we cook, please"
    alone = [
        blind_answer(by_policy, output(LIGHT), text, "simple", None).checks[-1],
        written_request(by_policy, text, [LIGHT], None).checks[-1],
    ]
    proven = [
        blind_answer(by_policy, output(LIGHT), text, "simple", None, independent=True).checks[-1],
        written_request(by_policy, text, [LIGHT], None, proven=True).checks[-1],
    ]
    assert all(check.name == "grounding" for check in [*alone, *proven])
    assert [check.ok for check in alone] == [policy == "trusting"] * 2
    assert [check.ok for check in proven] == [policy != "strict"] * 2


# --- conversations


@pytest.mark.parametrize(
    ("text", "checks"),
    [
        ("how warm is the office", "request schema grounding"),
        ("I'm checking the office", "request!"),
        ("is the office nice", "request schema grounding!"),
    ],
)
def test_opening_requests(text: str, checks: str) -> None:
    verdict = opening_request(VERIFIER, text, SENSOR, HEAT)
    assert told(verdict.checks) == checks and verdict.calls == (SENSOR, HEAT)


def test_the_same_again_is_the_same_as_was_asked_for() -> None:
    last = call("set_light", room="office", state="on", brightness=40)
    verdict = opening_request(VERIFIER, "kitchen light on", DIMMED, last, "room")
    assert told(verdict.checks) == "request schema repair grounding"
    assert verdict.calls == (LIGHT, call("set_light", room="office", state="on"))
    brighter = call("set_light", room="kitchen", state="on", brightness=80)
    verdict = opening_request(VERIFIER, "kitchen light on", DIMMED, brighter, "brightness")
    assert told(verdict.checks) == "request schema grounding!" and verdict.calls == (DIMMED, brighter)


@pytest.mark.parametrize(
    ("text", "checks"),
    [
        ("how warm is the office, heat the nursery to that temperature", "request schema grounding reference"),
        ("how warm is the office, heat the nursery", "request schema grounding reference!"),
        ("how warm is the office", "request schema grounding!"),
        ("I'm heating the nursery", "request!"),
    ],
)
def test_chained_requests(text: str, checks: str) -> None:
    verdict = chained_request(VERIFIER, text, SENSOR, HEAT, TAKEN)
    assert told(verdict.checks) == checks and verdict.calls == (SENSOR, HEAT)


def test_what_is_said_for_one_of_two_chained_calls_may_be_of_either() -> None:
    roomless = call("get_sensor", sensor="temperature")
    text = "how warm is it, heat the nursery to that temperature"
    checks = chained_request(VERIFIER, text, roomless, HEAT, TAKEN).checks
    assert told(checks) == "request schema grounding!"
    assert checks[-1].detail == "said for one of two calls, which may be either: room"


@pytest.mark.parametrize(
    ("text", "checks", "last"),
    [
        ("then heat the nursery to that", "request grounding reference", HEAT),
        ("then heat the nursery", "request grounding reference!", HEAT),
        ("then heat up to that", "request grounding!", HEAT),
        ("You've already heated it", "request!", HEAT),
    ],
)
def test_conversation_steps(text: str, checks: str, last: ToolCall) -> None:
    verdict = conversation_step(VERIFIER, "how warm is the office", text, SENSOR, last, TAKEN)
    assert told(verdict.checks) == checks and verdict.calls == (SENSOR, last)


def test_a_step_that_leaves_an_argument_out_gets_the_call_it_asks_for() -> None:
    planned = call("set_thermostat", room="nursery", temperature=21, mode="heat")
    text = "set the nursery thermostat to that too"
    verdict = conversation_step(VERIFIER, "how warm is the office", text, SENSOR, planned, TAKEN)
    assert told(verdict.checks) == "request repair grounding reference" and verdict.calls == (SENSOR, HEAT)


@pytest.mark.parametrize(
    ("text", "checks"),
    [
        ("and the office too please", "request grounding"),
        ("and once more please", "request grounding!"),
        ("and the office at 40 please", "request grounding!"),
        ("Sure, the office", "request!"),
    ],
)
def test_repeated_steps(text: str, checks: str) -> None:
    last = call("set_light", room="office", state="on")
    assert told(repeated_step(VERIFIER, "kitchen light on", text, last, "room")) == checks


# --- whole traces


def test_derived_traces() -> None:
    both = [LIGHT, PAUSE]
    assert told(derived_trace(VERIFIER, "kitchen light on and pause", both, None)) == "request schema grounding"
    assert told(derived_trace(VERIFIER, "kitchen light on", both, None)) == "request schema grounding!"
    assert told(derived_trace(VERIFIER, "kitchen light on", [LIGHT, LIGHT], None)) == "request schema!"
    assert told(derived_trace(VERIFIER, "Sure, kitchen light on", [LIGHT], None)) == "request!"


def test_a_call_that_lacks_a_value_fits_no_schema_and_may_still_be_derived() -> None:
    roomless = [call("set_light", state="on")]
    assert told(derived_trace(VERIFIER, "light on", roomless, None)) == "request schema!"
    assert told(derived_trace(VERIFIER, "light on", roomless, None, is_whole=False)) == "request grounding"


def test_what_was_said_before_a_derived_reply_counts_too() -> None:
    assert told(derived_trace(VERIFIER, "the kitchen please", [LIGHT], None)) == "request schema grounding!"
    assert told(derived_trace(VERIFIER, "the kitchen please", [LIGHT], None, before="light on")) == (
        "request schema grounding"
    )


def trace(*texts: str) -> Trace:
    messages = [message for text in texts for message in (Message(role="user", content=text), Message.calling([LIGHT]))]
    meta = TraceMeta(source="import", category="simple", plan_cell="c", teacher=ModelRef(model="m"))
    return Trace(id="t", messages=tuple(messages), tools=catalog().tools, split_group="g", meta=meta)


def collected(
    *texts: str, repeated: bool = False, near: bool = False, cases: Sequence[str] = (), doubt: str | None = None
) -> tuple[str, Similar | None]:
    checks, like = collected_trace(
        trace(*texts),
        repeated=Similar("r", "again", 1.0) if repeated else None,
        near_duplicate=lambda trace: Similar("n", "nearly", 0.9) if near else None,
        eval_case=lambda trace: Similar("c", cases[0], 0.8) if cases else None,
        doubt=None if doubt is None else lambda trace: doubt,
    )
    return told(checks), like


def test_collected_traces() -> None:
    apart = "duplicate near_duplicate contaminated"
    assert collected("a") == (apart, None)
    assert collected("a", repeated=True, near=True) == ("duplicate!", Similar("r", "again", 1.0))
    assert collected("a", near=True, cases=["a"]) == ("duplicate near_duplicate!", Similar("n", "nearly", 0.9))
    assert collected("a", cases=["a"], doubt="no") == (f"{apart}!", Similar("c", "a", 0.8))
    assert collected("a", doubt="") == (f"{apart} agreement", None)
    assert collected("a", doubt="no") == (f"{apart} agreement!", None)


# --- conversations in which no result is heard

FIRST = ToolCall(name="set_light", arguments={"room": "kitchen", "state": "off"})
ATTIC = ToolCall(name="set_light", arguments={"room": "office", "state": "off"})


@pytest.mark.parametrize(
    ("request_", "last", "failed"),
    [
        ("no, the office", ATTIC, None),
        ("no, the office", ToolCall(name="set_light", arguments={"room": "attic", "state": "off"}), "schema"),
        ("I'm sorry, the office", ATTIC, "request"),
        ("no, the other room", ATTIC, "grounding"),
        ("no, the office at 40 percent", ATTIC, "grounding"),
        ("no, switch off the office", ATTIC, "reference"),
    ],
)
def test_a_follow_up_says_its_value_and_no_more(request_: str, last: ToolCall, failed: str | None) -> None:
    checks = follow_up_step(verifier(), "switch off the kitchen light", request_, last, "room", None)
    assert [check.name for check in checks if not check.ok] == ([failed] if failed else [])
    if failed is None:
        assert [check.name for check in checks] == ["schema", "request", "grounding", "reference"]


def test_who_replies_to_a_question_need_not_ask() -> None:
    told = ("switch off the light", "it's the office", ATTIC, "room", None)
    assert not follow_up_step(verifier(), *told)[-1].ok
    assert follow_up_step(verifier(), told[0] + " off", *told[1:], is_reply=True)[-1].ok


def test_a_value_that_may_be_of_two_arguments_must_name_its_own() -> None:
    music = ToolCall(name="play_music", arguments={"query": "kitchen", "room": "office"})
    checks = follow_up_step(verifier(), "play Adele in the office", "no, kitchen", music, "query", None)
    assert "may be for room" in checks[-1].detail
    named = follow_up_step(verifier(), "play Adele in the office", "no, the query kitchen", music, "query", None)
    assert named[-1].ok


@pytest.mark.parametrize(
    ("request_", "ok"),
    [("back to the light, the office", True), ("make it the office", False), ("off in the office", True)],
)
def test_an_earlier_topic_is_named_when_it_is_taken_up_again(request_: str, ok: bool) -> None:
    between = ToolCall(name="get_weather", arguments={"city": "Turin"})
    last = ToolCall(name="set_light", arguments={"room": "office", "state": "off"})
    before = "switch the light off in the kitchen"
    checks = resumed_step(verifier(), before, request_, last, "room", between, None)
    if request_.startswith("off"):  # all values anew, so that nothing is carried over
        assert checks[-1].name == "reference" and "anew" in checks[-1].detail
    else:
        assert checks[-1].ok is ok


@pytest.mark.parametrize(
    ("request_", "is_called", "failed"),
    [
        ("switch off the light", False, None),
        ("switch off the light", True, "schema"),
        ("switch off the kitchen light", False, "grounding"),
        ("The light is off.", False, "request"),
    ],
)
def test_a_lacking_request_says_all_but_one_value(request_: str, is_called: bool, failed: str | None) -> None:
    checks = lacking_request(verifier(), request_, FIRST, "room", None, is_called=is_called)
    assert [check.name for check in checks if not check.ok] == ([failed] if failed else [])


def test_a_free_text_that_is_said_already_is_not_lacking() -> None:
    call = ToolCall(name="play_music", arguments={"query": "Zorba", "room": "kitchen"})
    checks = lacking_request(verifier(), "play Zorba in the kitchen", call, "query", None, is_called=False)
    assert checks[-1].name == "cut" and not checks[-1].ok


@pytest.mark.parametrize(
    ("request_", "changed", "value", "ok"),
    [
        ("and the other one too", "state", "on", True),
        ("and another one too", "state", "on", False),
        ("and the other one too", "room", "office", False),
        ("and the other one at 30 percent", "state", "on", False),
    ],
)
def test_the_other_one_is_the_other_of_two(request_: str, changed: str, value: str, ok: bool) -> None:
    last = ToolCall(name="set_light", arguments={**FIRST.arguments, changed: value})
    checks = other_of_two_step(verifier(), "switch off the kitchen light", request_, FIRST, last, changed, None)
    assert checks[-1].ok is ok


def test_for_a_tool_without_parameters_nothing_need_be_asked() -> None:
    own = catalog_of(tool("thank_you", {}), tool("go", {"fast": {"enum": ["very"]}}))
    talk = Verifier(own, CallValidator(own.specs), ValueBook())
    said = "You've been great."
    assert derived_trace(talk, said, [ToolCall(name="thank_you")], None)[-1].ok
    assert written_request(talk, said, [ToolCall(name="thank_you")], None).checks[-1].ok
    assert not derived_trace(talk, said, [ToolCall(name="go")], None)[-1].ok
