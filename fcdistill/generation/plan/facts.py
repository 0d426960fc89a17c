"""What a writer is told of a call: each argument's name, and one of the ways in which people say its value."""

import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fcdistill.generation.verification.spoken_forms import plain_forms
from fcdistill.generation.verification.value_book import ValueBook
from fcdistill.records import ToolCall, ToolSpec
from fcdistill.tools.parameters import property_schema, resolve_schema

__all__ = ["facts_to_say"]


def facts_to_say(
    call: ToolCall, spec: ToolSpec, book: ValueBook, now: datetime | None, generator: random.Random
) -> tuple[tuple[str, str], ...]:
    """(name, phrase) of each argument that no other one implies, in the call's order.

    Args:
        call: a call of the tool.
        spec: the tool.
        book: the team's values and phrases.
        now: the current time that the request's context gives, if it does; times are then told relative to it.
        generator: chooses the phrases.
    """
    said = []
    for name, value in call.arguments.items():
        path = f"{spec.name}.{name}"
        entry = book.entry(path, value)
        if entry is not None and any(other in call.arguments for other in entry.implied_by):
            continue
        schema = property_schema(spec.parameters, [name]) or {}
        said.append((name.replace("_", " "), _say(value, path, schema, spec.parameters, book, now, generator)))
    return tuple(said)


def _say(
    value: Any,
    path: str,
    schema: Mapping[str, Any],
    root: Mapping[str, Any],
    book: ValueBook,
    now: datetime | None,
    generator: random.Random,
) -> str:
    forms = plain_forms(value, path, schema, book, now)
    if forms:
        return generator.choice(forms)
    if isinstance(value, list):
        inner = resolve_schema(schema.get("items", {}), root)
        said = [_say(item, path, inner, root, book, now, generator) for item in value]
        return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
    if isinstance(value, dict):
        parts = []
        for key, part in value.items():
            inner = resolve_schema(schema.get("properties", {}).get(key, {}), root)
            parts.append((key, _say(part, f"{path}.{key}", inner, root, book, now, generator)))
        # A count stands before what it counts, as people say it: "3 lemons".
        numbers = [said for key, said in parts if isinstance(value[key], int | float)]
        return " ".join(numbers + [said for key, said in parts if not isinstance(value[key], int | float)])
    return str(value)
