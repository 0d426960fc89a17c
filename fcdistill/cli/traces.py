"""The commands `traces export` and `traces import`."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from fcdistill.errors import ConfigError, DataError

__all__ = ["traces_export"]

_OPENAI_FEWEST = 10


class _ExportFormat(enum.StrEnum):
    """Typer shows the values of an enum as the choices of an option."""

    TRL = "trl"
    TRL_DPO = "trl-dpo"
    SHAREGPT = "sharegpt"
    OPENAI_FINETUNE = "openai-finetune"


def traces_export(
    file: Annotated[Path, typer.Argument(help="The traces.jsonl of `generate` or `traces import`.")],
    layout: Annotated[_ExportFormat, typer.Option("--format", help="What the file is for.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    rejects: Annotated[
        Path | None,
        typer.Option(help="For trl-dpo: rejects.jsonl, or a run's journal.jsonl, which also holds the earlier tries."),
    ] = None,
) -> None:
    """Write traces in the layout of another trainer."""
    from fcdistill.generation.exporting import export_rows, preference_rows, read_failed, write_rows
    from fcdistill.records import Trace
    from fcdistill.storage import read_jsonl

    if (layout == "trl-dpo") != (rejects is not None):
        raise ConfigError(
            "trl-dpo has no rejects to pair" if rejects is None else f"--rejects has no meaning for {layout.value}",
            required="--rejects FILE with --format trl-dpo, and only there",
            fix="give --rejects rejects.jsonl" if rejects is None else "remove --rejects",
        )
    if out.resolve() in {path.resolve() for path in (file, rejects) if path}:
        raise ConfigError(f"--out {out} is an input", required="another file", fix="choose another --out")
    traces = read_jsonl(file, Trace, "traces file")
    if not traces:
        raise DataError(f"traces file {file} is empty", required="at least one trace", fix="generate some first")
    if rejects is None:
        count = write_rows(out, export_rows(traces, layout.value))
        print(f"{count} traces: {out}")
        if layout == "openai-finetune" and count < _OPENAI_FEWEST:
            print(f"OpenAI takes no fine-tuning file with fewer than {_OPENAI_FEWEST} examples.")
        return
    failed = read_failed(rejects)
    rows = list(preference_rows(traces, failed))
    if not rows:
        raise DataError(
            f"no pair: none of {len(failed)} rejects gives another answer to the request of a kept trace",
            required="at least one reject with the same messages and tools as a kept trace",
            fix="give the journal.jsonl of a run that asked for several attempts, or another rejects file",
        )
    print(f"{write_rows(out, rows)} pairs from {len(traces)} traces and {len(failed)} rejects: {out}")
