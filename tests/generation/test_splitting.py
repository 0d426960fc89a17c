"""Tests of `fcdistill.generation.splitting`."""

from pathlib import Path

import pytest

from fcdistill.errors import DataError
from fcdistill.generation.splitting import split_file, split_traces
from fcdistill.records import Message, ModelRef, Trace, TraceMeta
from fcdistill.storage import read_jsonl, write_jsonl


def trace(identity: str, group: str, category: str = "simple", made_of: tuple[str, ...] = ()) -> Trace:
    teacher = ModelRef(model="m", params={"from": list(made_of)} if made_of else {})
    meta = TraceMeta(source="call_first", category=category, plan_cell="c", teacher=teacher)  # type: ignore[arg-type]
    messages = (Message(role="user", content=identity), Message(role="assistant", content="no"))
    return Trace(id=identity, messages=messages, tools=(), split_group=group, meta=meta)


TRACES = [trace(f"t{number:02}", f"g{number // 2}", "irrelevance" if number < 10 else "simple") for number in range(60)]


def ids(traces: list[Trace]) -> list[str]:
    return [trace.id for trace in traces]


def test_groups_stay_together_and_categories_keep_their_share() -> None:
    split = split_traces(TRACES, held_out_fraction=0.2, seed=0)
    assert sorted(ids(split.train) + ids(split.held_out)) == ids(TRACES) and split.left_out == []
    assert not {each.split_group for each in split.train} & {each.split_group for each in split.held_out}
    assert len(split.held_out) == 12
    assert sum(each.meta.category == "irrelevance" for each in split.held_out) == 2
    backwards = split_traces(TRACES[::-1], held_out_fraction=0.2, seed=0)
    assert set(ids(backwards.held_out)) == set(ids(split.held_out))
    assert ids(split_traces(TRACES, held_out_fraction=0.2, seed=1).held_out) != ids(split.held_out)


def test_what_is_made_of_both_sides_is_on_neither() -> None:
    split = split_traces(TRACES, held_out_fraction=0.2, seed=0)
    inside, other = (next(each for each in side) for side in (split.train, split.held_out))
    joined = [
        trace("z-within", inside.split_group, made_of=(inside.id,)),
        trace("z-across", inside.split_group, made_of=(inside.id, other.id)),
        trace("z-apart", other.split_group, made_of=(inside.id,)),
        trace("z-gone", inside.split_group, made_of=("rejected",)),
    ]
    again = split_traces([*TRACES, *joined], held_out_fraction=0.2, seed=0)
    assert set(ids(again.held_out)) == set(ids(split.held_out))
    assert ids(again.left_out) == ["z-across", "z-apart"] and {"z-within", "z-gone"} <= set(ids(again.train))


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
