"""Conversations are made turn by turn, and every turn is checked."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fcdistill.backends import ScriptedBackend
from fcdistill.backends.base import Request
from fcdistill.generation.pipeline import run_generation
from fcdistill.generation.plan.plan import calls_group
from fcdistill.records import GenerationStats, Trace
from fcdistill.tools.catalog import load_catalog
from tests.generation.home import catalog, verifier
from tests.generation.runs import Teacher, config, reasons, refuse, rejects, run, traces
from tests.generation.teacher.prompt_reading import answer, held

NUM = 15


def is_later(request: Request) -> bool:
    return request.messages[-1].content.startswith("Said: ")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GenerationStats]:
    out = tmp_path_factory.mktemp("talks") / "out"
    return out, run(out, answer, num_multi_turn=NUM, attempts=1)


def conversations(out: Path) -> list[Trace]:
    return [trace for trace in traces(out) if trace.meta.source == "multi_turn"]


def of_kind(out: Path, kind: str) -> list[Trace]:
    return [trace for trace in conversations(out) if trace.meta.plan_cell.startswith(f"{kind}/")]


def test_a_faithful_teacher_s_conversations_are_all_kept(made: tuple[Path, GenerationStats]) -> None:
    out, stats = made
    assert rejects(out) == [] and len(conversations(out)) == NUM
    assert {cell.conversation for cell in stats.cells} == {"chained", "referring", "repeated"}
    assert all(cell.asked == cell.made == cell.kept for cell in stats.cells)


def test_their_turns_stand_in_the_order_of_a_conversation(made: tuple[Path, GenerationStats]) -> None:
    out, _ = made
    short = ["user", "assistant", "tool", "assistant"]
    long = [*short, "user", "assistant"]
    for kind, roles in (("chained", short), ("referring", long), ("repeated", long)):
        assert [[message.role for message in trace.messages] for trace in of_kind(out, kind)] == [roles] * (NUM // 3)
    for trace in conversations(out):
        first, result = trace.messages[1:3]
        assert result.tool_call_id == first.tool_calls[0].id and result.name == first.calls[0].name
        assert isinstance(json.loads(result.content), dict)


def test_a_later_call_takes_from_the_result_what_nobody_said(made: tuple[Path, GenerationStats]) -> None:
    for trace in of_kind(made[0], "chained") + of_kind(made[0], "referring"):
        result = json.loads(trace.messages[2].content)
        value = trace.answer.calls[0].arguments["temperature"]
        assert result["temperature"] == value
        assert not any(str(value) in message.content for message in trace.messages if message.role == "user")


def test_what_is_told_of_a_result_is_its_news(made: tuple[Path, GenerationStats]) -> None:
    for trace in of_kind(made[0], "referring"):
        value = json.loads(trace.messages[2].content)["temperature"]
        assert trace.messages[3].content == f"Temperature: {value}, unit: plain."
    told = {trace.messages[3].content for trace in of_kind(made[0], "repeated")}
    assert told <= {"Done.", "Unit: plain."} and "Done." in told


def test_each_call_is_an_answer_once_and_stays_with_its_conversation(made: tuple[Path, GenerationStats]) -> None:
    found = {trace.id: trace for trace in traces(made[0])}
    for trace in conversations(made[0]):
        step = found[f"{trace.id}-step-1"]
        assert step.messages == trace.messages[:2] and step.answer.calls
        assert step.split_group == trace.split_group
    assert len(found) == 2 * NUM
    by_call: dict[str, str] = {}
    for trace in found.values():
        for message in trace.messages:
            if message.calls:
                assert by_call.setdefault(calls_group(message.calls), trace.split_group) == trace.split_group


def changed(of: Callable[[Request], bool], text: str) -> Callable[[Request], str]:
    return lambda request: text if of(request) else answer(request)


@pytest.mark.parametrize(
    ("teacher", "kinds", "check"),
    [
        (changed(lambda request: held(request) is not None, "about 20 degrees"), {"chained", "referring"}, "result"),
        (changed(lambda request: bool(held(request)), '{"temperature": 99}'), {"chained", "referring"}, "result"),
        (changed(lambda request: held(request) is not None, "{}"), {"chained", "referring"}, "result"),
        (changed(is_later, "I'm sorry, I can't do that."), {"referring", "repeated"}, "request"),
        (changed(is_later, "and now"), {"referring", "repeated"}, "grounding"),
        (lambda request: answer(request).replace("same", "").replace("that", "").replace("find", ""),
         {"chained", "referring"}, "reference"),
        (changed(lambda request: "Facts: " in request.messages[-1].content and not is_later(request), "hello there"),
         {"chained", "referring", "repeated"}, "grounding"),
    ],
)  # fmt: skip
def test_a_turn_that_goes_wrong_is_a_reject_with_the_turns_so_far(
    tmp_path: Path, teacher: Callable[[Request], str], kinds: set[str], check: str
) -> None:
    out = tmp_path / "out"
    run(out, teacher, num_multi_turn=6, attempts=1)
    failed = {reject.candidate.meta.plan_cell.split("/")[0] for reject in rejects(out) if reject.check == check}
    assert failed >= kinds
    for reject in rejects(out):
        assert reject.detail and reject.candidate.messages[0].role == "user"


def test_fences_around_a_result_are_forgiven(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fenced(request: Request) -> str:
        return answer(request) if held(request) is None else f"```json\n{answer(request)}\n```"

    run(out, fenced, num_multi_turn=6, attempts=1)
    assert rejects(out) == []


def test_a_request_that_leaves_an_optional_argument_out_gets_the_call_it_asks_for(tmp_path: Path) -> None:
    """Of a thermostat's mode nobody speaks: the call is made without it, and still takes the value."""
    out = tmp_path / "out"

    def silent(request: Request) -> str:
        text = answer(request)
        return text if held(request) is not None else re.sub("(heat|cool|auto) mode", "", text)

    run(out, silent, num_multi_turn=30, attempts=1)
    repaired = [
        trace for trace in conversations(out) if any(check.name == "repair" and check.ok for check in trace.meta.checks)
    ]
    assert repaired
    for trace in repaired:
        (made,) = trace.answer.calls
        assert "mode" not in made.arguments and verifier().check_schema([made]).ok


