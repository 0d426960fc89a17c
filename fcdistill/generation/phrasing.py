"""How people say values: the spoken forms of an argument, for writing requests and for grounding them.

One table serves both directions. `spoken_forms` lists the ways in which a value may stand in a request; the writer is
told one of them, the check accepts any. A team adds its own through a values file:

    {"tool.param": [value, {"value": value, "say": [...], "hear": [...], "implied_by": [...]}, ...]}

`say` replaces the plain form of that value; `hear` adds phrases that count as said, but which no writer is told;
`implied_by` names arguments whose presence says it (a brightness implies that the light is on). Parameters inside
objects are written `tool.param.inner`; array items have their array's path.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fcdistill.catalog import Catalog
from fcdistill.errors import DataError
from fcdistill.generation.words import format_number
from fcdistill.storage import read_json

__all__ = [
    "ClockForms",
    "ValueBook",
    "ValueEntry",
    "clock_forms",
    "clock_of",
    "day_forms",
    "heard_forms",
    "instant",
    "offset_forms",
    "property_schema",
    "read_value_book",
    "resolve_schema",
    "spoken_forms",
]

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_MONTHS = "January February March April May June July August September October November December".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_WEEKDAY_CODES = {name[:3].lower(): name for name in _WEEKDAYS}
_UNITS = {
    "hours": ("hours", "hour", "hrs", "hr", "h"),
    "minutes": ("minutes", "minute", "mins", "min", "m"),
    "seconds": ("seconds", "second", "secs", "sec", "s"),
    "days": ("days", "day"),
    "weeks": ("weeks", "week"),
}


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
        """The entry of exactly this value, where the book has one (numbers compare by value, types strictly else)."""
        wanted = json.dumps(value, sort_keys=True)
        for entry in self.entries.get(path, ()):
            if json.dumps(entry.value, sort_keys=True) == wanted:
                return entry
        return None


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
        tool, *steps = key.split(".")
        spec = catalog.by_name.get(tool)
        if spec is None or not steps or property_schema(spec.parameters, steps) is None:
            raise DataError(
                f"values file {path}: {key!r} names no parameter of the catalogue",
                required="keys `tool.param` or `tool.param.inner`",
                fix=f"tools are: {', '.join(catalog.by_name)}",
            )
        if not isinstance(listed, list) or not listed:
            raise DataError(f"values file {path}: {key!r} is no list", required="a list of values", fix="correct it")
        entries[key] = tuple(_entry(item, f"values file {path}: {key!r}") for item in listed)
    return ValueBook(entries)


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


def resolve_schema(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """The schema behind local `$ref`s; a schema that is no object counts as `{}`."""
    seen = 0
    while isinstance(schema, dict) and isinstance(schema.get("$ref"), str) and seen < 64:
        found: Any = root
        for step in schema["$ref"].removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step, {}) if isinstance(found, dict) else {}
        schema, seen = found, seen + 1
    return schema if isinstance(schema, dict) else {}


def property_schema(parameters: Mapping[str, Any], steps: list[str]) -> dict[str, Any] | None:
    """The schema at a parameter path; arrays are stepped through. None where there is no such parameter."""
    schema = resolve_schema(dict(parameters), parameters)
    for step in steps:
        while "items" in schema:
            schema = resolve_schema(schema["items"], parameters)
        if step not in schema.get("properties", {}):
            return None
        schema = resolve_schema(schema["properties"][step], parameters)
    return schema


def spoken_forms(value: Any, path: str, schema: Mapping[str, Any], book: ValueBook, now: datetime | None) -> list[str]:
    """The ways to tell a writer of a value, the plainest first; empty where only its parts can be said.

    Args:
        value: the argument's value, or an array's item.
        path: the parameter's path, for the values file.
        schema: the value's schema.
        book: the team's values and phrases.
        now: the current time that the request's context gives; relative dates need it.
    """
    entry = book.entry(path, value)
    if entry is not None and entry.say:
        return list(entry.say)
    if isinstance(value, bool):
        return [path.rsplit(".", 1)[-1].replace("_", " ")] if value else []
    if isinstance(value, int | float):
        return list(_number_forms(value))
    if isinstance(value, str):
        return list(_text_forms(value, schema, now))
    if isinstance(value, dict):
        return _duration_forms(value)
    return []


def heard_forms(value: Any, path: str, schema: Mapping[str, Any], book: ValueBook, now: datetime | None) -> list[str]:
    """All ways in which a request may say a value; takes the arguments of `spoken_forms`, which it includes."""
    entry = book.entry(path, value)
    heard = list(entry.hear) if entry is not None else []
    if isinstance(value, dict):
        heard += _duration_forms(value)
    return [*spoken_forms(value, path, schema, book, now), *heard]


def clock_of(value: Any) -> tuple[int, int] | None:
    """Hour and minute of an `HH:MM` text, or None."""
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    return (int(found[1]), int(found[2])) if found else None


def _number_forms(value: float) -> Iterator[str]:
    yield format_number(value)
    if float(value) % 1 == 0.5:
        whole = format_number(value - 0.5)
        yield f"{whole} and a half"
        yield f"{whole} and half"
    if value == 1:
        yield "a single"


def _text_forms(value: str, schema: Mapping[str, Any], now: datetime | None) -> Iterator[str]:
    when = instant(value) if schema.get("format") == "date-time" else None
    if when is not None:
        yield from _date_time_forms(when, now)
        return
    clock = clock_of(value)
    if clock:
        yield from clock_forms(*clock).whole
        return
    if value in _WEEKDAY_CODES:
        yield _WEEKDAY_CODES[value]
    yield value.replace("_", " ")


def instant(value: str) -> datetime | None:
    """The instant of an RFC 3339 date-time, or None where the text is none."""
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    return when.astimezone(UTC) if when.tzinfo else None


@dataclass(frozen=True)
class ClockForms:
    """How people say a time of day: alone, or with the half of the day told elsewhere in the sentence."""

    whole: tuple[str, ...]
    bare: tuple[str, ...]


def clock_forms(hour: int, minute: int) -> ClockForms:
    """The forms of a time of day, 24-hour clock."""
    hour12, half = (hour % 12) or 12, "am" if hour < 12 else "pm"
    parts = ["in the morning"] if hour < 12 else ["in the afternoon"] if hour < 18 else ["in the evening", "at night"]
    shown = [str(hour12)] if minute == 0 else [f"{hour12}:{minute:02d}"]
    if minute == 0:
        shown.append(f"{hour12}:00")
    shown += _quarters(hour, minute)
    spaced = "a.m." if hour < 12 else "p.m."
    whole = [f"{said} {suffix}" for said in shown for suffix in (half, spaced, *parts)]
    whole += [f"{hour12} o'clock {part}" for part in parts] if minute == 0 else []
    if hour > 12:
        whole.append(f"{hour}:{minute:02d}")
    whole += {(12, 0): ["noon", "midday"], (0, 0): ["midnight"]}.get((hour, minute), [])
    return ClockForms(tuple(whole), (*shown, f"{hour}:{minute:02d}"))


def _quarters(hour: int, minute: int) -> list[str]:
    this, following = (hour % 12) or 12, ((hour + 1) % 12) or 12
    said = {
        15: [f"quarter past {this}"],
        30: [f"half past {this}", f"half {this}"],
        45: [f"quarter to {following}"],
    }.get(minute, [])
    if 0 < minute <= 30:
        said.append(f"{minute} past {this}")
    if minute > 30:
        said.append(f"{60 - minute} to {following}")
    return said


def _date_time_forms(when: datetime, now: datetime | None) -> Iterator[str]:
    for clock in clock_forms(when.hour, when.minute).whole:
        for day in day_forms(when, now):
            yield f"{day} at {clock}"
            yield f"{clock} on {day}"
            yield f"{day}, {clock}"
    if now is not None:
        yield from offset_forms(when - now)


def day_forms(when: datetime, now: datetime | None) -> Iterator[str]:
    """How people say the day of an instant; relative to `now` where that is known."""
    month = _MONTHS[when.month - 1]
    ordinal = f"{when.day}{'th' if 11 <= when.day <= 13 else {1: 'st', 2: 'nd', 3: 'rd'}.get(when.day % 10, 'th')}"
    for day in (str(when.day), ordinal):
        for name in (month, month[:3]):
            for said in (f"{day} {name}", f"{name} {day}", f"{day} of {name}", f"the {day} of {name}"):
                yield f"{said} {when.year}"
                if now is not None:
                    yield said
    yield when.date().isoformat()
    if now is None:
        return
    ahead = (when.date() - now.date()).days
    if ahead == 0:
        yield from ("today", "this morning") if when.hour < 12 else ("today", "this afternoon")
        if when.hour >= 17:
            yield from ("tonight", "this evening")
    if ahead == 1:
        yield from ("tomorrow", "tomorrow morning", "tomorrow evening", "tomorrow afternoon", "tomorrow night")
    if 1 < ahead < 7:
        weekday = _WEEKDAYS[when.weekday()]
        yield from (weekday, f"this {weekday}", f"on {weekday}", f"next {weekday}")


def offset_forms(ahead: timedelta) -> Iterator[str]:
    """How people say that something is some time ahead; nothing for what is past or has seconds."""
    minutes = ahead.total_seconds() / 60
    if minutes <= 0 or minutes != int(minutes):
        return
    hours, rest = divmod(int(minutes), 60)
    said = [f"{int(minutes)} minutes"] if minutes <= 180 else []
    if rest == 0 and hours <= 48:
        said += ["an hour"] if hours == 1 else [f"{hours} hours"]
    if minutes == 30:
        said.append("half an hour")
    for ahead_of in said:
        yield f"in {ahead_of}"
        yield f"{ahead_of} from now"


def _duration_forms(value: Mapping[str, Any]) -> list[str]:
    """Spoken forms of an object whose properties are units of time; empty for any other object."""
    if not value or not all(key in _UNITS and isinstance(number, int | float) for key, number in value.items()):
        return []
    ordered = [(unit, value[unit]) for unit in ("weeks", "days", "hours", "minutes", "seconds") if unit in value]
    forms = []
    for short in range(3):
        spelled = []
        for unit, number in ordered:
            names = _UNITS[unit]
            name = names[min(short + (1 if number == 1 and short == 0 else 0), len(names) - 1)]
            spelled.append(f"{format_number(number)} {name}")
        forms += [" and ".join(spelled), " ".join(spelled)]
    if value == {"minutes": 30}:
        forms += ["half an hour", "a half hour"]
    if value == {"hours": 1}:
        forms += ["an hour", "one hour"]
    if value == {"minutes": 1}:
        forms += ["a minute"]
    if value == {"hours": 1, "minutes": 30}:
        forms += ["an hour and a half", "1 and a half hours"]
    if len(ordered) == 2 and ordered[0][0] == "hours" and value.get("minutes") == 30:
        forms += [f"{ordered[0][1]} and a half hours", f"{ordered[0][1]} hours and a half"]
    if value.get("hours") == 1 and "minutes" in value and len(value) == 2:
        forms += [f"an hour and {value['minutes']} minutes"]
        forms += ["an hour and a quarter"] if value["minutes"] == 15 else []
    if value == {"minutes": 45}:
        forms += ["three quarters of an hour"]
    return list(dict.fromkeys(forms))
