"""`fcdistill traces split`: a traces file in two, by split group, and nothing of one side on the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcdistill.errors import DataError
from fcdistill.records import Trace
from fcdistill.splits import hold_out_groups
from fcdistill.storage import RunDirectory, read_jsonl, write_jsonl

__all__ = ["Split", "split_file", "split_traces"]


@dataclass(frozen=True)
class Split:
    """The sides of a split.

    Attributes:
        train: to learn from.
        held_out: to measure by.
        left_out: made of traces of both sides, such as joined requests: each would show one side the other.
    """

    train: list[Trace]
    held_out: list[Trace]
    left_out: list[Trace]


def split_file(path: Path, out: Path, *, held_out_fraction: float, seed: int) -> Split:
    """Split a traces file into `train.jsonl` and `held_out.jsonl` of a directory.

    Raises:
        FcdistillError: the file can't be read or split, or the directory belongs to something else.
    """
    traces = read_jsonl(path, Trace, "traces file")
    if not traces:
        raise DataError(f"traces file {path} is empty", required="at least two traces", fix="generate some first")
    split = split_traces(traces, held_out_fraction=held_out_fraction, seed=seed)
    config = {"file": str(path), "held_out_fraction": held_out_fraction}
    with RunDirectory(out, stage="split", config=config, inputs=[path], seed=seed) as run:
        write_jsonl(out / "train.jsonl", split.train)
        write_jsonl(out / "held_out.jsonl", split.held_out)
        run.mark_complete()
    return split


def split_traces(traces: Sequence[Trace], *, held_out_fraction: float, seed: int) -> Split:
    """Split traces by their groups, with about the same share of every category on either side.

    Args:
        traces: all of them; their order does not matter to who goes where.
        held_out_fraction: share of the groups that is held out.
        seed: which groups.

    Raises:
        DataError: there are too few groups.
    """
    # A group mostly has one category; where it has several, the trace with the first id decides.
    ordered = sorted(traces, key=lambda trace: trace.id, reverse=True)
    strata = {trace.split_group: trace.meta.category for trace in ordered}
    groups = hold_out_groups(strata, held_out_fraction, seed)
    is_held_out = {trace.id: trace.split_group in groups for trace in traces}
    split = Split([], [], [])
    for trace in traces:
        here = is_held_out[trace.id]
        sources = trace.meta.teacher.params.get("from", ())
        if any(is_held_out.get(source, here) != here for source in sources):
            split.left_out.append(trace)
        else:
            (split.held_out if here else split.train).append(trace)
    return split
