"""How people say arguments: the spoken forms of a value, for writing requests and for grounding them.

One table serves both directions: the writer is told one of the `spoken_forms`, the check accepts any of the
`heard_forms`.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from fcdistill.generation.verification.english.english_pack import ENGLISH
from fcdistill.generation.verification.languages.instants import clock_of, moment
from fcdistill.generation.verification.languages.language_pack import LanguagePack
from fcdistill.generation.verification.value_book import ValueBook

__all__ = ["fixed_start", "heard_forms", "plain_forms", "spoken_forms"]

_FEW = 4
_FIXED_START = re.compile(r"\^((?:[\w #:/-]|\\[.#:/-])+)(?![\w?*+{|])")
"""The literal start of a pattern, without what a quantifier or an alternative may drop."""


def spoken_forms(
    value: Any,
    path: str,
    schema: Mapping[str, Any],
    book: ValueBook,
    now: datetime | None,
    pack: LanguagePack = ENGLISH,
) -> list[str]:
    """The ways to tell a writer of a value, the plainest first; empty where only its parts can be said.

    Args:
        value: the argument's value, or an array's item.
        path: the parameter's path, for the values file.
        schema: the value's schema.
        book: the team's values and phrases.
        now: the current time that the request's context gives; relative dates need it.
        pack: the language; teachers write English.
    """
    entry = book.entry(path, value)
    if entry is not None and entry.say:
        return list(entry.say)
    if isinstance(value, bool):
        return [path.rsplit(".", 1)[-1].replace("_", " ")] if value else []
    if isinstance(value, int | float):
        return pack.number_forms(value)
    if isinstance(value, str):
        return list(_text_forms(value, schema, now, pack))
    if isinstance(value, dict):
        return pack.duration_forms(value) or pack.money_forms(value)
    return []


def plain_forms(value: Any, path: str, schema: Mapping[str, Any], book: ValueBook, now: datetime | None) -> list[str]:
    """Those of the `spoken_forms` that a writer should choose from: all of a few, of many the plainest third.

    Times are said relative to `now` where that is known.
    """
    forms = spoken_forms(value, path, schema, book, now)
    if now is not None:
        year = str(value)[:4]
        forms = [form for form in forms if year not in form] or forms
    return forms[: max(_FEW, len(forms) // 3)] if schema.get("format") or len(forms) > _FEW else forms


def heard_forms(
    value: Any,
    path: str,
    schema: Mapping[str, Any],
    book: ValueBook,
    now: datetime | None,
    pack: LanguagePack = ENGLISH,
) -> list[str]:
    """All ways in which a request may say a value; takes the arguments of `spoken_forms`, which it includes."""
    entry = book.entry(path, value)
    heard = list(entry.hear) if entry is not None else []
    if isinstance(value, dict):
        heard += pack.duration_forms(value) or pack.money_forms(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        heard += pack.odd_number_forms(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        heard += next((names for days, names in pack.weekday_sets.items() if sorted(days) == sorted(value)), ())
    return [*spoken_forms(value, path, schema, book, now, pack), *heard]


def fixed_start(schema: Mapping[str, Any]) -> str:
    """What all values start with, as a pattern tells; empty where there is nothing of that kind."""
    pattern = schema.get("pattern")
    fixed = _FIXED_START.match(pattern) if isinstance(pattern, str) else None
    return fixed[1].replace("\\", "") if fixed else ""


def _text_forms(value: str, schema: Mapping[str, Any], now: datetime | None, pack: LanguagePack) -> Iterator[str]:
    when = moment(value, schema)
    if when is not None:
        is_instant = schema["format"] == "date-time"
        yield from pack.date_time_forms(when, now) if is_instant else pack.date_forms(when.date(), now)
        return
    clock = clock_of(value)
    if clock:
        yield from pack.clock_forms(*clock).whole
        return
    yield from pack.text_forms(value)
    yield value.replace("_", " ")
    yield from _without_fixed_start(value, schema)


def _without_fixed_start(value: str, schema: Mapping[str, Any]) -> Iterator[str]:
    """The part of an id that tells it from others, where the pattern fixes its start: 4711 of ORD-4711."""
    start = fixed_start(schema)
    rest = value.removeprefix(start).lstrip("-#:/. ")
    if start and value.startswith(start) and any(character.isdigit() for character in rest):
        yield rest
