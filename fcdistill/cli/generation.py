"""The command `generate`."""

from typing import Annotated

import typer

from fcdistill.cli.console import ConfigPath, Overrides, opened, print_rich, progress
from fcdistill.errors import InfrastructureError

__all__ = ["generate"]


def generate(
    config: ConfigPath,
    overrides: Overrides = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only the I-th of N parts of the work; run without it after the last one."),
    ] = None,
    retry_rejects: Annotated[
        bool, typer.Option("--retry-rejects", help="Give the rejects of a finished run one more attempt.")
    ] = False,
) -> None:
    """The teacher writes tool-call traces, verified against the schemas."""
    from fcdistill.catalog import load_catalog
    from fcdistill.config import load_config
    from fcdistill.generation.pipeline import run_generation
    from fcdistill.reporting.tables import render_generation

    settings = load_config(config, "generate", [*(overrides or ()), *([f"shard={shard}"] if shard else ())])
    catalog = load_catalog(str(settings.tools))
    judge = settings.judge
    with progress("traces") as update:
        stats = run_generation(
            settings,
            lambda: opened(settings.teacher),
            catalog,
            judge=(lambda: opened(judge)) if judge else None,
            retry_rejects=retry_rejects,
            on_progress=lambda done, total, kept: update(done, total, f"{kept} kept"),
        )
    print_rich(render_generation(stats))
    if settings.shard is not None:
        print(f"Shard {settings.shard} is done. After the last one, the same command without --shard takes all up.")
        return
    print(f"Traces: {settings.out / 'traces.jsonl'}; rejects with reasons: {settings.out / 'rejects.jsonl'}")
    if stats.kept == 0:
        raise InfrastructureError(
            f"no trace was kept of {stats.planned} that were planned",
            required="at least one that passes all checks",
            fix=f"read the reasons in {settings.out / 'rejects.jsonl'}, then try another teacher, or worked examples",
        )
