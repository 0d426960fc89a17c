"""Times of day, dates and instants as arguments write them, by RFC 3339 and ISO 8601.

How people say them is a language's affair. Date-times are UTC.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

__all__ = ["clock_of", "date_of", "instant", "moment"]

_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::00(?:Z|\+00:00)?)?")


def clock_of(value: Any) -> tuple[int, int] | None:
    """Hour and minute of a text `HH:MM`, `HH:MM:00` or `HH:MM:00Z`, or None."""
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    return (int(found[1]), int(found[2])) if found else None


def instant(value: str) -> datetime | None:
    """The instant of an RFC 3339 date-time, or None where the text is none."""
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    return when.astimezone(UTC) if when.tzinfo else None


def date_of(value: str) -> datetime | None:
    """Noon UTC of a full-date (`2027-05-03`), or None where the text is none."""
    try:
        return datetime.combine(date.fromisoformat(value), time(12), UTC)
    except ValueError:
        return None


def moment(value: Any, schema: Mapping[str, Any]) -> datetime | None:
    """The instant that a value means under the `format` of its schema, of a date its noon; None for other values."""
    read = {"date-time": instant, "date": date_of}.get(schema.get("format", ""))
    return read(value) if read is not None and isinstance(value, str) else None
