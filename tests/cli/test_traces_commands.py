import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fcdistill.records import Message
from fcdistill.storage import write_jsonl
from tests.cli.projects import Ended, files_below, run_cli
from tests.traces.light_traces import LIGHT, TRACES, reject, trace

Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `traces` where three traces and a reject of the first lie."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("traces.jsonl"), TRACES)
    write_jsonl(Path("rejects.jsonl"), [reject(trace("a", TRACES[0].messages[0], Message.calling([LIGHT])))])
    return lambda *arguments: run_cli(capsys, "traces", *arguments)


@pytest.mark.parametrize("layout", ["trl", "sharegpt", "openai-finetune"])
def test_export_writes_a_row_per_trace(run: Run, layout: str) -> None:
    ended = run("export", "traces.jsonl", "--format", layout, "--out", "made/out.jsonl")
    assert ended.code == 0 and ended.out.startswith("3 traces: made/out.jsonl\n"), ended
    assert ("fewer than 10" in ended.out) == (layout == "openai-finetune")
    assert len([json.loads(line) for line in Path("made/out.jsonl").read_text().splitlines()]) == 3


def test_export_says_how_many_pairs_there_are(run: Run) -> None:
    ended = run("export", "traces.jsonl", "--format", "trl-dpo", "--rejects", "rejects.jsonl", "--out", "pairs.jsonl")
    assert ended.code == 0 and ended.out == "1 pairs from 3 traces and 1 rejects: pairs.jsonl\n", ended
    (row,) = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    assert row.keys() == {"prompt", "chosen", "rejected", "tools"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "trl-dpo", "--out", "x"], "Fix: give --rejects rejects.jsonl"),
        (["--format", "trl", "--out", "x", "--rejects", "rejects.jsonl"], "--rejects has no meaning for trl"),
        (["--format", "trl", "--out", "./traces.jsonl"], "--out traces.jsonl is an input"),
        (["--format", "csv", "--out", "x"], "'csv' is not one of"),
    ],
)
def test_misused_exports_write_nothing(run: Run, arguments: list[str], says: str) -> None:
    before = files_below(Path())
    ended = run("export", "traces.jsonl", *arguments)
    assert ended.code == 2 and says in ended.err and "Traceback" not in ended.err, ended
    assert files_below(Path()) == before


@pytest.mark.parametrize(
    ("broken", "text", "says"),
    [
        ("traces.jsonl", "", "traces file traces.jsonl is empty"),
        ("traces.jsonl", TRACES[0].model_dump_json() + "\n{", "traces file traces.jsonl, line 2"),
        ("rejects.jsonl", "{", "rejects file rejects.jsonl, line 1"),
    ],
)
def test_an_input_that_is_empty_or_torn_leaves_no_file(run: Run, broken: str, text: str, says: str) -> None:
    Path(broken).write_text(text)
    ended = run("export", "traces.jsonl", "--format", "trl-dpo", "--rejects", "rejects.jsonl", "--out", "pairs.jsonl")
    assert ended.code == 2 and says in ended.err and "Traceback" not in ended.err, ended
    assert not Path("pairs.jsonl").exists()


def test_no_pair_is_an_error_that_says_where_more_are(run: Run) -> None:
    Path("rejects.jsonl").write_text("")
    ended = run("export", "traces.jsonl", "--format", "trl-dpo", "--rejects", "rejects.jsonl", "--out", "pairs.jsonl")
    assert ended.code == 2 and "no pair: none of 0 rejects" in ended.err and "journal.jsonl" in ended.err, ended
    assert not Path("pairs.jsonl").exists()


def test_import_prints_its_counts(run: Run) -> None:
    run("export", "traces.jsonl", "--format", "trl", "--out", "trl.jsonl")
    with Path("trl.jsonl").open("a") as file:
        file.write("{\n")
    ended = run("import", "trl.jsonl", "--format", "openai-messages", "--out", "made", "--trust-no-call")
    assert ended.code == 0 and not ended.err, ended
    first, *rest = ended.out.splitlines()
    assert re.fullmatch(r"4 rows: \d traces kept, \d rejected", first) and "  format: 1" in rest
    assert rest[-1] == "Traces: made/traces.jsonl; rejects with reasons: made/rejects.jsonl"
    kept, rejected = (int(text) for text in re.findall(r"(\d) (?:traces|rejected)", first))
    assert kept == len(Path("made/traces.jsonl").read_text().splitlines()) > 0
    assert rejected == len(Path("made/rejects.jsonl").read_text().splitlines())


