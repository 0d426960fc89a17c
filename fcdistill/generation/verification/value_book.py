"""The team's values file: realistic values per parameter and how people say them.

    {"tool.param": [value, {"value": value, "say": [...], "hear": [...], "implied_by": [...]}, ...]}

`say` replaces the plain form of that value; `hear` adds phrases that count as said, but which no writer is told;
`implied_by` names arguments whose presence says it (a brightness implies that the light is on). Parameters inside
objects are written `tool.param.inner`, in whichever alternative of a schema they stand; array items have their array's
path. A tool may bear the name that its source gave it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fcdistill.errors import DataError
from fcdistill.records import ToolSpec
from fcdistill.storage import read_json
from fcdistill.tools.catalog import Catalog, with_safe_names
from fcdistill.tools.parameters import members, resolve_schema, schemas_at

__all__ = ["ValueBook", "ValueEntry", "read_value_book"]


@dataclass(frozen=True)
class ValueEntry:
    """A realistic value of one parameter and how people say it."""

    value: Any
    say: tuple[str, ...] = ()
    hear: tuple[str, ...] = ()
    implied_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValueBook:
    """Realistic values per parameter path (`tool.param`, `tool.param.inner`)."""

    entries: Mapping[str, tuple[ValueEntry, ...]] = field(default_factory=dict)

    def values(self, path: str) -> tuple[Any, ...]:
        """The listed values of a parameter; empty where none is listed."""
        return tuple(entry.value for entry in self.entries.get(path, ()))

    def entry(self, path: str, value: Any) -> ValueEntry | None:
        """The entry of exactly this value, where the book has one (20 and 20.0 are one value, 1 and true are two)."""
        wanted = _comparable(value)
        return next((entry for entry in self.entries.get(path, ()) if _comparable(entry.value) == wanted), None)


def read_value_book(path: Path | None, catalog: Catalog) -> ValueBook:
    """Read a values file; no path gives an empty book.

    Raises:
        DataError: the file is missing or malformed, or names a tool or parameter that the catalogue lacks.
    """
    if path is None:
        return ValueBook()
    content = read_json(path, "values file")
    if not isinstance(content, dict):
        raise DataError(
            f"values file {path} holds a {type(content).__name__}", required="an object", fix="see data/README.md"
        )
    entries: dict[str, tuple[ValueEntry, ...]] = {}
    for key, listed in content.items():
        place = with_safe_names(key, catalog.safe_names)
        tool, _, parameter = place.partition(".")
        spec = catalog.by_name.get(tool)
        if spec is None or not parameter or not schemas_at(spec.parameters, parameter):
            raise DataError(
                f"values file {path}: {key!r} names no parameter of the catalogue",
                required="keys `tool.param` or `tool.param.inner`",
                fix=_names(tool, spec) if spec is not None else f"tools are: {', '.join(catalog.by_name)}",
            )
        if not isinstance(listed, list) or not listed:
            raise DataError(f"values file {path}: {key!r} is no list", required="a list of values", fix="correct it")
        entries[place] = tuple(_entry(item, f"values file {path}: {key!r}") for item in listed)
    return ValueBook(entries)


def _names(tool: str, spec: ToolSpec) -> str:
    """The parameters that a key of this tool may name."""
    names = members(resolve_schema(spec.parameters, spec.parameters), spec.parameters)
    if not names:
        return f"remove it: {tool} has no parameters that its schema names"
    return f"name one of {', '.join(f'{tool}.{name}' for name in names)}, or what lies inside"


def _entry(item: Any, where: str) -> ValueEntry:
    if not isinstance(item, dict):
        return ValueEntry(item)
    phrases = {key: item.get(key, []) for key in ("say", "hear", "implied_by")}
    listed = all(
        isinstance(texts, list) and all(isinstance(text, str) and text for text in texts) for texts in phrases.values()
    )
    if "value" not in item or not set(item) <= {"value", *phrases} or not listed:
        raise DataError(
            f"{where}: entry {json.dumps(item)}",
            required="a value, or {value, say?, hear?, implied_by?} with lists of texts",
            fix="correct it",
        )
    return ValueEntry(item["value"], **{key: tuple(texts) for key, texts in phrases.items()})


def _comparable(value: Any) -> str:
    """A text that is the same for equal JSON values."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_comparable(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_comparable, value)) + "]"
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
