"""The command `compare`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcdistill.cli.console import print_rich
from fcdistill.errors import ConfigError

if TYPE_CHECKING:
    from fcdistill.evaluation.saved_runs import SavedRun

__all__ = ["compare"]


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="A B [C...]", help="Output directories of `eval`, or report.json files.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Compare evaluations on the same cases: each against the first, with paired interval and exact test."""
    import json

    from fcdistill.evaluation.pairing import changed_ids, compare_scores
    from fcdistill.evaluation.saved_runs import describe_differences, read_run, require_comparable
    from fcdistill.reporting.tables import render_comparison, render_paired

    if len(runs) < 2:
        raise ConfigError(
            f"one run is given, {runs[0]}",
            required="at least two: a baseline, and what is compared with it",
            fix="fcdistill compare BASELINE RUN",
        )
    found = [read_run(path) for path in runs]
    _require_distinct(found)
    require_comparable(found)
    baseline, *others = found
    compared = [(run, compare_scores(baseline.scores, run.scores)) for run in others]
    for note in describe_differences(found):
        print(f"fcdistill: note: {note}", file=sys.stderr)
    if as_json:
        comparisons = []
        for run, comparison in compared:
            regressed, fixed = changed_ids(baseline.scores, run.scores)
            figures = comparison.model_dump(mode="json")
            comparisons.append({"run": str(run.path), **figures, "regressed_ids": regressed, "fixed_ids": fixed})
        reports = [{"run": str(run.path), "report": run.report.model_dump(mode="json")} for run in found]
        document = {"baseline": str(baseline.path), "runs": reports, "comparisons": comparisons}
        print(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))
        return
    print_rich(render_comparison([(str(run.path), run.report) for run in found]))
    print_rich(render_paired(str(baseline.path), [(str(run.path), comparison) for run, comparison in compared]))


def _require_distinct(runs: "list[SavedRun]") -> None:
    seen: set[Path] = set()
    for run in runs:
        place = run.path.resolve()
        if place in seen:
            raise ConfigError(f"the run {run.path} is given twice", required="different runs", fix="name each run once")
        seen.add(place)
