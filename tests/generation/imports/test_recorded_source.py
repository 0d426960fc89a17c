"""Tests of `fcdistill.generation.imports.recorded_source`: recorded answers in a plan, with and without a teacher."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fcdistill.config import GenerateConfig
from fcdistill.errors import ConfigError, DataError
from fcdistill.generation.imports.recorded_source import read_recorded
from fcdistill.generation.pipeline import run_generation
from fcdistill.records import GenerationStats
from fcdistill.storage import read_json
from tests.generation.home import TOOLS, VALUES, catalog, verifier, write_faithfully
from tests.generation.runs import contents, reasons, run, seeds_file, traces

LIGHT = {"name": "set_light", "arguments": {"room": "kitchen", "state": "on"}}
WEATHER = {"name": "get_weather", "arguments": {"city": "Oslo"}}


def row(identity: str, request: str, *calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": identity, "request": request, "category": "simple", "calls": calls, **fields}


def recorded(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def wire(call: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": call}]}


def alone(out: Path, path: Path, **fields: Any) -> GenerationStats:
    """A run without a teacher."""
    config = GenerateConfig(**{"tools": TOOLS, "values": VALUES, "out": out, "recorded": (path,), **fields})
    return run_generation(config, None, catalog())


def test_rows_of_all_layouts_are_read_by_their_keys(tmp_path: Path) -> None:
    request = {"role": "user", "content": "what's the weather in Oslo"}
    path = recorded(
        tmp_path / "mixed.jsonl",
        row("a", "kitchen light on", LIGHT),
        {"request": {"messages": [request]}, "response": {"model": "big", "choices": [{"message": wire(WEATHER)}]}},
        {
            "messages": [
                {"role": "user", "content": "kitchen light on"},
                wire(LIGHT),
                {"role": "tool", "tool_call_id": "c1", "content": "on"},
                {"role": "assistant", "content": "It is on."},
                request,
                wire(WEATHER),
            ]
        },
        {"query": "kitchen light on", "answers": json.dumps([LIGHT])},
        {
            "conversations": [
                {"from": "human", "value": "kitchen light on"},
                {"from": "gpt", "value": f"<tool_call>{json.dumps(LIGHT)}</tool_call>"},
            ]
        },
        row("b", "tell me a story", category="irrelevance", text="No tool does it."),
        row("c", "turn it on", category="clarify", text="Which room?"),
        {"other": 1},
        row("d", "no answer"),
        row("e", "kitchen light on", LIGHT, category="parallel"),
        row("f", "kitchen light on", {"name": "no_such_tool", "arguments": {}}),
    )
    found = {trace.id.removeprefix("recorded-mixed-"): trace for trace in read_recorded([path], verifier())}
    failed = {name: check.name for name, trace in found.items() for check in trace.meta.checks if not check.ok}
    assert failed == {"8": "format", "9": "format", "10": "count", "11": "tool"}
    assert list(found) == ["1", "2", "3-1", "3-3", "4", "5", "6", "7", "8", "9", "10", "11"]
    assert {trace.meta.source for trace in found.values()} == {"recorded"}
    assert found["1"].meta.plan_cell == found["5"].meta.plan_cell == "simple/set_light[]/recorded"
    assert found["2"].meta.teacher.model == "big" and found["6"].meta.plan_cell == "irrelevance/recorded"
    assert found["3-1"].split_group == found["3-3"].split_group != found["1"].split_group == found["4"].split_group
    assert found["7"].meta.category == "clarify" and found["7"].answer.content == "Which room?"


def test_files_of_one_name_give_traces_of_their_own(tmp_path: Path) -> None:
    paths = []
    for folder in "ab":
        (tmp_path / folder).mkdir()
        paths.append(recorded(tmp_path / folder / "log.jsonl", row("x", f"kitchen light on {folder}", LIGHT)))
    ids = [trace.id for trace in read_recorded(paths, verifier())]
    assert ids == ["recorded-log-1-1", "recorded-log-2-1"]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="recorded answers .* is empty"):
        read_recorded([recorded(tmp_path / "none.jsonl")], verifier())


def test_without_a_teacher_recorded_answers_are_all_there_is(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "r.jsonl",
        row("a", "turn the kitchen light on", LIGHT),
        row("b", "Turn the kitchen light on!", LIGHT),
        row("c", "what's the weather in Bergen", WEATHER),
    )
    stats = alone(tmp_path / "out", path, num_call_first=40)
    assert [trace.id for trace in traces(tmp_path / "out")] == ["recorded-r-1"]
    assert reasons(tmp_path / "out") == {"recorded-r-2": "duplicate", "recorded-r-3": "grounding"}
    made = stats.by_source["recorded"]
    assert (made.planned, made.kept, made.cells_filled) == (3, 1, 1)
    assert made.rejected == {"grounding": 1, "duplicate": 1}
    assert (stats.planned, stats.kept, stats.attempts, stats.reused, stats.unasked) == (3, 1, 0, 0, 39)
    assert sum(cell.asked - cell.kept for cell in stats.cells if cell.arity == "simple") > 0
    assert str(path) in json.dumps(read_json(tmp_path / "out" / "manifest.json"))
    before = contents(tmp_path / "out")
    assert alone(tmp_path / "out", path, num_call_first=40) == stats and contents(tmp_path / "out") == before
    with pytest.raises(ConfigError, match="there is no teacher who could"):
        config = GenerateConfig(tools=TOOLS, values=VALUES, out=tmp_path / "out", recorded=(path,), num_call_first=40)
        run_generation(config, None, catalog(), retry_rejects=True)


def test_a_teacher_is_asked_only_for_what_is_not_recorded(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "r.jsonl",
        row("a", "turn the kitchen light on", LIGHT),
        row("b", "please tell me the weather in Oslo", WEATHER),
        row("c", "and the weather in Oslo over there", WEATHER),
    )
    seeds = seeds_file(tmp_path / "s.jsonl", ("s", "Please, tell me the weather in Oslo", "simple"))
    asked: list[str] = []

    def answer(request: Any) -> str:
        asked.append(request.id)
        return write_faithfully(request)

    stats = run(tmp_path / "out", answer, num_call_first=60, seeds=seeds, recorded=(path,))
    assert stats.unasked == 0 and stats.by_source["recorded"].kept == 3
    plan = {item.split("/")[0] for item in asked}
    assert "request-first-s" not in plan, "the recorded answer to the very request stands in its place"
    assert len(plan) == 60 - 2, "the other two stand in places of their cells"
    made = traces(tmp_path / "out")
    assert len(made) == len({trace.id for trace in made}) == stats.kept == 61


def test_a_refused_answer_leaves_its_place_to_the_teacher(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.jsonl", row("a", "turn the kitchen light on", LIGHT))
    stats = run(tmp_path / "out", num_call_first=12, recorded=(path,), examples=example(tmp_path))
    assert reasons(tmp_path / "out") == {"recorded-r-1": "duplicate"}
    assert stats.by_source["call_first"].planned == 12 and stats.by_source["recorded"].cells_filled == 0


def example(folder: Path) -> Path:
    return recorded(folder / "examples.jsonl", row("e", "Turn the kitchen light on!", LIGHT))


def test_all_that_is_derived_and_split_works_on_recorded_traces(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "r.jsonl",
        row("a", "turn the kitchen light on", LIGHT),
        row("b", "what's the weather in Oslo", WEATHER),
    )
    stats = alone(tmp_path / "out", path, num_call_first=0, num_varied=5, num_joined=2)
    assert stats.by_source["varied"].kept >= 3 and stats.by_source["joined"].kept >= 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "only recorded answers"),
        ({"recorded": ("r",), "rounds": 2}, r"no teacher, and rounds \(2\) would ask one"),
        ({"recorded": ("r",), "shard": "1/2", "blind_answers": True}, r"shard \(1/2\) and blind_answers \(true\)"),
    ],
)
def test_what_only_a_teacher_can_do_is_refused_without_one(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        GenerateConfig(**{"tools": TOOLS, "out": Path("o"), **fields})


def test_shards_leave_out_what_is_recorded(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.jsonl", row("a", "turn the kitchen light on", LIGHT))
    fields: dict[str, Any] = {"num_call_first": 20, "recorded": (path,)}
    run(tmp_path / "whole", **fields)
    for shard in ("1/2", "2/2"):
        run(tmp_path / "cut", shard=shard, **fields)
    run(tmp_path / "cut", lambda request: pytest.fail("everything is there"), **fields)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
