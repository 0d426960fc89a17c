"""The commands `traces check`, `traces export`, `traces import`, `traces judge` and `traces split`."""

import enum
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from fcdistill.cli.console import (
    POLICY_HELP,
    Policy,
    SkipInvalid,
    fail,
    print_notes,
    print_rich,
    progress,
    quiet_libraries,
)
from fcdistill.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fcdistill.records import Trace
    from fcdistill.traces.export import RowLayout

__all__ = ["traces_check", "traces_export", "traces_import", "traces_judge", "traces_split"]

_OPENAI_FEWEST = 10


class _ExportFormat(enum.StrEnum):
    """Typer shows the values of an enum as the choices of an option."""

    TRL = "trl"
    TRL_DPO = "trl-dpo"
    SHAREGPT = "sharegpt"
    OPENAI_FINETUNE = "openai-finetune"


class _Trust(enum.StrEnum):
    PRODUCTION = "production"
    HAND_WRITTEN = "hand_written"
    TEACHER = "teacher"


class _SourceFormat(enum.StrEnum):
    OPENAI_CHAT = "openai-chat"
    XLAM = "xlam"
    SHAREGPT = "sharegpt"
    OPENAI_MESSAGES = "openai-messages"
    WORKED_EXAMPLES = "worked-examples"


def traces_check(
    file: Annotated[Path, typer.Argument(help="traces.jsonl, or eval cases: they get the same check.")],
    tools: Annotated[str, typer.Option(help="The tool catalogue as it is now.")],
    old_tools: Annotated[
        str | None, typer.Option(help="The catalogue as it was, for rows that hold no tools of their own.")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="A rename: tool=tool or tool.parameter=parameter; may be repeated."),
    ] = None,
    repair: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write what holds there, by its new names and tools, and what is broken."),
    ] = None,
    skip_invalid: SkipInvalid = None,
) -> None:
    """Check traces or eval cases against a catalogue that changed.

    Exit codes: 0 all rows hold (with --repair: or were mended), 1 some do not, 2 usage.
    """
    from rich.console import Group

    from fcdistill.records import EvalCase
    from fcdistill.reporting.changes import render_changes
    from fcdistill.storage import write_jsonl
    from fcdistill.tools.catalog import load_catalog
    from fcdistill.tools.catalog_diff import parse_renames
    from fcdistill.tools.revalidation import read_rows, revalidate

    rows = read_rows(file)
    catalog = load_catalog(tools, skip_invalid=bool(skip_invalid))
    print_notes(catalog.notes)
    found = revalidate(
        rows,
        catalog,
        old=load_catalog(old_tools, skip_invalid=bool(skip_invalid)).specs if old_tools else None,
        renames=parse_renames(rename or ()),
    )
    name = "cases.jsonl" if isinstance(rows[0], EvalCase) else "traces.jsonl"
    if repair is not None and file.resolve() in {(repair / part).resolve() for part in (name, "broken.jsonl")}:
        raise ConfigError(f"--repair {repair} holds the input", required="another directory", fix="choose another one")
    print_rich(Group(*render_changes(found)))
    states = found.states
    if repair is not None:
        write_jsonl(repair / name, found.repaired)
        write_jsonl(repair / "broken.jsonl", found.broken)
        print(f"{len(found.repaired)} rows: {repair / name}; {len(found.broken)} broken: {repair / 'broken.jsonl'}")
    if states["broken"]:
        fail(f"{states['broken']} of {len(rows)} rows no longer fit the catalogue", 1)
    if states["renamed"] and repair is None:
        fail(f"{states['renamed']} of {len(rows)} rows need new names: --repair DIR writes them", 1)


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
    from fcdistill.traces.export import Counted, export_rows, preference_rows, read_failed, write_rows

    if (layout is _ExportFormat.TRL_DPO) != (rejects is not None):
        raise ConfigError(
            "trl-dpo has no rejects to pair" if rejects is None else f"--rejects has no meaning for {layout.value}",
            required="--rejects FILE with --format trl-dpo, and only there",
            fix="give --rejects rejects.jsonl" if rejects is None else "remove --rejects",
        )
    if out.resolve() in {path.resolve() for path in (file, rejects) if path}:
        raise ConfigError(f"--out {out} is an input", required="another file", fix="choose another --out")
    traces = Counted(_some_traces(file))
    if layout is not _ExportFormat.TRL_DPO:
        count = write_rows(out, export_rows(traces, cast("RowLayout", layout.value)))
        print(f"{count} traces: {out}")
        if layout is _ExportFormat.OPENAI_FINETUNE and count < _OPENAI_FEWEST:
            print(f"OpenAI takes no fine-tuning file with fewer than {_OPENAI_FEWEST} examples.")
        return
    assert rejects is not None
    failed = Counted(read_failed(rejects))
    rows = preference_rows(traces, failed)
    first = next(rows, None)
    if first is None:
        raise DataError(
            f"no pair: none of {failed.count} rejects gives another answer to the request of a kept trace",
            required="at least one reject with the same messages and tools as a kept trace",
            fix="give the journal.jsonl of a run that asked for several attempts, or another rejects file",
        )
    count = write_rows(out, chain((first,), rows))
    print(f"{count} pairs from {traces.count} traces and {failed.count} rejects: {out}")


def _some_traces(file: Path) -> "Iterator[Trace]":
    """The traces of a file, of which there must be one; all but the first are read when they are asked for."""
    from fcdistill.records import Trace
    from fcdistill.storage import iter_unique_jsonl

    traces = iter_unique_jsonl(file, Trace, "traces file")
    first = next(traces, None)
    if first is None:
        raise DataError(f"traces file {file} is empty", required="at least one trace", fix="generate some first")
    return chain((first,), traces)


