"""Evidence that needs no language: digits, quoted texts and verbatim copies.

It stands where a request is in a language that no pack knows. A spelled-out number, an inflected noun or a word for
"tomorrow" says nothing here, so that what is not found is not thereby absent.
"""

import re
import unicodedata
from collections.abc import Mapping, Set
from datetime import date, datetime, timedelta
from typing import Any

from fcdistill.generation.verification.languages.language_pack import ClockForms, LanguagePack
from fcdistill.generation.verification.languages.word_places import Word, format_number

__all__ = ["NEUTRAL"]

_PIECE = re.compile(r"(?<![^\s(])[-−]?\d+(?:[.,:]\d+)*|\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*")
_GROUPED = re.compile(r"-?\d{1,3}(?:([.,])\d{3})(?:\1\d{3})*(?:(?!\1)[.,]\d{1,2})?")
_DECIMAL = re.compile(r"-?\d+[.,]\d{1,2}")
_SYMBOLS = str.maketrans({"$": " usd ", "£": " gbp ", "¥": " jpy ", "€": " eur ", "₹": " inr "})


class _Neutral:
    """No language: its words are those of the text, and it says values as they are written."""

    name = ""
    function_words: Set[str] = frozenset()
    list_words: Set[str] = frozenset()
    either_words: Set[str] = frozenset()
    choice_questions: Set[str] = frozenset()
    fractions: Set[str] = frozenset()
    fraction_links: Set[str] = frozenset()
    after_links: tuple[tuple[str, ...], ...] = ()
    days: Set[str] = frozenset()
    early: Set[str] = frozenset()
    late: Set[str] = frozenset()
    weekday_sets: Mapping[tuple[str, ...], tuple[str, ...]] = {}

    def words(self, text: str) -> list[Word]:
        plain = unicodedata.normalize("NFKC", text).casefold().replace("_", " ").replace("−", "-").translate(_SYMBOLS)
        words: list[Word] = []
        for piece in _PIECE.findall(plain):
            words += _digits(piece) if piece.lstrip("-")[0].isdecimal() else [Word(piece)]
        return words

    def clause_starts(self, text: str) -> frozenset[int] | None:
        return None

    def number_forms(self, value: float) -> list[str]:
        return [format_number(value)]

    def odd_number_forms(self, value: float) -> list[str]:
        return []

    def text_forms(self, value: str) -> list[str]:
        return []

    def clock_forms(self, hour: int, minute: int) -> ClockForms:
        whole = [f"{hour}:{minute:02d}"] + ([str(hour)] if minute == 0 else [])
        return ClockForms(tuple(whole), ())

    def date_forms(self, day: date, now: datetime | None) -> list[str]:
        return [day.isoformat(), f"{day.day}/{day.month}/{day.year}", f"{day.year}/{day.month}/{day.day}"]

    def day_forms(self, when: datetime, now: datetime | None) -> list[str]:
        return self.date_forms(when.date(), now)

    def date_time_forms(self, when: datetime, now: datetime | None) -> list[str]:
        return [when.isoformat()]

    def offset_forms(self, ahead: timedelta) -> list[str]:
        return []

    def duration_forms(self, value: Mapping[str, Any]) -> list[str]:
        return []

    def money_forms(self, value: Mapping[str, Any]) -> list[str]:
        return []

    def in_other_currencies(self, value: Mapping[str, Any]) -> list[dict[str, Any]]:
        return []


def _digits(piece: str) -> list[Word]:
    """A number; a decimal comma counts as a point, and what is neither grouped nor decimal falls into its parts."""
    if _GROUPED.fullmatch(piece):
        mark = next(sign for sign in piece if sign in ".,")
        return [Word(format_number(float(piece.replace(mark, "").replace(",", "."))), is_number=True)]
    if _DECIMAL.fullmatch(piece):
        return [Word(format_number(float(piece.replace(",", "."))), is_number=True)]
    return [Word(format_number(int(part)), is_number=True) for part in re.split(r"[.,:]", piece)]


NEUTRAL: LanguagePack = _Neutral()
"""The pack of requests whose language is not known."""