def test_a_value_said_for_one_of_two_calls_may_be_of_either(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def one_room(request: Request) -> str:
        text = answer(request)
        if held(request) is not None or is_later(request) or "then" not in text:
            return text
        parts = text.split(" then ")
        return " then ".join([parts[0], *parts[2:]]) if len(parts) > 3 else text

    run(out, one_room, num_multi_turn=12, attempts=1)
    assert "may be either: room" in " ".join(reject.detail for reject in rejects(out))


def test_results_are_planned_where_their_schema_is_known(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    schema = {"type": "object", "properties": {"value": {"type": "number"}}, "required": ["value"]}
    feed = {"from": "value", "to": "set_thermostat.temperature", "when": {"sensor": "temperature"}}
    results.write_text(json.dumps({"get_sensor": {"returns": schema, "feeds": [feed]}}))
    asked: list[str] = []

    def teacher(request: Request) -> str:
        if held(request) is not None:
            asked.append(request.messages[-1].content.split(":")[1])
        return answer(request)

    out = tmp_path / "out"
    run(out, teacher, num_multi_turn=12, results=results, attempts=1)
    assert not any("get sensor" in name for name in asked)
    for trace in of_kind(out, "chained"):
        assert json.loads(trace.messages[2].content) == {"value": trace.answer.calls[0].arguments["temperature"]}


def test_a_rejected_conversation_is_tried_again(tmp_path: Path) -> None:
    def late(request: Request, attempt: int) -> str:
        return "" if request.id == "multi-turn-00001" and attempt == 0 else answer(request)

    teacher = Teacher(late)
    made = config(tmp_path / "out", num_multi_turn=2, attempts=2)
    stats = run_generation(made, teacher.opened, catalog())
    assert stats.rejected == 0 and teacher.asked.count("multi-turn-00001") > teacher.asked.count("multi-turn-00002") - 1


def test_conversations_about_the_same_words_are_no_duplicates_where_their_pasts_differ(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, lambda request: "and the same in the kitchen" if is_later(request) else answer(request), num_multi_turn=30)
    assert "duplicate" not in reasons(out).values()


def test_conversations_of_an_earlier_run_are_reused_and_their_steps_made_anew(
    made: tuple[Path, GenerationStats], tmp_path: Path
) -> None:
    out, stats = made
    again = config(tmp_path / "out", num_multi_turn=NUM, attempts=1, reuse=(out / "traces.jsonl",))
    assert run_generation(again, refuse, catalog()).by_source == stats.by_source
    both = ([str(trace.messages) for trace in traces(each)] for each in (out, tmp_path / "out"))
    first, second = map(sorted, both)
    assert first == second


def test_clarify_traces_go_on_with_the_value_and_the_call(tmp_path: Path) -> None:
    out = tmp_path / "out"
    stats = run(out, answer, num_call_first=80, num_clarified=8, no_call_fraction=0.5)
    asked = {trace.id: trace for trace in traces(out) if trace.meta.category == "clarify"}
    answered = [trace for trace in traces(out) if trace.meta.source == "clarified"]
    assert 3 < len(answered) <= 8 and stats.by_source["clarified"].kept == len(answered)
    for trace in answered:
        question = asked[trace.meta.teacher.params["from"][0]]
        assert trace.messages[: len(question.messages)] == question.messages
        assert [message.role for message in trace.messages[-2:]] == ["user", "assistant"]
        assert trace.split_group == question.split_group
        missing = trace.meta.plan_cell.rpartition(".")[2]
        assert missing in trace.answer.calls[0].arguments and verifier().check_schema(trace.answer.calls).ok


def test_a_wrong_reply_makes_no_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcdistill.generation.derive.clarify_followups._REPLIES", ("never mind",))
    out = tmp_path / "out"
    assert "clarified" not in run(out, answer, num_call_first=20, num_clarified=8, no_call_fraction=0.5).by_source


def test_a_catalogue_that_says_its_results_needs_no_file(tmp_path: Path) -> None:
    room = {"type": "string", "pattern": "^R-[0-9]{3}$"}
    floor, seats = ({"type": "integer", "minimum": low, "maximum": low + 4} for low in (1, 6))
    find, found, book = (
        {"type": "object", "properties": properties, "required": list(properties)}
        for properties in ({"floor": floor}, {"room_id": room}, {"room_id": room, "seats": seats})
    )
    path = tmp_path / "tools.json"
    find_room = {"name": "find_room", "inputSchema": find, "outputSchema": found}
    path.write_text(json.dumps({"tools": [find_room, {"name": "book_room", "inputSchema": book}]}))
    settings = config(tmp_path / "out", tools=path, values=None, num_multi_turn=6)
    run_generation(settings, lambda: ScriptedBackend(answer), load_catalog(str(path)))
    assert rejects(tmp_path / "out") == []
    fed = of_kind(tmp_path / "out", "chained") + of_kind(tmp_path / "out", "referring")
    assert len(fed) == 4
    for trace in fed:
        assert json.loads(trace.messages[2].content) == {"room_id": trace.answer.calls[0].arguments["room_id"]}
