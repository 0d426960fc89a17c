"""How people say sums of money and currencies, in English.

A sum is an object of a number and an ISO 4217 code, whatever its properties are called. Nothing here knows of requests
or schemas.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fcdistill.generation.verification.languages.word_places import format_number

__all__ = ["currency_names", "in_other_currencies", "money_forms"]

_CURRENCIES = {
    "CHF": ("francs", "Swiss francs"),
    "EUR": ("euros",),
    "GBP": ("pounds", "quid"),
    "INR": ("rupees",),
    "JPY": ("yen",),
    "USD": ("dollars", "bucks"),
}
_SYMBOLS = {"EUR": "€", "GBP": "£", "INR": "₹", "JPY": "¥", "USD": "$"}
_HUNDREDTHS = {"CHF": "centimes", "EUR": "cents", "GBP": "pence", "USD": "cents"}


def currency_names(code: str) -> tuple[str, ...]:
    """What people call a currency, the plainest name first; empty for a text that is no known ISO 4217 code."""
    return _CURRENCIES.get(code, ())


def money_forms(value: Mapping[str, Any]) -> list[str]:
    """Spoken forms of a sum of money, the plainest first; empty for any other object."""
    parts = _parts(value)
    return list(dict.fromkeys(_forms(value[parts[0]], value[parts[1]]))) if parts else []


def in_other_currencies(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sums of the same number in each other currency; empty for an object that is no sum of money."""
    parts = _parts(value)
    return [{**value, parts[1]: code} for code in _CURRENCIES if code != value[parts[1]]] if parts else []


def _parts(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """The properties that hold number and currency of a sum of money."""
    numbers = [key for key, part in value.items() if isinstance(part, int | float) and not isinstance(part, bool)]
    codes = [key for key, part in value.items() if isinstance(part, str) and part in _CURRENCIES]
    return (numbers[0], codes[0]) if len(value) == 2 and len(numbers) == len(codes) == 1 else None


def _forms(number: float, code: str) -> Iterator[str]:
    shown = format_number(number)
    whole, _, decimals = shown.partition(".")
    if len(decimals) == 1:
        shown += "0"
    names = (*_CURRENCIES[code], code)
    if code in _SYMBOLS:
        yield f"{_SYMBOLS[code]}{shown}"
    yield from (f"{shown} {name}" for name in names)
    if len(decimals) in (1, 2) and number > 0:
        hundredths = int(f"{decimals:0<2}")
        small = [f"{hundredths} {_HUNDREDTHS[code]}"] if code in _HUNDREDTHS else []
        if whole == "0":
            yield from small
        else:
            for name in names:
                yield f"{whole} {name} {hundredths}"
                yield from (f"{whole} {name} and {part}" for part in small)
    # A symbol before the number is heard as a name before it.
    yield from (f"{name} {shown}" for name in reversed(names))
