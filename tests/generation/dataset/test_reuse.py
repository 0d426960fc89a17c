"""Traces of an earlier generation in a new plan: a teacher is asked only for what is missing."""

import json
from pathlib import Path

import pytest

from fcdistill.backends import ScriptedBackend
from fcdistill.backends.base import Request
from fcdistill.errors import DataError
from fcdistill.generation.dataset.dedupe import request_text
from fcdistill.generation.dataset.reuse import place_traces, read_reusable
from fcdistill.generation.pipeline import run_generation
from fcdistill.generation.plan.plan import PlanItem
from fcdistill.records import EvalCase, FunctionTool, Message, ModelRef, Outcome, ToolCall, ToolSpec, Trace, TraceMeta
from fcdistill.storage import read_jsonl, write_jsonl
from fcdistill.tools.catalog import Catalog, catalog_from_tools
from fcdistill.tools.revalidation import revalidate
from fcdistill.tools.validation import CallValidator
from tests.generation.home import EXAMPLES, catalog, write_faithfully
from tests.generation.runs import call, config, refuse, rejects, run, seeds_file, traces

VENT = FunctionTool(
    function=ToolSpec(
        name="open_vent",
        description="Open the vent.",
        parameters={
            "type": "object",
            "properties": {"level": {"type": "string", "enum": ["low", "high"], "description": "How far"}},
            "required": ["level"],
            "additionalProperties": False,
        },
    )
)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("earlier") / "out"
    run(out, num_call_first=60, num_varied=5, num_joined=3, examples=EXAMPLES)
    return out


def _with_vent() -> Catalog:
    return catalog_from_tools((*catalog().tools, VENT))


