"""Tests of `fcdistill.traces.split_files`."""

from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.records import Trace
from fcdistill.storage import read_jsonl, write_jsonl
from fcdistill.traces.split_files import split_file
from tests.traces.grouped_traces import trace

TRACES = [trace(f"t{number:02}", f"g{number // 2}") for number in range(60)]


def test_files_are_the_same_again(tmp_path: Path) -> None:
    path, out = tmp_path / "traces.jsonl", tmp_path / "split"
    write_jsonl(path, TRACES)
    split = split_file(path, out, held_out_fraction=0.1, seed=0)
    assert (read_jsonl(out / "train.jsonl", Trace), read_jsonl(out / "held_out.jsonl", Trace)) == (
        split.train,
        split.held_out,
    )
    before = (out / "train.jsonl").read_bytes()
    split_file(path, out, held_out_fraction=0.1, seed=0)
    assert (out / "train.jsonl").read_bytes() == before and (out / "manifest.json").is_file()
    with pytest.raises(DataError, match="another configuration"):
        split_file(path, out, held_out_fraction=0.2, seed=0)


def test_what_can_t_be_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="is empty"):
        split_file(tmp_path / "empty.jsonl", tmp_path / "out", held_out_fraction=0.1, seed=0)
    write_jsonl(tmp_path / "one.jsonl", TRACES[:2])
    with pytest.raises(DataError, match="a single split group"):
        split_file(tmp_path / "one.jsonl", tmp_path / "out", held_out_fraction=0.1, seed=0)
    assert not (tmp_path / "out").exists()
