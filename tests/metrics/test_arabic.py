"""Folding Arabic: what becomes one, what stays apart, and what other normal forms would have rewritten."""

from __future__ import annotations

import time
import unicodedata

import pytest

from gemtune.metrics.arabic import FOLDINGS, fold


@pytest.mark.parametrize(
    ("printed", "plain"),
    [
        ("ٱلْحَمْدُ لِلَّهِ", "الحمد لله"),
        ("الـــقاهرة", "القاهره"),
        ("أإآٱا", "ااااا"),
        ("على علي", "علي علي"),
        ("کتاب ایران", "كتاب ايران"),
        ("\ufee3\ufeae\ufea3\ufe92\ufe8e", "مرحبا"),
        ("\ufefb", "لا"),
        ("\ufe70", ""),
        ("\u200fرقم\u200e ١٢٣ ۴۵۶", "رقم 123 456"),
        ("ا\u0653 ا\u0654", "ا ا"),
    ],
)
def test_what_a_reader_takes_for_the_same_is_one(printed: str, plain: str) -> None:
    assert fold(printed, "arabic") == plain


def test_what_is_not_arabic_stays_as_it_is() -> None:
    for text in ("½ ² № ™ ﬁ", "naïve café", "Ａ"):
        assert fold(text, "arabic") == text, "NFKC would have rewritten it"


def test_hamza_on_waw_and_ya_is_a_switch_of_its_own() -> None:
    assert fold("مسؤول قائم") == "مسؤول قائم"
    assert fold("مسؤول قائم", hamza=True) == "مسوول قايم"


def test_punctuation_goes_and_still_divides_words() -> None:
    assert fold("أ،ب؛ (ج)", "punctuation") == "أ ب ج"
    assert fold("| a | **b** |", "punctuation") == "a b"


def test_white_space_is_one_space_in_every_folding() -> None:
    for folding in FOLDINGS:
        assert fold(" a\u00a0\n\t b\u2028", folding) == "a b"


def test_composed_and_decomposed_are_one() -> None:
    text = "مؤتمر آخر قائد"
    assert fold(unicodedata.normalize("NFD", text)) == fold(text)


def test_very_many_marks_on_one_letter_take_no_time() -> None:
    start = time.process_time()
    assert fold("ا" + "\u0654\u064b" * 100_000) == "ا"
    assert time.process_time() - start < 30, "Unicode's own order of marks takes minutes"
