"""The true text beside a document is given to the pages that have it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gemtune.documents.references import divided, reference_files, references_of
from gemtune.errors import DataError

WORDS = "كتاب مدرسة الجامعة رسالة تاريخ القانون وزارة العلوم مدينة الاقتصاد يوم شهر مجلس قرار house river".split()  # noqa: SIM905


def page(draw: random.Random, words: int = 120) -> list[str]:
    return [f"{draw.choice(WORDS)}{draw.randrange(40)}" for _ in range(words)]


def misread(words: list[str], draw: random.Random, share: float) -> str:
    return " ".join("xx" if draw.random() < share else word for word in words)


def test_a_text_is_divided_where_its_pages_end() -> None:
    draw = random.Random(1)
    pages = [page(draw) for _ in range(4)]
    texts = {number: misread(words, draw, 0.3) for number, words in enumerate(pages, 1)}
    parts = divided("\n".join(" ".join(words) for words in pages), texts)
    assert list(parts) == [1, 2, 3, 4]
    for number, words in enumerate(pages, 1):
        there = parts[number].split()
        assert abs(len(there) - len(words)) <= 3 and len(set(there) & set(words)) >= 0.9 * len(set(words))


def test_pages_that_the_text_does_not_cover_have_none() -> None:
    draw = random.Random(2)
    pages = [page(draw) for _ in range(6)]
    texts = {number: misread(words, draw, 0.2) for number, words in enumerate(pages, 1)}
    parts = divided(" ".join(pages[4] + pages[5]), texts)
    assert list(parts) == [5, 6]
    assert parts[5].split()[0] == pages[4][0] and parts[6].split()[-1] == pages[5][-1]


def test_marks_and_letter_forms_do_not_hide_a_word() -> None:
    texts = {1: "الامة العربية كلها", 2: "another page with words"}
    assert divided("الأُمَّة العَرَبِيّة كلّها,\nAnother page, with words.", texts) == {
        1: "الأُمَّة العَرَبِيّة كلّها,",
        2: "Another page, with words.",
    }


def test_one_page_has_all_of_it_even_unread(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    (tmp_path / "a.md").write_text("\ufeff# Title\n", encoding="utf-8")
    assert references_of(tmp_path / "a.pdf", {1: ""}) == {1: "# Title"}
    assert references_of(tmp_path / "a.pdf", {1: "", 2: ""}) == {}


def test_form_feeds_and_files_of_a_page_say_which_page(tmp_path: Path) -> None:
    document = tmp_path / "a.b.pdf"
    (tmp_path / "a.b.txt").write_text("one\ftwo\f\ffour", encoding="utf-8")
    (tmp_path / "a.b.2.md").write_text("the second", encoding="utf-8")
    assert references_of(document, {1: "", 2: "", 3: "", 4: ""}) == {1: "one", 2: "the second", 4: "four"}
    assert [path.name for path in reference_files(document, [1, 2])] == ["a.b.txt", "a.b.2.md"]


def test_a_reference_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"a\.md: cannot be read as UTF-8 text .* save it as UTF-8"):
        references_of(tmp_path / "a.pdf", {1: ""})
