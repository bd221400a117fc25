"""Text that somebody else wrote never acts on a page or a terminal, and nobody loses a letter by it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gemtune.reporting.text import markdown, printable, visible
from reporting.made_run import cells_of

ACTS = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"


@given(st.text(st.characters(codec=None)))
def test_visible_text_is_safe_and_stable(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown
    assert not re.search(ACTS, shown)


def test_joiners_and_marks_that_emoji_and_arabic_need_stay() -> None:
    for text in ("👩‍🚀", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "می‌خواهم", "ا\u200fب"):
        assert visible(text) == text


@given(st.text(st.characters(codec=None)))
def test_a_printable_token_is_safe_and_shows_every_character(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert not re.search(ACTS, shown)
    assert len(shown) >= len(text)
    assert all(c.isprintable() or c in "\n\t\u200d\ufe0f" for c in shown)


def test_a_printable_token_says_what_cannot_be_seen() -> None:
    assert printable("a\r\n\tb") == "a␍⏎\n⇥\tb"
    assert printable("\x1b[31m\u200b") == "␛[31m⟨U+200B⟩"
    assert printable("👩‍🚀❤️ سلام") == "👩‍🚀❤️ سلام"


@given(st.lists(st.text(st.characters(codec=None)), min_size=2, max_size=3))
def test_any_text_is_one_plain_markdown_cell(texts: list[str]) -> None:
    rows = f"| {' | '.join('a' for _ in texts)} |\n{'|---' * len(texts)}|\n| {' | '.join(map(markdown, texts))} |\n"
    [[_, cells]] = cells_of(rows)
    assert len(cells) == len(texts)
    for cell, text in zip(cells, texts, strict=True):
        squeezed = re.sub(r"\s*\n\s*", " ⏎ ", visible(text))
        assert re.sub(r"\s+", "", cell) == re.sub(r"\s+", "", squeezed)
