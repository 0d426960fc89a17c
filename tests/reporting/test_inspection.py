"""What `inspect` counts, selects and draws."""

import json
from pathlib import Path
from typing import Any

import pytest

from fcdistill.errors import DataError
from fcdistill.records import Reject, Trace
from fcdistill.reporting.inspection import Inspection, Selection, inspect_records, inspection_json, render_inspection
from fcdistill.storage import write_jsonl
from tests.cli.projects import run_cli
from tests.generation.home import catalog
from tests.reporting.reports import printed


def trace(identity: str, request: str, *calls: dict[str, Any], **meta: Any) -> Trace:
    answer = {"role": "assistant", "tool_calls": [{"function": call} for call in calls]}
    if not calls:
        answer = {"role": "assistant", "content": "I can't."}
    return Trace.model_validate(
        {
            "id": identity,
            "messages": [{"role": "user", "content": request}, answer],
            "tools": [tool.model_dump() for tool in catalog().tools],
            "split_group": identity,
            "meta": {"source": "call_first", "category": "simple", "plan_cell": "c", "teacher": {"model": "t"}} | meta,
        }
    )


def light(**arguments: Any) -> dict[str, Any]:
    return {"name": "set_light", "arguments": arguments}


KEPT = [
    trace("k1", "Office light on", light(room="office", state="on")),
    trace(
        "k2",
        "Kitchen to 30",
        light(room="kitchen", state="on", brightness=30),
        checks=[
            {"name": "schema", "ok": True},
            {"name": "judge", "ok": True, "detail": "vote: 2 of 5; wise picks these calls: said so"},
        ],
    ),
    trace("k3", "A joke please", category="irrelevance", source="request_first"),
]
REJECTED = [trace("r1", "bed light", light(room="bedroom", state="on", mood="calm"))]


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "traces.jsonl", KEPT)
    rejects = [Reject(id=each.id, check="schema", detail="mood is Undeclared", candidate=each) for each in REJECTED]
    write_jsonl(tmp_path / "rejects.jsonl", rejects)
    return tmp_path


def inspected(path: Path, limit: int = 10, seed: int = 0, **selection: str) -> Inspection:
    return inspect_records(path, Selection(**selection), limit=limit, seed=seed)


def ids(found: Inspection) -> list[str]:
    return [row.trace.id for row in found.samples]


def test_a_directory_is_counted_kept_beside_rejected(run_directory: Path) -> None:
    found = inspection_json(inspected(run_directory))
    assert found["read"] == found["selected"] == {"kept": 3, "rejected": 1}
    assert found["tools"]["set_light"] == {"kept": 2, "rejected": 1}
    assert found["tools"]["set_timer"] == {"kept": 0, "rejected": 0}
    assert found["categories"] == {"simple": {"kept": 2, "rejected": 1}, "irrelevance": {"kept": 1, "rejected": 0}}
    assert found["sources"]["request_first"] == {"kept": 1, "rejected": 0}
    assert found["checks"] == {"schema": 1}
    assert found["passed"] == {"schema": {"kept": 1, "rejected": 0}, "judge": {"kept": 1, "rejected": 0}}
    assert found["arguments"]["set_light.brightness"] == {
        "kind": "optional", "kept": 1, "rejected": 0, "values": [{"value": 30, "count": 1}]
    }  # fmt: skip
    assert found["arguments"]["set_light.color"]["kept"] == 0
    assert found["arguments"]["set_light.room"]["kind"] == "required"
    assert found["arguments"]["set_light.mood"]["kind"] == "undeclared"
    assert found["optional_arguments"] == {
        "set_light[]": {"kept": 1, "rejected": 1}, "set_light[brightness]": {"kept": 1, "rejected": 0}
    }  # fmt: skip
    assert [(sample["id"], sample["kept"]) for sample in found["samples"]] == [
        ("k1", True), ("k2", True), ("k3", True), ("r1", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"tool": "set_light"}, ["k1", "k2", "r1"]),
        ({"tool": "set_timer"}, []),
        ({"category": "irrelevance"}, ["k3"]),
        ({"check": "schema"}, ["r1"]),
        ({"passed": "judge"}, ["k2"]),
        ({"grep": "SAID SO"}, ["k2"]),
        ({"source": "request_first"}, ["k3"]),
        ({"grep": "LIGHT ON"}, ["k1"]),
        ({"grep": '"brightness": 30'}, ["k2"]),
        ({"grep": "undeclared"}, ["r1"]),
        ({"tool": "set_light", "grep": "kitchen"}, ["k2"]),
    ],
)
def test_a_selection_narrows_counts_and_samples(
    run_directory: Path, selection: dict[str, str], expected: list[str]
) -> None:
    found = inspected(run_directory, **selection)
    assert ids(found) == expected
    assert found.selected.kept + found.selected.rejected == len(expected)
    assert found.read.kept + found.read.rejected == 4