def traces_import(
    file: Annotated[Path, typer.Argument(help="JSONL, or one JSON array.")],
    source_format: Annotated[_SourceFormat, typer.Option("--format", help="How its rows are laid out.")],
    out: Annotated[Path, typer.Option(help="The directory for traces.jsonl and rejects.jsonl.")],
    tools: Annotated[str | None, typer.Option(help="Tool catalogue, for rows that hold no tools of their own.")] = None,
    values: Annotated[Path | None, typer.Option(help="Values file of that catalogue, as for `generate`.")] = None,
    decontaminate: Annotated[
        list[Path] | None, typer.Option(help="Eval cases whose wording no trace may share; may be repeated.")
    ] = None,
    trust_no_call: Annotated[
        bool, typer.Option("--trust-no-call", help="Keep answers without a call: no check can prove them right.")
    ] = False,
    skip_invalid: SkipInvalid = None,
    policy: Annotated[Policy, typer.Option(help=POLICY_HELP)] = Policy.BALANCED,
    trust: Annotated[
        _Trust, typer.Option(help="Whose answers these are: how many are wrong before any witness is heard.")
    ] = _Trust.PRODUCTION,
) -> None:
    """Verify conversations that were recorded elsewhere, and keep those that pass as traces."""
    from fcdistill.generation.imports.import_traces import import_traces
    from fcdistill.tools.catalog import load_catalog

    catalog = load_catalog(tools, skip_invalid=bool(skip_invalid)) if tools else None
    print_notes(catalog.notes if catalog else ())
    counts = import_traces(
        file,
        source_format.value,
        out,
        catalog=catalog,
        values=values,
        decontaminate=decontaminate or (),
        trust_no_call=trust_no_call,
        skip_invalid=bool(skip_invalid),
        policy=policy.value,
        trust=trust.value,
    )
    print_notes(counts.left_out)
    rejected = sum(counts.rejected.values())
    print(f"{counts.rows} rows: {counts.kept} traces kept, {rejected} rejected")
    for check, count in counts.rejected.items():
        print(f"  {check}: {count}")
    if counts.reports:
        print(f"{counts.reports} texts that report the results of calls are no candidates.")
    print(f"Traces: {out / 'traces.jsonl'}; rejects with reasons: {out / 'rejects.jsonl'}")
    if not counts.kept:
        raise DataError(
            f"no trace was kept of {file}",
            required="at least one answer that passes all checks",
            fix=f"read the reasons in {out / 'rejects.jsonl'}; is {source_format.value} the file's format?",
        )


def traces_judge(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A finished output directory of `traces import` or `generate`.")
    ],
    model: Annotated[str, typer.Option(help="Model reference of the student that learns once per fold.")],
    out: Annotated[Path | None, typer.Option(help="The directory to write; default: DIR/judged.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts, each judged by a student that learned the others.")] = 2,
    precision: Annotated[
        float | None,
        typer.Option(min=0.5, max=0.999, help="Share of right traces to reach; default: DIR's own, or 0.97."),
    ] = None,
    trust: Annotated[
        _Trust | None, typer.Option(help="Whose answers these are; default: as DIR was imported or generated.")
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes of each student over the other folds.")] = 3.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of folds, planted errors and training.")] = 0,
) -> None:
    """Let a trained model join the words as a witness: keep, reject or relabel traces that were imported or generated.

    Rejects that nothing but their words spoke against are candidates too. A killed run goes on.
    """
    from fcdistill.reporting.tables import render_judging

    quiet_libraries()
    from fcdistill.evidence.judge_run import Judging, judge_traces

    target = out or directory / "judged"
    judging = Judging(
        model=model,
        num_folds=folds,
        precision=precision,
        trust=trust.value if trust is not None else None,
        epochs=epochs,
        device=device,
        seed=seed,
    )
    with progress("answers measured") as update:
        stats = judge_traces(
            directory,
            target,
            judging,
            report=lambda line: print(line, file=sys.stderr),
            on_progress=lambda done, total: update(done, total, ""),
        )
    print_rich(render_judging(stats))
    print(f"Traces: {target / 'traces.jsonl'}; rejects with reasons: {target / 'rejects.jsonl'}")


def traces_split(
    file: Annotated[Path, typer.Argument(help="The traces.jsonl of `generate` or `traces import`.")],
    out: Annotated[Path, typer.Option(help="The directory for train.jsonl and held_out.jsonl.")],
    held_out_fraction: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Share of the split groups that is held out.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed holds out others.")] = 0,
) -> None:
    """Split traces into training and held-out ones by their split groups, each category in its share."""
    from collections import Counter

    from fcdistill.reporting.terminal import rich_table
    from fcdistill.traces.split_files import split_file

    split = split_file(file, out, held_out_fraction=held_out_fraction, seed=seed)
    sides = [Counter(trace.meta.category for trace in side) for side in (split.train, split.held_out, split.left_out)]
    rows = [(name, *(str(side[name]) for side in sides)) for name in sorted(set().union(*sides))]
    print_rich(rich_table("Categories", ("", "train", "held out", "left out"), rows))
    print(f"{len(split.train)} traces: {out / 'train.jsonl'}; {len(split.held_out)} held out: {out / 'held_out.jsonl'}")
    if split.left_out:
        print(f"{len(split.left_out)} left out: made of traces of both sides, they would show one the other.")
