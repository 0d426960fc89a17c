"""Conversations without results are made turn by turn with a teacher, and every turn is checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from fcdistill.backends.base import Request
from fcdistill.generation.pipeline import run_generation
from fcdistill.generation.plan.plan import calls_group
from fcdistill.records import FollowUpKind, GenerationStats, Trace
from tests.generation.home import catalog, catalog_of, tool, verifier, write_faithfully
from tests.generation.runs import Teacher, config, contents, hermes, refuse, rejects, run, traces

PER_KIND = 6
KINDS = [kind for kind in get_args(FollowUpKind) if kind != "social"]
SETTINGS: dict[str, Any] = {
    "num_multi_turn": PER_KIND * len(KINDS),
    "multi_turn_results": False,
    "multi_turn_shares": dict.fromkeys(KINDS, 1),
    "attempts": 1,
}


def is_later(request: Request) -> bool:
    return request.messages[-1].content.startswith("Said: ")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GenerationStats]:
    out = tmp_path_factory.mktemp("talks") / "out"
    return out, run(out, **SETTINGS)


def of_kind(out: Path, kind: str) -> list[Trace]:
    return [trace for trace in traces(out) if trace.meta.source == "multi_turn" and f"{kind}/" in trace.meta.plan_cell]


def test_a_faithful_teacher_s_conversations_are_kept_and_counted_by_kind(made: tuple[Path, GenerationStats]) -> None:
    out, stats = made
    assert {kind: len(of_kind(out, kind)) for kind in KINDS} == dict.fromkeys(KINDS, PER_KIND), rejects(out)
    assert {cell.conversation for cell in stats.cells} == set(KINDS)
    assert all(cell.asked == cell.made == cell.kept for cell in stats.cells)


def test_no_result_is_heard_and_every_call_fits_its_schema(made: tuple[Path, GenerationStats]) -> None:
    for trace in traces(made[0]):
        roles = [message.role for message in trace.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(verifier().check_schema(message.calls).ok for message in trace.messages if message.calls)


def test_a_value_that_was_missing_completes_the_call(made: tuple[Path, GenerationStats]) -> None:
    middles = set()
    for trace in of_kind(made[0], "completed"):
        middle, whole = trace.messages[1], trace.answer.calls[0]
        middles.add(bool(middle.calls))
        if middle.calls:
            partial = middle.calls[0].arguments
            assert len(partial) == len(whole.arguments) - 1 and partial.items() <= whole.arguments.items()
        else:
            assert middle.content.endswith("?")
    assert middles == {True, False}


@pytest.mark.parametrize("kind", ["corrected", "carried_over", "resumed"])
def test_the_last_call_is_the_first_with_one_other_value(made: tuple[Path, GenerationStats], kind: str) -> None:
    for trace in of_kind(made[0], kind):
        first, last = trace.messages[1].calls[0], trace.answer.calls[0]
        assert first.name == last.name and first.arguments.keys() == last.arguments.keys()
        assert sum(first.arguments[name] != last.arguments[name] for name in first.arguments) == 1
        if kind == "resumed":
            assert trace.messages[3].calls[0].name != first.name


def test_each_answer_is_a_trace_once_and_stays_with_its_conversation(made: tuple[Path, GenerationStats]) -> None:
    found = {trace.id: trace for trace in traces(made[0])}
    for kind in KINDS:
        for trace in of_kind(made[0], kind):
            for number, end in enumerate(range(2, len(trace.messages), 2), 1):
                step = found[f"{trace.id}-step-{number}"]
                assert step.messages == trace.messages[:end] and step.split_group == trace.split_group
                assert step.meta.category == ("simple" if step.answer.calls else "clarify")
    groups: dict[str, str] = {}
    for trace in found.values():
        for message in trace.messages:
            if any(call.arguments for call in message.calls):
                assert groups.setdefault(calls_group(message.calls), trace.split_group) == trace.split_group


def later_is(text: str) -> Callable[[Request], str]:
    return lambda request: text if is_later(request) else write_faithfully(request)


def repeating(request: Request) -> str:
    """Says everything that was said before once more."""
    return f"{request.messages[-1].content.splitlines()[0][6:]} {write_faithfully(request)}"


def without_topic(request: Request) -> str:
    """Says the new value alone, which stands last among the facts."""
    return f"please {write_faithfully(request).split(' and then ')[-1].removeprefix('please ')}"


@pytest.mark.parametrize(
    ("teacher", "kinds", "check"),
    [
        (later_is("I'm sorry, I can't do that."), set(KINDS), "request"),
        (later_is("and something else"), set(KINDS), "grounding"),
        (lambda request: (repeating if is_later(request) else write_faithfully)(request), {"completed"}, "reference"),
        (lambda request: (without_topic if is_later(request) else write_faithfully)(request), {"resumed"}, "reference"),
        (lambda request: "What?" if request.messages[-1].content.startswith("Request") else write_faithfully(request),
         {"completed"}, "question"),
    ],
)  # fmt: skip
def test_a_turn_that_goes_wrong_is_a_reject_with_the_turns_so_far(
    tmp_path: Path, teacher: Callable[[Request], str], kinds: set[str], check: str
) -> None:
    out = tmp_path / "out"
    run(out, teacher, **SETTINGS)
    failed = {reject.candidate.meta.plan_cell.split("/")[0] for reject in rejects(out) if reject.check == check}
    assert failed >= kinds
    assert all(reject.detail and reject.candidate.messages[0].role == "user" for reject in rejects(out))


def test_greetings_and_thanks_are_calls_where_the_catalogue_has_tools_for_them(tmp_path: Path) -> None:
    own = catalog_of(
        tool("greeting", {}),
        tool("thank_you", {}),
        tool("reset_pin", {"card": {"enum": ["credit", "debit"]}}, ("card",)),
    )
    settings = config(
        tmp_path / "out", values=None, num_multi_turn=4, multi_turn_results=False, multi_turn_shares={"social": 1}
    )
    teacher = Teacher(lambda request, _: write_faithfully(request).replace("none", ""))
    run_generation(settings, teacher.opened, own)
    talks = [[m.calls[0].name for m in trace.messages if m.calls] for trace in of_kind(tmp_path / "out", "social")]
    assert sorted(talks) == [["greeting", "reset_pin"]] * 2 + [["reset_pin", "thank_you"]] * 2


def test_blind_answers_prove_the_last_call_from_the_turns_before_it(tmp_path: Path) -> None:
    """The teacher answers with the first call again: right of no conversation but what it has seen decides."""
    seen: list[Request] = []

    def blindly(request: Request) -> str:
        if not request.specs:
            return write_faithfully(request)
        seen.append(request)
        return hermes(*next(message.calls for message in request.messages if message.role == "assistant"))

    settings = {**SETTINGS, "num_multi_turn": 2, "multi_turn_shares": {"corrected": 1}}
    run(tmp_path / "out", blindly, **settings, blind_answers=True)
    assert [reject.check for reject in rejects(tmp_path / "out")] == ["blind"] * 2
    for request in seen:
        assert [message.role for message in request.messages] == ["user", "assistant", "user"]


def test_conversations_of_an_earlier_run_are_reused_and_a_second_run_is_the_same(
    made: tuple[Path, GenerationStats], tmp_path: Path
) -> None:
    run(tmp_path / "again", **SETTINGS)
    assert contents(tmp_path / "again") == contents(made[0])
    reusing = config(tmp_path / "out", **SETTINGS, reuse=(made[0] / "traces.jsonl",))
    assert run_generation(reusing, refuse, catalog()).by_source == made[1].by_source
