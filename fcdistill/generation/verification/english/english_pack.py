"""English as one object: what `languages.language_pack` asks of a language, from the modules of this folder."""

from collections.abc import Mapping, Set
from datetime import date, datetime, timedelta
from typing import Any

from fcdistill.generation.verification.english import clauses, money, times, words
from fcdistill.generation.verification.languages.language_pack import ClockForms, LanguagePack
from fcdistill.generation.verification.languages.word_places import Word, format_number

__all__ = ["ENGLISH"]


class _English:
    name = "en"
    function_words: Set[str] = frozenset(
        "a an and at by down for from in into no of off on or out over the to under up with".split()
    )
    list_words: Set[str] = frozenset("and the a an in for or my".split())
    either_words: Set[str] = frozenset({"or"})
    choice_questions: Set[str] = frozenset({"which", "whether"})
    fractions: Set[str] = frozenset({"half", "quarter"})
    fraction_links: Set[str] = frozenset({"past", "to", "a", "an", "of"})
    after_links: tuple[tuple[str, ...], ...] = (("and",), ("and", "a"))
    # Not "today", which most often only tells when something happened.
    days: Set[str] = frozenset("tomorrow monday tuesday wednesday thursday friday saturday sunday".split())
    early: Set[str] = frozenset({"am", "morning"})
    late: Set[str] = frozenset({"pm", "evening", "afternoon", "tonight", "night"})
    weekday_sets: Mapping[tuple[str, ...], tuple[str, ...]] = times.WEEKDAY_SETS

    def words(self, text: str) -> list[Word]:
        return words.words_of(text)

    def clause_starts(self, text: str) -> frozenset[int] | None:
        return clauses.clause_starts(text)

    def number_forms(self, value: float) -> list[str]:
        forms = [format_number(value)]
        if value > 0 and float(value) % 1 == 0.5:
            whole = format_number(value - 0.5)
            forms += [f"{whole} and a half", f"{whole} and half"]
        return [*forms, "a single"] if value == 1 else forms

    def odd_number_forms(self, value: float) -> list[str]:
        whole, _, decimals = format_number(value).partition(".")
        forms = [f"{whole} point {' '.join(decimals)}", f"{whole} point {decimals}"] if decimals else []
        return [*forms, "half a dozen"] if value == 6 else forms

    def text_forms(self, value: str) -> list[str]:
        weekday = [times.WEEKDAY_CODES[value]] if value in times.WEEKDAY_CODES else []
        return [*weekday, *money.currency_names(value)]

    def clock_forms(self, hour: int, minute: int) -> ClockForms:
        return times.clock_forms(hour, minute)

    def date_forms(self, day: date, now: datetime | None) -> list[str]:
        return list(times.date_forms(day, now))

    def day_forms(self, when: datetime, now: datetime | None) -> list[str]:
        return list(times.day_forms(when, now))

    def date_time_forms(self, when: datetime, now: datetime | None) -> list[str]:
        return list(times.date_time_forms(when, now))

    def offset_forms(self, ahead: timedelta) -> list[str]:
        return list(times.offset_forms(ahead))

    def duration_forms(self, value: Mapping[str, Any]) -> list[str]:
        return times.duration_forms(value)

    def money_forms(self, value: Mapping[str, Any]) -> list[str]:
        return money.money_forms(value)

    def in_other_currencies(self, value: Mapping[str, Any]) -> list[dict[str, Any]]:
        return money.in_other_currencies(value)


ENGLISH: LanguagePack = _English()
"""The pack of English."""
