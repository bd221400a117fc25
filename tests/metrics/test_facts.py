"""Facts are found in any digits and spelling, and one digit that differs makes another fact."""

from __future__ import annotations

import pytest

from gemtune.metrics.facts import facts_in, missed


def keys(text: str) -> list[str]:
    return sorted(f"{fact.kind} {fact.key}" for fact in facts_in(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("الآيبان: SA03 8000 0000 6080 1016 7519", ["iban SA0380000000608010167519"]),
        ("EG380019000500000000263180002", ["iban EG380019000500000000263180002"]),
        ("في ٢٠٢٤/٣/٥ م.", ["date 2024-03-05"]),
        ("٥ آذار ٢٠٢٤ and March 5, 2024", ["date 2024-03-05", "date 2024-03-05"]),
        ("١٤٤٥/٠٩/٣٠هـ", ["date 1445-09-30"]),
        ("الإجمالي ١٢٬٥٠٠٫٥٠ ج.م", ["amount 12500.5"]),
        ("1.200,50 €", ["amount 1200.5"]),
        ("فاتورة رقم INV-2026-0023", ["id INV20260023"]),
        ("ص 12، 3 بنود، 7 أيام", []),
        ("رقم 29801011234567.", ["id 29801011234567"]),
    ],
)
def test_facts_of_a_text(text: str, expected: list[str]) -> None:
    assert keys(text) == expected


def test_a_digit_that_differs_is_another_fact() -> None:
    truth = facts_in("SA03 8000 0000 6080 1016 7519; ٥ مارس ٢٠٢٤، ١٢٬٥٠٠٫٥٠، INV-2026-0023")
    reply = facts_in("SA03 8000 0000 6080 1016 7518, 2024-03-06, 12,500.05, INV-2026-0028")
    assert missed(truth, reply) == truth
    assert missed(truth, facts_in("SA0380000000608010167519 05/03/2024 12500.50 INV 2026-0023 inv-2026-0023")) == []


def test_a_long_text_takes_no_time() -> None:
    """Patterns that repeat within repeats would take minutes here."""
    for piece in ("12/3.", "A1-", "SA03 8000 ", "1,234,", "5 مارس "):
        facts_in(piece * 20_000)
