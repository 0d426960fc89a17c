"""The command `inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from fcdistill.cli.console import print_rich

__all__ = ["inspect"]


def inspect(
    file: Annotated[Path, typer.Argument(help="traces.jsonl, rejects.jsonl, or a directory that holds them.")],
    tool: Annotated[str | None, typer.Option(help="Only records whose answer calls this tool.")] = None,
    category: Annotated[str | None, typer.Option(help="Only records of this category.")] = None,
    check: Annotated[str | None, typer.Option(help="Only rejects that failed this check.")] = None,
    passed: Annotated[
        str | None,
        typer.Option(metavar="CHECK", help="Only records that passed this check, such as judge."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only records from this source, for example call_first.")] = None,
    grep: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only records that hold this text, in any case.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many of them.")] = 5,
    seed: Annotated[int, typer.Option(help="Another seed shows others.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts and samples as JSON.")] = False,
) -> None:
    """Show what traces or rejects hold: tools, categories, arguments, failed checks, and some of them to read."""
    import json

    from fcdistill.reporting.inspection import Selection, inspect_records, inspection_json, render_inspection

    selection = Selection(tool=tool, category=category, check=check, passed=passed, source=source, grep=grep)
    found = inspect_records(file, selection, limit=limit, seed=seed)
    if as_json:
        print(json.dumps(inspection_json(found), indent=2, ensure_ascii=False))
    else:
        print_rich(render_inspection(found))
