"""How people say sums of money and currencies, in English.

A sum is an object of a number and an ISO 4217 code, whatever its properties are called. Nothing here knows of requests
or schemas.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fcdistill.generation.words import format_number

__all__ = ["currency_names", "money_forms"]

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
    numbers = [part for part in value.values() if isinstance(part, int | float) and not isinstance(part, bool)]
    codes = [part for part in value.values() if isinstance(part, str) and part in _CURRENCIES]
    if len(value) != 2 or len(numbers) != 1 or len(codes) != 1:
        return []
    return list(dict.fromkeys(_forms(numbers[0], codes[0])))


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
        for name in names:
            yield f"{whole} {name} {hundredths}"
            if code in _HUNDREDTHS:
                yield f"{whole} {name} and {hundredths} {_HUNDREDTHS[code]}"
    # A symbol before the number is heard as a name before it.
    yield from (f"{name} {shown}" for name in reversed(names))
