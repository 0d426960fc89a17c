"""How people say times of day, dates and durations, in English; all date-times are UTC.

Forms come with the plainest first. Nothing here knows of requests or schemas.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from fcdistill.generation.verification.languages.language_pack import ClockForms
from fcdistill.generation.verification.languages.word_places import format_number

__all__ = [
    "WEEKDAY_CODES",
    "WEEKDAY_SETS",
    "clock_forms",
    "date_forms",
    "date_time_forms",
    "day_forms",
    "duration_forms",
    "offset_forms",
]


_MONTHS = "January February March April May June July August September October November December".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
).split()
WEEKDAY_CODES = {name[:3].lower(): name for name in _WEEKDAYS}
"""Three-letter codes, as `mon`, and the weekdays that they stand for."""
WEEKDAY_SETS: dict[tuple[str, ...], tuple[str, ...]] = {
    tuple(list(WEEKDAY_CODES)[:5]): ("weekdays", "on weekdays", "every weekday", "Monday to Friday", "workdays"),
    tuple(list(WEEKDAY_CODES)[5:]): ("weekends", "on weekends", "every weekend", "weekend"),
    tuple(WEEKDAY_CODES): ("every day", "daily", "each day", "all week"),
}
"""Sets of weekday codes that have a name, with their names."""
# The plainest name first; "hour" without its s also stands in "a 2 hour timer".
_UNITS = {
    "weeks": ("weeks", "week"),
    "days": ("days", "day"),
    "hours": ("hours", "hour", "hrs", "hr", "h"),
    "minutes": ("minutes", "minute", "mins", "min", "m"),
    "seconds": ("seconds", "second", "secs", "sec", "s"),
}
_NUM_UNIT_NAMES = max(map(len, _UNITS.values()))


def clock_forms(hour: int, minute: int) -> ClockForms:
    """The forms of a time of day, 24-hour clock; the plainest first, those with a point ("10.45 pm") last."""
    hour12, half = (hour % 12) or 12, "am" if hour < 12 else "pm"
    parts = _parts_of_day(hour)
    shown = [str(hour12)] if minute == 0 else [f"{hour12}:{minute:02d}"]
    if minute == 0:
        shown.append(f"{hour12}:00")
    shown += _quarters(hour, minute)
    spaced = "a.m." if hour < 12 else "p.m."
    whole = [f"{said} {suffix}" for said in shown for suffix in (half, spaced, *parts)]
    whole += [f"{hour12} o'clock {part}" for part in parts] if minute == 0 else []
    if hour > 12 or hour == 0:
        whole.append(f"{hour}:{minute:02d}")
    whole += {(12, 0): ["noon", "midday"], (0, 0): ["midnight"]}.get((hour, minute), [])
    pointed = [f"{hour12}.{minute:02d}", f"{hour12} oh {minute}"] if 0 < minute < 10 else [f"{hour12}.{minute:02d}"]
    whole += [f"{said} {suffix}" for said in pointed for suffix in (half, *parts)]
    return ClockForms(tuple(whole), (*shown, f"{hour}:{minute:02d}", *pointed, f"{hour}.{minute:02d}"))


def date_time_forms(when: datetime, now: datetime | None) -> Iterator[str]:
    """How people say an instant (UTC): day and time of day, and from now on where `now` is known."""
    for clock in clock_forms(when.hour, when.minute).whole:
        for day in day_forms(when, now):
            yield f"{day} at {clock}"
            yield f"{clock} on {day}"
            yield f"{day}, {clock}"
    if now is not None:
        yield from offset_forms(when - now)


def day_forms(when: datetime, now: datetime | None) -> Iterator[str]:
    """How people say the day of an instant (UTC), where they may tell the part of the day too: "tomorrow evening"."""
    yield from date_forms(when.date(), now)
    if now is None:
        return
    ahead = (when.date() - now.date()).days
    parts = ["morning"] if when.hour < 12 else ["afternoon"] if when.hour < 18 else ["evening"]
    parts += ["evening"] if when.hour == 17 else []
    if ahead == 0:
        yield from (f"this {part}" for part in parts)
        if when.hour >= 17:
            yield "tonight"
    if ahead == 1:
        yield from (f"tomorrow {part}" for part in parts)
        if when.hour >= 18:
            yield "tomorrow night"


def date_forms(day: date, now: datetime | None) -> Iterator[str]:
    """How people say a date; relative to `now`, which comes first, and without the year only where that is known.

    A date without its year is one from 30 days ago to 334 days ahead, so that each has one reading.
    """
    if now is not None:
        yield from _relative_forms(day, now.date())
    ahead = None if now is None else (day - now.date()).days
    month = _MONTHS[day.month - 1]
    ordinal = f"{day.day}{'th' if 11 <= day.day <= 13 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day.day % 10, 'th')}"
    spelled = _ORDINALS[day.day - 1]
    names = [
        said
        for number in (str(day.day), ordinal)
        for name in (month, month[:3])
        for said in (f"{number} {name}", f"{name} {number}", f"{number} of {name}", f"the {number} of {name}")
    ]
    names += [f"{month} the {ordinal}", f"{spelled} of {month}", f"{month} {spelled}"]
    for said in names:
        yield f"{said} {day.year}"
        if ahead is not None and -30 <= ahead < 335:
            yield said
    yield day.isoformat()
    if (day + timedelta(days=1)).day == 1:
        yield f"the end of {month} {day.year}"
        if ahead is not None and 0 <= ahead < 335:
            yield f"the end of {month}"


def _relative_forms(day: date, today: date) -> Iterator[str]:
    ahead, weekday = (day - today).days, _WEEKDAYS[day.weekday()]
    yield from {
        -1: ["yesterday"],
        0: ["today"],
        1: ["tomorrow"],
        2: ["the day after tomorrow", "day after tomorrow"],
        7: ["in a week", "a week from now", "a week from today", f"next {weekday}"],
        14: ["in a fortnight"],
    }.get(ahead, [])
    if 1 <= ahead < 7:
        yield from (weekday, f"this {weekday}", f"on {weekday}", f"next {weekday}")
    if -7 <= ahead < 0:
        yield f"last {weekday}"
    if 1 < ahead <= 30:
        yield from (f"in {ahead} days", f"{ahead} days from now")
    if 14 <= ahead <= 56 and ahead % 7 == 0:
        yield from (f"in {ahead // 7} weeks", f"{ahead // 7} weeks from now")
    if (day + timedelta(days=1)).day == 1 and (day.year, day.month) == (today.year, today.month):
        yield from ("the end of the month", "the end of this month")


def offset_forms(ahead: timedelta) -> Iterator[str]:
    """How people say that something is some time ahead; nothing for what is past or is no whole number of minutes."""
    minutes = ahead.total_seconds() / 60
    if minutes <= 0 or minutes != int(minutes):
        return
    hours, rest = divmod(int(minutes), 60)
    spans = [{"minutes": int(minutes)}] if minutes <= 180 else []
    if 0 < hours <= 48:
        spans.append({"hours": hours, "minutes": rest} if rest else {"hours": hours})
    for said in dict.fromkeys(form for span in spans for form in duration_forms(span)):
        yield f"in {said}"
        yield f"{said} from now"


def duration_forms(value: Mapping[str, Any]) -> list[str]:
    """Spoken forms of an object whose properties are units of time; empty for any other object."""
    if not value or not all(key in _UNITS and isinstance(number, int | float) for key, number in value.items()):
        return []
    ordered = [(unit, value[unit]) for unit in _UNITS if unit in value]
    forms = []
    for style in range(_NUM_UNIT_NAMES):
        spelled = [f"{format_number(number)} {_unit_name(unit, number, style)}" for unit, number in ordered]
        forms += [" and ".join(spelled), " ".join(spelled)]
    forms += _rounded_durations(value)
    return list(dict.fromkeys(forms))


def _parts_of_day(hour: int) -> list[str]:
    if hour < 12:
        return ["in the morning", "at night"] if hour < 5 else ["in the morning"]
    if hour < 18:
        return ["in the afternoon"]
    return ["in the evening", "at night"] if hour >= 20 else ["in the evening"]


def _quarters(hour: int, minute: int) -> list[str]:
    this, following = (hour % 12) or 12, ((hour + 1) % 12) or 12
    said = {
        15: [f"quarter past {this}"],
        30: [f"half past {this}", f"half {this}"],
        45: [f"quarter to {following}"],
    }.get(minute, [])
    if 0 < minute <= 30:
        said += [f"{minute} past {this}", f"{minute} minutes past {this}"]
    if minute > 30:
        said += [f"{60 - minute} to {following}", f"{60 - minute} minutes to {following}"]
    return said


def _unit_name(unit: str, number: float, style: int) -> str:
    names = _UNITS[unit]
    return names[min(max(style, 1) if number == 1 else style, len(names) - 1)]


def _rounded_durations(value: Mapping[str, Any]) -> list[str]:
    """Forms with "a", halves and quarters."""
    if value in ({"hours": 1}, {"minutes": 1}):
        return ["an hour", "one hour"] if "hours" in value else ["a minute"]
    if set(value) == {"minutes"}:
        return {
            15: ["a quarter of an hour", "quarter of an hour"],
            30: ["half an hour", "a half hour"],
            45: ["three quarters of an hour"],
        }.get(value["minutes"], [])
    for large, small, one in (("hours", "minutes", "an hour"), ("minutes", "seconds", "a minute")):
        if set(value) != {large, small}:
            continue
        number, rest = format_number(value[large]), value[small]
        parts = {15: ["a quarter"], 30: ["a half"], 45: ["three quarters"]}.get(rest, [])
        forms = [f"{number} and {part} {large}" for part in parts]
        forms += [f"{number} {large} and {part}" for part in parts]
        if value[large] == 1:
            forms += [f"{one} and {format_number(rest)} {small}", *(f"{one} and {part}" for part in parts)]
        return forms
    return []
