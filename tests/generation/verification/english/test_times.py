"""Tests of `fcdistill.generation.verification.english.times`."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcdistill.generation.verification.english.times import (
    clock_forms,
    date_forms,
    date_time_forms,
    day_forms,
    duration_forms,
    offset_forms,
)
from fcdistill.generation.verification.languages.instants import clock_of, date_of, instant, moment
from tests.generation.home import NOW


@pytest.mark.parametrize(
    ("clock", "forms"),
    [
        ((7, 0), ["7 am", "7:00 am", "7 a.m.", "7 in the morning", "7 o'clock in the morning"]),
        ((17, 45), ["5:45 pm", "quarter to 6 pm", "15 to 6 pm", "quarter to 6 in the afternoon", "17:45", "5.45 pm"]),
        ((18, 30), ["half past 6 in the evening", "half 6 pm", "18:30"]),
        ((8, 15), ["quarter past 8 am", "15 minutes past 8 am"]),
        ((12, 0), ["noon", "midday", "12 pm"]),
        ((0, 0), ["midnight", "12 am", "0:00"]),
        ((2, 5), ["2:05 am", "2 oh 5 am", "2:05 at night", "5 past 2 in the morning"]),
        ((21, 30), ["9:30 at night", "half past 9 in the evening"]),
        ((22, 45), ["10.45 pm", "10:45 pm", "quarter to 11 pm"]),
    ],
)
def test_times_of_day_that_tell_the_half(clock: tuple[int, int], forms: list[str]) -> None:
    assert set(forms) <= set(clock_forms(*clock).whole)


def test_the_plainest_form_stands_first() -> None:
    assert clock_forms(19, 0).whole[0] == "7 pm"
    assert clock_forms(6, 20).whole[0] == "6:20 am"


def test_bare_forms_leave_the_half_open() -> None:
    assert {"7", "7:00", "19:00"} <= set(clock_forms(19, 0).bare)
    assert "17:30" not in clock_forms(5, 30).bare


@given(st.integers(0, 23), st.integers(0, 59))
def test_a_form_that_tells_the_half_belongs_to_one_time(hour: int, minute: int) -> None:
    others = {form for form in clock_forms((hour + 12) % 24, minute).whole if not form.endswith("at night")}
    assert not others & set(clock_forms(hour, minute).whole)


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("07:30", (7, 30)),
        ("23:59", (23, 59)),
        ("18:00:00Z", (18, 0)),
        ("24:00", None),
        ("7:30", None),
        ("07:30 x", None),
        (730, None),
    ],
)
def test_clock_of(text: object, clock: tuple[int, int] | None) -> None:
    assert clock_of(text) == clock


def test_instants_are_utc_and_need_an_offset() -> None:
    assert instant("2027-05-03T20:00:00+02:00") == datetime(2027, 5, 3, 18, tzinfo=UTC)
    assert instant("2027-05-03T18:00:00") is None
    assert instant("tomorrow") is None
    assert date_of("2027-05-03") == datetime(2027, 5, 3, 12, tzinfo=UTC)
    assert date_of("3 May") is None


def days(ahead: int, hour: int = 18) -> list[str]:
    return list(day_forms((NOW + timedelta(days=ahead)).replace(hour=hour), NOW))


@pytest.mark.parametrize(
    ("ahead", "hour", "said", "unsaid"),
    [
        (0, 18, ["today", "tonight", "this evening"], ["this morning", "this afternoon", "tomorrow"]),
        (0, 17, ["this afternoon", "this evening"], ["this morning"]),
        (0, 10, ["today", "this morning"], ["tonight"]),
        (1, 9, ["tomorrow", "tomorrow morning", "Monday"], ["tomorrow evening", "today"]),
        (1, 20, ["tomorrow evening", "tomorrow night"], ["tomorrow morning", "tomorrow afternoon"]),
        (2, 9, ["the day after tomorrow", "Tuesday", "in 2 days", "4 May", "May 4th"], ["tomorrow"]),
        (6, 9, ["Saturday", "next Saturday", "in 6 days"], ["Sunday"]),
        (7, 9, ["in a week", "9th of May", "2027-05-09", "in 7 days", "next Sunday"], ["Sunday", "this Sunday"]),
        (10, 9, ["in 10 days", "10 days from now", "May the 12th"], ["Wednesday", "next Wednesday"]),
        (14, 9, ["in 2 weeks", "in a fortnight"], ["next Sunday"]),
        (29, 9, ["31 May", "the end of the month", "the end of May"], ["the end of the month 2027"]),
        (30, 9, ["first of June", "June first"], ["the end of the month"]),
        (-1, 9, ["1 May", "1st May 2027", "yesterday", "last Saturday"], ["Saturday", "today"]),
        (-8, 9, ["24 April"], ["last Saturday", "yesterday"]),
    ],
)
def test_days_are_said_relative_to_now(ahead: int, hour: int, said: list[str], unsaid: list[str]) -> None:
    forms = set(days(ahead, hour))
    assert set(said) <= forms
    assert not set(unsaid) & forms


def test_without_now_every_day_names_its_year() -> None:
    assert all("2027" in form for form in day_forms(NOW, None))
    assert "2nd of May 2027" in day_forms(NOW, None)


@pytest.mark.parametrize(
    ("day", "ordinal"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (22, "22nd"),
        (31, "31st"),
    ],
)
def test_ordinals(day: int, ordinal: str) -> None:
    assert f"May {ordinal} 2027" in day_forms(NOW.replace(day=day), None)


def test_dates_are_said_without_a_part_of_the_day() -> None:
    forms = set(date_forms(date(2027, 5, 3), NOW))
    assert {"tomorrow", "Monday", "3 May", "third of May", "twenty-third of May"} - forms == {"twenty-third of May"}
    assert "tomorrow afternoon" not in forms


@pytest.mark.parametrize(("ahead", "yearless"), [(334, True), (335, False), (-30, True), (-31, False)])
def test_a_date_without_its_year_has_one_reading(ahead: int, yearless: bool) -> None:
    day = NOW.date() + timedelta(days=ahead)
    said = f"{day.day} {day:%B}"
    assert (said in date_forms(day, NOW)) == yearless
    assert f"{said} {day.year}" in date_forms(day, NOW)


def test_moments_follow_the_format_of_the_schema() -> None:
    assert moment("2027-05-03", {"format": "date"}) == datetime(2027, 5, 3, 12, tzinfo=UTC)
    assert moment("2027-05-03T18:00:00Z", {"format": "date-time"}) == datetime(2027, 5, 3, 18, tzinfo=UTC)
    assert moment("2027-05-03", {}) is None is moment(20270503, {"format": "date"})


def test_date_times_join_day_and_clock() -> None:
    forms = list(date_time_forms(NOW + timedelta(days=1, hours=8, minutes=45), NOW))
    assert {"tomorrow at 6 pm", "6 pm on 3 May", "Monday, 18:00"} <= set(forms)
    assert "in 30 minutes" in date_time_forms(NOW + timedelta(minutes=30), NOW)


@pytest.mark.parametrize(
    ("ahead", "forms"),
    [
        (timedelta(minutes=20), {"in 20 minutes", "20 minutes from now", "in 20 mins"}),
        (timedelta(minutes=30), {"in half an hour", "in 30 minutes"}),
        (timedelta(hours=1), {"in an hour", "in 1 hour", "in 60 minutes"}),
        (timedelta(minutes=90), {"in an hour and a half", "in 90 minutes", "in 1 hour and 30 minutes"}),
        (timedelta(hours=30), {"in 30 hours"}),
    ],
)
def test_offsets(ahead: timedelta, forms: set[str]) -> None:
    assert forms <= set(offset_forms(ahead))


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(minutes=-5), timedelta(seconds=90), timedelta(days=5)])
def test_what_is_past_uneven_or_far_has_no_offset(ahead: timedelta) -> None:
    assert list(offset_forms(ahead)) == []


@pytest.mark.parametrize(
    ("value", "forms"),
    [
        ({"minutes": 10}, {"10 minutes", "10 mins", "10 minute"}),
        ({"minutes": 1}, {"1 minute", "a minute"}),
        ({"minutes": 15}, {"15 minutes", "quarter of an hour"}),
        ({"minutes": 30}, {"30 minutes", "half an hour"}),
        ({"minutes": 45}, {"three quarters of an hour"}),
        ({"hours": 1}, {"1 hour", "an hour", "1 hr"}),
        ({"hours": 2, "minutes": 10}, {"2 hours and 10 minutes", "2 hours 10 minutes", "2 hrs 10 mins", "2 h 10 m"}),
        ({"hours": 1, "minutes": 30}, {"an hour and a half", "1 and a half hours", "an hour and 30 minutes"}),
        ({"hours": 2, "minutes": 30}, {"2 and a half hours", "2 hours and a half"}),
        ({"hours": 1, "minutes": 15}, {"an hour and a quarter"}),
        ({"minutes": 2, "seconds": 30}, {"2 and a half minutes", "2 minutes and 30 seconds"}),
        ({"days": 3}, {"3 days"}),
    ],
)
def test_durations(value: dict[str, int], forms: set[str]) -> None:
    said = duration_forms(value)
    assert forms <= set(said)
    assert len(said) == len(set(said))


def test_the_first_form_of_a_duration_is_plain() -> None:
    assert duration_forms({"hours": 1, "minutes": 20})[0] == "1 hour and 20 minutes"


@pytest.mark.parametrize("value", [{}, {"name": "milk", "quantity": 3}, {"minutes": "ten"}])
def test_other_objects_are_no_durations(value: dict[str, object]) -> None:
    assert duration_forms(value) == []
