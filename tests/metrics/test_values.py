"""Dates and numbers as pages write them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from gemtune.metrics.values import date_of, number_of


@pytest.mark.parametrize(
    "text",
    [
        *("2024-03-05", "2024/3/5", "05/03/2024", "5.3.2024", "05-Mar-2024", " 5 March, 2024 ", "2024-03-05T10:00:00Z"),
        *("5 March 2024", "March 5, 2024", "5 مارس 2024", "٥ آذار ٢٠٢٤م", "٢٠٢٤/٠٣/٠٥"),
    ],
)
def test_one_day_in_many_spellings(text: str) -> None:
    assert date_of(text) == date(2024, 3, 5)


def test_a_month_above_twelve_is_the_day() -> None:
    assert date_of("03/25/2024") == date(2024, 3, 25)


@pytest.mark.parametrize("text", ["", "soon", "2024", "30/02/2024", "99/99/9999", "5 Foo 2024", "1" * 10_000])
def test_what_is_no_date(text: str) -> None:
    assert date_of(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,200.50", "1200.5"),
        ("1.200,50", "1200.5"),
        ("١٬٢٠٠٫٥٠", "1200.5"),
        ("EGP 1 200.50", "1200.5"),
        ("-3", "-3"),
        ("12 %", "12"),
        ("1e3", "1000"),
        ("007", "7"),
        ("9" * 300, "9" * 300),
    ],
)
def test_numbers(text: str, value: str) -> None:
    assert number_of(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "none", "1-2", "1 of 2", "12/3", "NaN", "Infinity"])
def test_what_is_no_number(text: str) -> None:
    assert number_of(text) is None
