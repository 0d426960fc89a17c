"""The study of precision: what is drawn, and what verdicts add up to."""

import re
from pathlib import Path

import pytest
import trace_precision
from trace_precision import Reading, draw, table

from fcdistill.errors import DataError
from fcdistill.storage import read_jsonl, write_jsonl
from tests.distillation.tiny_data import tiny_traces


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["trace_precision.py", *arguments])
    trace_precision.main()


def read(sample: list[Reading], wrong: dict[str, str]) -> list[Reading]:
    """The sample with verdicts: `wrong` says what is wrong with which."""
    return [
        reading.model_copy(update={"right": reading.id not in wrong, "why": wrong.get(reading.id, "")})
        for reading in sample
    ]


def test_a_sample_is_drawn_read_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traces, out = tmp_path / "traces.jsonl", tmp_path / "sample.jsonl"
    write_jsonl(traces, tiny_traces(20))
    run(monkeypatch, "draw", str(traces), "--out", str(out), "--num", "10")
    sample = read_jsonl(out, Reading)
    assert len({reading.id for reading in sample}) == 10
    assert re.fullmatch(r"user: .+", sample[0].conversation[-1]) and "set_light({" in sample[0].answer[0]
    with pytest.raises(DataError, match="10 of 10 traces have no verdict"):
        run(monkeypatch, "count", str(out))
    with pytest.raises(DataError, match="exists"):
        run(monkeypatch, "draw", str(traces), "--out", str(out), "--num", "10")
    out.unlink()
    write_jsonl(out, read(sample, {sample[3].id: "other room"}))
    capsys.readouterr()
    run(monkeypatch, "count", str(out))
    printed = capsys.readouterr().out
    assert "| all | 9 of 10 | 90.0% | 59.6%–98.2% |" in printed and "1 x other room" in printed


def test_the_seed_decides_and_worked_examples_are_not_drawn() -> None:
    traces = tiny_traces(12)
    given = traces[0].model_copy(
        update={"meta": traces[0].meta.model_copy(update={"plan_cell": f"{trace_precision.EXAMPLE_CELLS}simple"})}
    )
    assert draw(traces, 5, 0) == draw(traces, 5, 0) != draw(traces, 5, 1)
    assert given.id not in {reading.id for reading in draw([given, *traces[1:]], 11, 0)}
    with pytest.raises(DataError, match="11 generated traces"):
        draw([given, *traces[1:]], 12, 0)


def test_every_category_and_source_has_a_line() -> None:
    sample = read(draw(tiny_traces(6), 6, 0), {})
    names = {line.split(" | ")[0].strip("| ") for line in table(sample).splitlines()[2:] if line.startswith("|")}
    assert {"all", *(f"category {reading.category}" for reading in sample)} <= names
    assert {f"source {reading.source}" for reading in sample} <= names
