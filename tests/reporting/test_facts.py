"""How many facts each reader has right, and what tuned has wrong."""

from __future__ import annotations

from gemtune.reporting.facts import MOST_MISSES, facts_of

TRUTH = "٥ مارس ٢٠٢٤، الإجمالي ٥٠٠٫٠٠، فاتورة INV-2026-0023"


def test_each_reader_is_counted_on_the_pages_that_it_has_answered() -> None:
    facts = facts_of(
        [
            ("a.pdf, page 1", TRUTH, {"base": "", "tuned": "05/03/2024 500.00 INV-2026-0028", "ocr": TRUTH}),
            ("a.pdf, page 2", "لا شيء", {"base": "", "tuned": "2024-01-01"}),
            ("b.pdf, page 1", "600.00", {"base": "600.00", "tuned": "600.00"}),
        ]
    )
    assert facts
    assert [(line.kind, line.true, dict(line.right)) for line in facts.kinds] == [
        ("date", 1, {"base": (0, 1), "tuned": (1, 1), "ocr": (1, 1)}),
        ("amount", 2, {"base": (1, 2), "tuned": (2, 2), "ocr": (1, 1)}),
        ("id", 1, {"base": (0, 1), "tuned": (0, 1), "ocr": (1, 1)}),
    ]
    (miss,) = facts.misses
    assert (miss.page, miss.kind, miss.written) == ("a.pdf, page 1", "id", "INV-2026-0023")
    assert dict(miss.has) == {"base": False, "tuned": False, "ocr": True}


def test_pages_without_facts_have_no_table() -> None:
    assert facts_of([("a.pdf, page 1", "نص", {"tuned": "نص"})]) is None


def test_the_list_of_misses_ends() -> None:
    facts = facts_of([("a", " ".join(f"{number}.50" for number in range(MOST_MISSES + 7)), {"tuned": ""})])
    assert facts and (len(facts.misses), facts.left_out) == (MOST_MISSES, 7)
