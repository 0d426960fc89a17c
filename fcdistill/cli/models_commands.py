"""The commands `models list` and `models pull`."""

import sys
from typing import Annotated

import typer

from fcdistill.cli.console import print_rich, quiet_libraries

__all__ = ["models_list", "models_pull"]


def models_list() -> None:
    """Show the catalogue and what of it is in the cache."""
    from rich.table import Table

    from fcdistill.models.catalogue import CATALOGUE, catalogue_state

    table = Table("name", "hub id", "licence", "state", "where")
    for name, entry in CATALOGUE.items():
        state, path = catalogue_state(name)
        table.add_row(name, entry.hub_id, entry.licence, state, str(path) if state != "absent" else "")
    print_rich(table)


def models_pull(
    name: Annotated[str, typer.Argument(help="A name from `fcdistill models list`.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch and convert it again.")] = False,
) -> None:
    """Download a model of the catalogue, verify its hash and cache it as safetensors."""
    quiet_libraries()
    from fcdistill.models.catalogue import pull

    print(pull(name, force=force, report=lambda text: print(text, file=sys.stderr)))
