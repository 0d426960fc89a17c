"""The command `init`."""

from pathlib import Path
from typing import Annotated

import typer

from fcdistill.cli.console import SkipInvalid, print_notes

__all__ = ["init"]


def init(
    tools: Annotated[
        Path,
        typer.Argument(
            metavar="TOOLS", help="Tool catalogue: JSON as OpenAI, MCP, Anthropic, Gemini or Bedrock have it."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where the project's files go.")] = Path("."),
    teacher: Annotated[str, typer.Option(help="Model reference of the teacher.")] = "qwen2.5-coder-0.5b-instruct",
    student: Annotated[str, typer.Option(help="Model reference of the student.")] = "smollm2-135m-instruct",
    skip_invalid: SkipInvalid = None,
) -> None:
    """Draft a project from a tool catalogue: config, seeds, values and eval cases; overwrites nothing."""
    import shlex

    from fcdistill.generation.scaffold import draft_project, write_project
    from fcdistill.tools.catalog import read_catalog

    catalog = read_catalog(tools, skip_invalid=bool(skip_invalid))
    print_notes(catalog.notes)
    project = draft_project(tools, catalog, out, teacher=teacher, student=student)
    write_project(project)
    config, seeds, values, cases = project.files
    print(f"{config}: sections generate, train and eval")
    print(f"{seeds}: {len(project.seeds)} starter requests; replace them by what your users write")
    print(f"{values}: texts for {len(project.values)} arguments; replace them by realistic ones")
    print(f"{cases}: {len(project.cases)} eval cases; write the request of each")
    for note in project.notes:
        print(f"Note: {note}")
    print("Next:")
    for command in ("generate", "train", "eval"):
        print(f"  fcdistill {command} {shlex.quote(str(config))}")
