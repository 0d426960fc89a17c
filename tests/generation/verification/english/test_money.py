"""Tests of `fcdistill.generation.verification.english.money`."""

from typing import Any

import pytest

from fcdistill.generation.verification.english.money import currency_names, in_other_currencies, money_forms


@pytest.mark.parametrize(
    ("value", "forms"),
    [
        ({"value": 20, "currency": "EUR"}, {"€20", "20 euros", "20 EUR", "EUR 20"}),
        (
            {"currency": "GBP", "amount": 7.5},
            {"£7.50", "7.50 pounds", "7.50 quid", "7 pounds 50", "7 pounds and 50 pence"},
        ),
        ({"value": 19.99, "currency": "USD"}, {"$19.99", "19.99 bucks", "19 dollars 99", "19 dollars and 99 cents"}),
        ({"value": 3.05, "currency": "EUR"}, {"€3.05", "3 euros 5", "3 euros and 5 cents"}),
        ({"value": 0.5, "currency": "EUR"}, {"€0.50", "50 cents"}),
        ({"value": 40.0, "currency": "CHF"}, {"40 francs", "40 CHF", "CHF 40"}),
    ],
)
def test_sums_of_money(value: dict[str, Any], forms: set[str]) -> None:
    said = money_forms(value)
    assert forms <= set(said)
    assert len(said) == len(set(said))


def test_the_plainest_form_stands_first() -> None:
    assert money_forms({"value": 12.5, "currency": "EUR"})[:2] == ["€12.50", "12.50 euros"]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"value": 20},
        {"value": 20, "currency": "EURO"},
        {"value": True, "currency": "EUR"},
        {"value": 20, "tip": 2, "currency": "EUR"},
        {"from": "USD", "to": "EUR"},
    ],
)
def test_other_objects_are_no_money(value: dict[str, Any]) -> None:
    assert money_forms(value) == [] == in_other_currencies(value)


def test_the_same_number_in_other_currencies() -> None:
    others = in_other_currencies({"value": 5, "currency": "EUR"})
    assert {"value": 5, "currency": "USD"} in others
    assert {"value": 5, "currency": "EUR"} not in others


def test_names_of_currencies() -> None:
    assert currency_names("GBP") == ("pounds", "quid")
    assert currency_names("gbp") == () == currency_names("XXX")
