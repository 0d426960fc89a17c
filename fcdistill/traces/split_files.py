"""`fcdistill traces split`: a traces file in two, by split group, and nothing of one side on the other."""

from pathlib import Path

from fcdistill.errors import DataError
from fcdistill.records import Trace
from fcdistill.storage import RunDirectory, read_jsonl, write_jsonl
from fcdistill.traces.splits import Split, split_traces

__all__ = ["split_file"]


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