def test_a_name_that_occurs_nowhere_is_refused(run_directory: Path) -> None:
    with pytest.raises(DataError, match="'set_lihgt'") as caught:
        inspected(run_directory, tool="set_lihgt")
    assert "set_light" in caught.value.required
    with pytest.raises(DataError, match="check 'schema'"):
        inspected(run_directory / "traces.jsonl", check="schema")
    with pytest.raises(DataError, match="passed 'vote'"):
        inspected(run_directory, passed="vote")


def test_a_file_tells_itself_which_records_it_holds(run_directory: Path) -> None:
    elsewhere = run_directory / "elsewhere.jsonl"
    elsewhere.write_bytes((run_directory / "rejects.jsonl").read_bytes())
    assert inspected(elsewhere).selected.rejected == 1
    assert inspected(run_directory / "traces.jsonl").selected.rejected == 0
    elsewhere.write_text("")
    assert inspected(elsewhere).selected.kept == 0


def test_the_draw_follows_the_seed_and_keeps_the_order(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    write_jsonl(path, [trace(f"t{n:02}", "hello") for n in range(40)])
    draws = [ids(inspected(path, limit=3, seed=seed)) for seed in range(60)]
    assert all(len(set(drawn)) == 3 and drawn == sorted(drawn) for drawn in draws)
    assert draws[5] == ids(inspected(path, limit=3, seed=5))
    # Drawn from the whole file: of 180 draws each of 40 records is missed with probability 1%.
    assert len({identity for drawn in draws for identity in drawn}) > 35
    assert ids(inspected(path, limit=0)) == []


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        inspected(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="holds neither"):
        inspected(tmp_path)
    (tmp_path / "bad.jsonl").write_text("[\n")
    with pytest.raises(DataError, match=r"bad\.jsonl"):
        inspected(tmp_path / "bad.jsonl")


def test_the_terminal_shows_tables_and_literal_samples(run_directory: Path) -> None:
    hostile = trace("h", "[bold]x[/bold] \x1b[2J", light(room="attic", state="on"))
    write_jsonl(run_directory / "traces.jsonl", [*KEPT, hostile])
    text = printed(render_inspection(inspected(run_directory)))
    for shown in (
        "4 of 4 traces and 1 of 1 rejects selected",
        "set_light[brightness]",
        "rejected by schema: mood is Undeclared",
        "judge: vote: 2 of 5; wise picks these calls: said so",
        '{"name": "set_light", "arguments": {"room": "kitchen", "state": "on", "brightness": 30}}',
        "[bold]x[/bold] \ufffd[2J",
    ):
        assert shown in text
    assert "\x1b" not in text
    assert max(map(len, printed(render_inspection(inspected(run_directory, limit=0)), width=80).splitlines())) <= 80


def test_the_command_prints_tables_or_json(run_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_cli(capsys, "inspect", str(run_directory), "--json", "--check", "schema", "--limit", "1")
    assert ended.code == 0, ended
    assert [sample["id"] for sample in json.loads(ended.out)["samples"]] == ["r1"]
    ended = run_cli(capsys, "inspect", str(run_directory / "rejects.jsonl"))
    assert ended.code == 0 and "Checks that failed" in ended.out
    ended = run_cli(capsys, "inspect", str(run_directory), "--source", "elsewhere")
    assert ended.code == 2 and "call_first, request_first" in ended.err