def test_an_import_of_another_format_says_so(run: Run) -> None:
    ended = run("import", "traces.jsonl", "--format", "xlam", "--out", "made")
    assert ended.code == 2 and "no trace was kept" in ended.err and "is xlam the file's format?" in ended.err, ended
    assert "  format: 3" in ended.out and len(Path("made/rejects.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.jsonl", "--format", "xlam"], "source file none.jsonl does not exist"),
        (["traces.jsonl", "--format", "alpaca"], "'alpaca' is not one of"),
        (["traces.jsonl", "--format", "xlam", "--values", "v.json"], "Fix: give --tools too"),
        (["traces.jsonl", "--format", "xlam", "--tools", "none.json"], "none.json"),
        (["traces.jsonl", "--format", "xlam", "--decontaminate", "none.jsonl"], "none.jsonl"),
    ],
)
def test_misused_imports_write_nothing(run: Run, arguments: list[str], says: str) -> None:
    before = files_below(Path())
    ended = run("import", *arguments, "--out", "made")
    assert ended.code == 2 and says in ended.err and "Traceback" not in ended.err, ended
    assert files_below(Path()) == before


def _tools(name: str) -> None:
    tools = [tool.model_dump(mode="json") for tool in TRACES[0].tools]
    for tool in tools:
        if tool["function"]["name"] == LIGHT.name:
            tool["function"]["name"] = name
    Path("new.json").write_text(json.dumps(tools))


def test_check_passes_an_unchanged_catalogue_and_fails_a_rename_until_it_is_repaired(run: Run) -> None:
    _tools(LIGHT.name)
    ended = run("check", "traces.jsonl", "--tools", "new.json")
    assert ended.code == 0 and "The catalogue did not change." in ended.out and "3 fit" in ended.out, ended
    _tools("set_lamp")
    ended = run("check", "traces.jsonl", "--tools", "new.json")
    assert ended.code == 1 and "rows need new names: --repair DIR writes them" in ended.err, ended
    assert "was set_light" in ended.out, ended
    ended = run("check", "traces.jsonl", "--tools", "new.json", "--repair", "mended")
    assert ended.code == 0 and "3 rows: mended/traces.jsonl; 0 broken" in ended.out, ended
    assert run("check", "mended/traces.jsonl", "--tools", "new.json").code == 0


def test_check_fails_where_a_tool_is_gone_and_keeps_what_is_broken(run: Run) -> None:
    Path("new.json").write_text('[{"name": "beep", "description": "Beeps."}]')
    ended = run("check", "traces.jsonl", "--tools", "new.json", "--repair", "mended")
    assert ended.code == 1 and "rows no longer fit the catalogue" in ended.err, ended
    assert Path("mended/broken.jsonl").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["traces.jsonl"], "Missing option '--tools'"),
        (["missing.jsonl", "--tools", "new.json"], "missing.jsonl"),
        (["traces.jsonl", "--tools", "gone.json"], "gone.json"),
        (["traces.jsonl", "--tools", "new.json", "--rename", "x"], "rename 'x' can't be read"),
        (["traces.jsonl", "--tools", "new.json", "--rename", "x=y"], "the old catalogue has no tool x"),
        (["traces.jsonl", "--tools", "new.json", "--repair", "."], "--repair . holds the input"),
    ],
)
def test_misused_checks_write_nothing(run: Run, arguments: list[str], says: str) -> None:
    _tools("set_lamp")
    before = files_below(Path())
    ended = run("check", *arguments)
    assert ended.code == 2 and says in ended.err and "Traceback" not in ended.err, ended
    assert files_below(Path()) == before


def test_split_tells_where_the_sides_are(run: Run) -> None:
    ended = run("split", "traces.jsonl", "--out", "sides", "--held-out-fraction", "0.4")
    assert ended.code == 0 and "2 traces: sides/train.jsonl; 1 held out: sides/held_out.jsonl" in ended.out, ended
    assert len(Path("sides/train.jsonl").read_text().splitlines()) == 2
    ended = run("split", "none.jsonl", "--out", "sides")
    assert ended.code == 2 and "traces file none.jsonl does not exist" in ended.err, ended