def test_a_generation_of_the_same_plan_asks_no_teacher(earlier: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = config(
        out, num_call_first=60, num_varied=5, num_joined=3, examples=EXAMPLES, reuse=(earlier / "traces.jsonl",)
    )
    stats = run_generation(made, refuse, catalog())
    assert stats.reused == 60 and stats.attempts == 0
    # Worked examples, varied and joined traces are made anew, so that none is there twice.
    found, expected = ([trace for trace in traces(path) if trace.meta.source != "varied"] for path in (out, earlier))
    assert found == expected and len(traces(out)) == len(traces(earlier))
    assert all(cell.kept == cell.asked for cell in stats.cells)


def test_a_larger_plan_asks_only_for_what_is_missing(earlier: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(request.id)
        return write_faithfully(request)

    stats = run(tmp_path / "out", answer, num_call_first=90, reuse=(earlier / "traces.jsonl",))
    kept = traces(tmp_path / "out")
    assert 0 < stats.reused < 60 and stats.attempts == 90 - stats.reused == len(set(asked))
    assert len({trace.id for trace in kept}) == len(kept)
    old = {request_text(trace) for trace in traces(earlier) if trace.meta.source == "call_first"}
    assert old <= {request_text(trace) for trace in kept}, "a trace without a place in the plan was lost"


def test_what_is_reused_shares_the_tools_of_the_catalogue(earlier: Path) -> None:
    tools = catalog()
    found = read_reusable((earlier / "traces.jsonl",), tools, CallValidator(tools.specs))
    by_id = {trace.id: trace for trace in traces(earlier)}
    assert len(found) > 40 and all(trace == by_id[trace.id] for trace in found)
    own = {id(tool) for tool in tools.tools}
    assert {id(tool) for trace in found for tool in trace.tools} <= own


def test_the_run_that_reuses_goes_on_where_it_was_killed(earlier: Path, tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    fields = {"num_call_first": 90, "reuse": (earlier / "traces.jsonl",)}
    run(whole, **fields)

    def dies(request: Request) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(resumed, dies, **fields)
    assert {outcome.attempt for outcome in read_jsonl(resumed / "journal.jsonl", Outcome)} == {-1}
    run(resumed, **fields)
    assert (resumed / "traces.jsonl").read_bytes() == (whole / "traces.jsonl").read_bytes()


@pytest.mark.parametrize("fewer", [True, False])
def test_traces_that_do_not_fit_the_catalogue_are_refused_with_the_way_to_mend_them(earlier: Path, fewer: bool) -> None:
    tools = catalog().tools[1:] if fewer else _with_vent().tools
    if not fewer:
        tools = (FunctionTool(function=tools[0].function.model_copy(update={"description": "other"})), *tools[1:])
    changed = catalog_from_tools(tools)
    with pytest.raises(DataError, match="traces check") as caught:
        read_reusable((earlier / "traces.jsonl",), changed, CallValidator(changed.specs))
    assert ("set_light" if fewer else "tools that the catalogue has no longer") in str(caught.value)


def test_a_tool_that_was_added_is_what_is_missing(earlier: Path, tmp_path: Path) -> None:
    mended = revalidate(read_jsonl(earlier / "traces.jsonl", Trace), _with_vent()).repaired
    write_jsonl(tmp_path / "mended.jsonl", mended)
    made = config(tmp_path / "out", num_call_first=60, reuse=(tmp_path / "mended.jsonl",))
    stats = run_generation(made, lambda: ScriptedBackend(write_faithfully), _with_vent())
    new = [trace for trace in traces(tmp_path / "out") if trace.meta.source == "call_first" and trace.meta.attempt == 0]
    assert stats.reused > 40 and stats.calls_by_tool["open_vent"] > 0
    assert any(call.name == "open_vent" for trace in new for call in trace.answer.calls)


def test_seeds_find_their_own_answers(tmp_path: Path) -> None:
    said = "turn on the kitchen light"
    call = '<tool_call>{"name": "set_light", "arguments": {"room": "kitchen", "state": "on"}}</tool_call>'
    first = seeds_file(tmp_path / "one.jsonl", ("a", said, "simple"))
    run(tmp_path / "one", lambda request: call, seeds=first)
    both = seeds_file(tmp_path / "two.jsonl", ("b", "turn the kitchen light on now", "simple"), ("c", said, "simple"))
    stats = run(tmp_path / "two", lambda request: call, seeds=both, reuse=(tmp_path / "one" / "traces.jsonl",))
    assert stats.reused == 1 and stats.attempts == 1
    assert [trace.id for trace in traces(tmp_path / "two")] == ["request-first-b", "request-first-c"]


def test_what_came_close_to_an_eval_case_since_is_not_reused(earlier: Path, tmp_path: Path) -> None:
    known = next(trace for trace in traces(earlier) if trace.meta.source == "call_first" and trace.answer.calls)
    case = EvalCase(id="x", messages=known.messages[:-1], behaviour="no_call", expected=((),), category="irrelevance")
    write_jsonl(tmp_path / "cases.jsonl", [case])
    fields = {"num_call_first": 60, "decontaminate": (tmp_path / "cases.jsonl",), "attempts": 1}
    run(tmp_path / "out", reuse=(earlier / "traces.jsonl",), **fields)
    assert request_text(known) not in {request_text(trace) for trace in traces(tmp_path / "out")}
    assert "contaminated" in {reject.check for reject in rejects(tmp_path / "out")}


def test_places_go_to_what_resembles_them_most() -> None:
    def item(identity: str, cell: str, *calls: ToolCall) -> PlanItem:
        return PlanItem(identity, "call_first", "simple", cell, "g", calls=calls)

    def trace(identity: str, cell: str, *calls: ToolCall) -> Trace:
        meta = TraceMeta(source="call_first", category="simple", plan_cell=cell, teacher=ModelRef(model="t"))
        messages = (Message(role="user", content=identity), Message.calling(calls))
        return Trace(id=identity, messages=messages, tools=catalog().tools, split_group="g", meta=meta)

    on, off = (call("set_light", room="kitchen", state=state) for state in ("on", "off"))
    terse, polite, dimmed = (
        "simple/set_light[]/terse",
        "simple/set_light[]/polite",
        "simple/set_light[brightness]/terse",
    )
    plan = (item("1", terse, on), item("2", terse, off), item("3", polite, on), item("4", dimmed, on))
    found = place_traces(plan, [trace("a", terse, off), trace("b", terse, off), trace("c", terse, off)], catalog())
    assert {place: request_text(trace) for place, trace in found.placed.items()} == {"2": "a", "1": "b", "3": "c"}
    assert {place: settled.cell for place, settled in found.settled.items()} == {"1": terse, "2": terse, "3": terse}
    assert found.settled["1"].calls == (off,) and found.beside == ()
    crowd = place_traces(plan, [trace(name, dimmed, on) for name in "ab"], catalog())
    assert list(crowd.placed) == ["4"] and [trace.id for trace in crowd.beside] == ["reused-00001"]


def test_requests_for_several_calls_replace_each_other_but_not_those_with_new_tools() -> None:
    calls = [call("set_light", room="kitchen", state="on"), call("lock_door", door="front"), call("get_weather")]
    cell = "parallel_multiple/a[]+b[]/terse"
    meta = TraceMeta(source="call_first", category="parallel_multiple", plan_cell=cell, teacher=ModelRef(model="t"))
    messages = (Message(role="user", content="both"), Message.calling(calls[:2]))
    both = Trace(id="t", messages=messages, tools=catalog().tools, split_group="g", meta=meta)
    items = [
        PlanItem(str(n), "call_first", "parallel_multiple", f"parallel_multiple/x{n}[]/polite", "g", calls=tuple(pair))
        for n, pair in enumerate((calls[1:], calls[1::-1]))
    ]
    assert list(place_traces(items, [both], catalog()).placed) == ["1"]


def test_traces_of_unknown_layout_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "hello"}))
    with pytest.raises(DataError, match="t.jsonl"):
        read_reusable((tmp_path / "t.jsonl",), catalog(), CallValidator(catalog().specs))
    with pytest.raises(DataError, match="gone.jsonl"):
        read_reusable((tmp_path / "gone.jsonl",), catalog(), CallValidator(catalog().specs))
