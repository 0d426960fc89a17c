"""What verification asks of a language: its words, its clauses, and the ways in which it says values.

A language is one object with these members. `english/english_pack.py` is one; `neutral.py` stands where the language of
a request is not known. Nothing here knows of tools or schemas.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from fcdistill.generation.verification.languages.word_places import Word

__all__ = ["ClockForms", "LanguagePack"]


@dataclass(frozen=True)
class ClockForms:
    """How people say a time of day.

    Attributes:
        whole: forms that tell the half of the day, or need not, as 17:45 does.
        bare: forms for a sentence that tells the half of the day elsewhere, or not at all.
    """

    whole: tuple[str, ...]
    bare: tuple[str, ...]


class LanguagePack(Protocol):
    """A language as verification knows it; forms come with the plainest first.

    Attributes:
        name: its ISO 639-1 code.
        function_words: too common to mean a choice, even where one is said so ("on", "off").
        list_words: may stand between two members of a list.
        either_words: leave a choice between two things ("or").
        choice_questions: with one of these, such a choice is a question ("which", "whether").
        fractions: halves and quarters.
        fraction_links: right after a fraction they show that it changes a value ("half past").
        after_links: right before a fraction they do ("and a half").
        days: words of days that a call with a date may not leave out.
        early: words of a sentence that speaks of hours before noon.
        late: words of one that speaks of later ones.
        weekday_sets: sets of weekday codes that have a name, with their names.
    """

    name: str
    function_words: Set[str]
    list_words: Set[str]
    either_words: Set[str]
    choice_questions: Set[str]
    fractions: Set[str]
    fraction_links: Set[str]
    after_links: tuple[tuple[str, ...], ...]
    days: Set[str]
    early: Set[str]
    late: Set[str]
    weekday_sets: Mapping[tuple[str, ...], tuple[str, ...]]

    def words(self, text: str) -> list[Word]:
        """The words of a text in comparable form."""
        ...

    def clause_starts(self, text: str) -> frozenset[int] | None:
        """Indices of the words before which something new may begin; None where that is not known."""
        ...

    def number_forms(self, value: float) -> list[str]:
        """How people say a number, where a writer is told too."""
        ...

    def odd_number_forms(self, value: float) -> list[str]:
        """Forms that count as said, but which no writer is told."""
        ...

    def text_forms(self, value: str) -> list[str]:
        """Names of a text that is a code: a weekday's, a currency's."""
        ...

    def clock_forms(self, hour: int, minute: int) -> ClockForms:
        """The forms of a time of day, 24-hour clock."""
        ...

    def date_forms(self, day: date, now: datetime | None) -> list[str]:
        """How people say a date, relative to `now` where that is known."""
        ...

    def day_forms(self, when: datetime, now: datetime | None) -> list[str]:
        """How people say the day of an instant (UTC), with the part of the day."""
        ...

    def date_time_forms(self, when: datetime, now: datetime | None) -> list[str]:
        """How people say an instant (UTC)."""
        ...

    def offset_forms(self, ahead: timedelta) -> list[str]:
        """How people say that something is some time ahead."""
        ...

    def duration_forms(self, value: Mapping[str, Any]) -> list[str]:
        """Forms of an object whose properties are units of time; empty for any other, and where its parts speak."""
        ...

    def money_forms(self, value: Mapping[str, Any]) -> list[str]:
        """Forms of a sum of money; empty for any other object, and where its parts speak."""
        ...

    def in_other_currencies(self, value: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The sums of the same number in each other currency that this language names."""
        ...
