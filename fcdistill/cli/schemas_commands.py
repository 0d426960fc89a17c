"""The commands `schemas export` and `schemas config`."""

from pathlib import Path
from typing import Annotated

import typer

from fcdistill.cli.console import print_rich
from fcdistill.errors import ConfigError

__all__ = ["schemas_config", "schemas_export"]


def schemas_export(
    directory: Annotated[Path, typer.Argument(help="Where the files go.")] = Path("schemas/records"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a file differs.")] = False,
) -> None:
    """Write the JSON Schema of every record type."""
    import json

    from fcdistill.records import RECORD_TYPES
    from fcdistill.storage import write_text

    stale = []
    for stem, record_type in RECORD_TYPES.items():
        path = directory / f"{stem}.json"
        text = json.dumps(record_type.model_json_schema(mode="serialization"), indent=2, ensure_ascii=False) + "\n"
        if not check:
            write_text(path, text)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
    if stale:
        raise ConfigError(
            f"these schema files differ from the records: {', '.join(stale)}",
            required="files as `fcdistill schemas export` writes them",
            fix="run `fcdistill schemas export`",
        )


def schemas_config() -> None:
    """Print every configuration field with its type, default and meaning."""
    from rich.table import Table

    from fcdistill.config import describe_fields

    for section, fields in describe_fields().items():
        table = Table("field", "type", "default", "meaning", title=section)
        for row in fields:
            table.add_row(*row)
        print_rich(table)
