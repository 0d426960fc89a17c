"""The command `generate`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcdistill.cli.console import (
    POLICY_HELP,
    ConfigPath,
    Overrides,
    Policy,
    SkipInvalid,
    opened,
    print_notes,
    print_rich,
    progress,
    quiet_libraries,
)
from fcdistill.cli.flags import given_flags
from fcdistill.errors import InfrastructureError

if TYPE_CHECKING:
    from fcdistill.backends import Backend
    from fcdistill.config import GenerateConfig
    from fcdistill.records import GenerationStats

__all__ = ["generate"]


def generate(
    context: typer.Context,
    config: ConfigPath,
    overrides: Overrides = None,
    recorded: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Recorded answers: logs as `traces import` reads them, or worked examples; may be repeated.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only the I-th of N parts of the work; run without it after the last one."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds of attempts; before each but the first, the teacher learns what was kept."),
    ] = None,
    ray: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Work at N parts as tasks of Ray, here or on the cluster at RAY_ADDRESS.",
        ),
    ] = None,
    skip_invalid: SkipInvalid = None,
    policy: Annotated[Policy | None, typer.Option(help=POLICY_HELP)] = None,
    retry_rejects: Annotated[
        bool, typer.Option("--retry-rejects", help="Give the rejects of a finished run one more attempt.")
    ] = False,
) -> None:
    """The teacher writes tool-call traces, verified against the schemas."""
    from fcdistill.config import load_config
    from fcdistill.generation.journal.ray_shards import run_shards
    from fcdistill.reporting.tables import render_generation

    settings = load_config(config, "generate", overrides or (), given_flags("generate", context.params))
    if settings.ray is not None:
        with progress("shards") as update:
            run_shards(settings, _run, lambda done, total: update(done, total, ""))
    with progress("traces") as update:
        stats = _run(settings, retry_rejects, lambda done, total, kept: update(done, total, f"{kept} kept"))
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


def _run(
    settings: "GenerateConfig",
    retry_rejects: bool = False,
    on_progress: Callable[[int, int, int], None] | None = None,
) -> "GenerationStats":
    """The stage, with the models that the configuration names."""
    from fcdistill.generation.pipeline import run_generation
    from fcdistill.tools.catalog import load_catalog

    judge, teacher = settings.judge, settings.teacher
    catalog = load_catalog(str(settings.tools), skip_invalid=settings.skip_invalid)
    print_notes(catalog.notes)
    return run_generation(
        settings,
        (lambda: opened(teacher)) if teacher else None,
        catalog,
        judge=(lambda: opened(judge)) if judge else None,
        adapted=lambda number, traces: _adapted(settings, number, traces),
        retry_rejects=retry_rejects,
        on_progress=on_progress,
    )


def _adapted(settings: "GenerateConfig", number: int, traces: Path) -> "Backend":
    """The teacher of a round, which has learned these traces; one that has not yet, learns them now."""
    from fcdistill.config import AdaptConfig, LocalBackendConfig
    from fcdistill.distillation.run import run_training

    teacher, out = settings.teacher, settings.out / f"teacher-round-{number}"
    assert isinstance(teacher, LocalBackendConfig)
    quiet_libraries()
    run_training(AdaptConfig(**dict(settings.adaptation), teacher=teacher.model, traces=traces, out=out))
    return opened(teacher.model_copy(update={"model": str(out), "tools_in_prompt": None}))
