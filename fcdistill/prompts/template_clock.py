"""The date that a chat template writes: a fixed one, so that a prompt is the same on every day.

Templates that write today's date ask `strftime_now` for it. Theirs is replaced by one that knows a single date. It
belongs to a tokenizer as its template does, and is saved with it: a student keeps the date that it was trained with.
"""

from datetime import date, datetime
from functools import lru_cache
from string import ascii_letters
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "DEFAULT_TEMPLATE_DATE",
    "clock_arguments",
    "clocked",
    "set_template_date",
    "template_date",
    "written_date",
]

DEFAULT_TEMPLATE_DATE = date(2024, 7, 26)
"""What is written where nothing else is said: the date that the templates of Llama 3 write where they have no clock."""

_FIELD = "template_date"
_CLOCK = "strftime_now"
_MACRO = """\
{%- macro strftime_now(format) -%}
{%- set at = namespace(directive='') -%}
{%- for character in format -%}
{%- if not at.directive and character != '%' -%}{{ character }}
{%- elif not at.directive or character in '-_0^#' -%}{%- set at.directive = at.directive + character -%}
{%- else -%}{{ date_directives[at.directive + character] }}{%- set at.directive = '' -%}
{%- endif -%}
{%- endfor -%}
{%- endmacro +%}"""


def set_template_date(tokenizer: "PreTrainedTokenizerBase", given: date | None) -> None:
    """Fix the date that the tokenizer's template writes, if it does.

    Args:
        tokenizer: the date is saved with it.
        given: the date; None: the one that was saved with the tokenizer, else the default.
    """
    if _CLOCK in str(tokenizer.chat_template):
        tokenizer.init_kwargs[_FIELD] = (given or template_date(tokenizer)).isoformat()


def template_date(tokenizer: "PreTrainedTokenizerBase") -> date:
    """The date that the tokenizer's template writes."""
    saved = tokenizer.init_kwargs.get(_FIELD)
    return DEFAULT_TEMPLATE_DATE if saved is None else date.fromisoformat(saved)


def written_date(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The date that the tokenizer's template writes, in ISO 8601; None where it writes none."""
    return template_date(tokenizer).isoformat() if _CLOCK in str(tokenizer.chat_template) else None


def clocked(template: str) -> str:
    """The template with a clock that reads `date_directives`; as it is, where it asks for no date."""
    return _MACRO + template if _CLOCK in template else template


def clock_arguments(tokenizer: "PreTrainedTokenizerBase", template: str) -> dict[str, dict[str, str]]:
    """What a template of `clocked` reads: each directive of `strftime`, also with a flag, for a day's first moment."""
    return {"date_directives": _directives(template_date(tokenizer))} if _CLOCK in template else {}


@lru_cache(maxsize=16)
def _directives(day: date) -> dict[str, str]:
    moment = datetime(day.year, day.month, day.day)
    directives = [f"%{flag}{letter}" for flag in ("", *"-_0^#") for letter in ascii_letters]
    return {directive: moment.strftime(directive) for directive in directives} | {"%%": "%"}
