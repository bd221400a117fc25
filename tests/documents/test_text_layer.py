"""A document's own text is believed where it reads like language, and refused where it does not."""

from __future__ import annotations

import pytest

from gemtune.documents.text_layer import mended, trust, word_overlap

ARABIC = (
    "قررت اللجنة في اجتماعها الأول أن تدرس الطلبات التي قدمت إلى المجلس خلال العام الماضي وأن ترفع التقرير إلى الوزارة "
    "بعد مراجعة الحسابات والعقود مع الشركات، ولا يجوز أن تصرف المبالغ قبل موافقة المدير على كل بند من بنود الميزانية"
)
ENGLISH = (
    "The committee decided at its first meeting to look at the requests that were sent to the council in the last year "
    "and to report to the ministry once the accounts are checked"
)


def test_arabic_and_latin_text_is_believed() -> None:
    assert trust(ARABIC)[0]
    assert trust(ENGLISH)[0]
    assert trust(f"{ARABIC}\n{ENGLISH}")[0]
    assert trust(f"{ARABIC} Vostro Kalibra Monturo Delfina Arcadia Betula Cordata Sequoia Tilia Prunus Salix Acer")[
        0
    ], "names in Latin letters on an Arabic page say nothing about it"


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("letters of every word reversed", " ".join(word[::-1] for word in ARABIC.split())),
        ("a wrong glyph map", ARABIC.translate({ord(a): b for a, b in zip("المنتبعيو", "صخكظزغثجط", strict=True)})),
        ("a wrong glyph map, Latin", ENGLISH.lower().translate(str.maketrans("etaoinshr", "qxzvjkwpg"))),
        ("too few words to tell", "محضر الاجتماع"),
        ("none", " \n "),
    ],
)
def test_what_does_not_read_like_language_is_refused(damage: str, text: str) -> None:
    trusted, why = trust(text)
    assert not trusted, damage
    assert why


def test_a_layer_that_ocr_does_not_confirm_is_refused() -> None:
    assert trust(ARABIC, ocr=ARABIC.replace("الوزارة", "الوزاره"))[0]
    trusted, why = trust(ARABIC, ocr="هذه صفحة أخرى في كتاب عن الزراعة في الوادي وعن المياه التي تأتي من الجبال")
    assert not trusted
    assert "OCR" in why


def test_lam_alef_is_put_in_order_and_letters_are_letters() -> None:
    assert mended("األول واإلدارة اآلن") == "الأول والإدارة الآن"
    assert mended("\ufe8d\ufedf\ufee8\ufeba \ufefb") == "النص لا"
    assert mended("½ ² №") == "½ ² №", "only Arabic forms are unfolded"
    assert mended("one\r\ntwo\x00\u200f\x02") == "one\ntwo"


def test_word_overlap_counts_words_as_often_as_both_have_them() -> None:
    assert word_overlap("aa aa bb", "aa bb bb") == pytest.approx(2 / 3)
    assert word_overlap("", "") == 0
