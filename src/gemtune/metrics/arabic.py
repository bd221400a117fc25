"""Arabic text folded for comparing: letters, marks and digits that mean the same to a reader become one.

The table is our own. NFKC would do part of it, but rewrites ½, ², № and ™ as well.
"""

from __future__ import annotations

import unicodedata
from typing import Literal, get_args

import regex

from gemtune.metrics.text import stream_safe

Folding = Literal["none", "punctuation", "arabic", "all"]
FOLDINGS: tuple[Folding, ...] = get_args(Folding)

_PUNCTUATION = regex.compile(r"[\p{P}\p{S}]+")
_FORM = regex.compile("[\ufb50-\ufdff\ufe70-\ufefe]")

_INVISIBLE = "\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"  # direction marks, joiners, soft hyphens
_MARKS = "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"  # tashkeel
_DROPPED = regex.compile(f"[{_INVISIBLE}{_MARKS}\u0640]+")  # \u0640: tatweel
_LETTERS = {
    **dict.fromkeys("أإآٱ", "ا"),
    **dict.fromkeys("ىیې", "ي"),
    **dict.fromkeys("کڪ", "ك"),
    **dict.fromkeys("ةۃە", "ه"),
    **{digit: str(value) for digits in ("٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹") for value, digit in enumerate(digits)},
    **{"٫": ".", "٬": ","},
}
_HAMZA = str.maketrans({"ؤ": "و", "ئ": "ي"})


def _forms() -> dict[str, str]:
    """The presentation forms U+FB50-FDFF and U+FE70-FEFF -> the letters that they are forms of."""
    codes = [*range(0xFB50, 0xFE00), *range(0xFE70, 0xFF00)]
    plain = {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in codes}
    return {form: letters.strip() for form, letters in plain.items() if letters != form}


_FORMS = str.maketrans(_forms())
_TABLE = str.maketrans(_LETTERS)


def fold(text: str, folding: Folding = "all", *, hamza: bool = False) -> str:
    """A text with its white space collapsed, and folded: without punctuation, as Arabic, or both.

    As Arabic: no direction marks, tashkeel and tatweel; presentation forms, alef, ya, kaf and ta marbuta as one letter
    each, Persian ones too; digits as ASCII. `hamza` also takes it off waw and ya.

    >>> fold("  الْقَاهِرَة،\\n١٢٣ "), fold("a - b", "punctuation"), fold("ﻻ½", "arabic"), fold("مسؤول", hamza=True)
    ('القاهره 123', 'a b', 'لا½', 'مسوول')
    """
    if folding in ("arabic", "all"):
        text = fold_arabic(text, hamza=hamza)
    if folding in ("punctuation", "all"):
        text = _PUNCTUATION.sub(" ", text)
    return " ".join(text.split())


def fold_arabic(text: str, *, hamza: bool = False) -> str:
    """What `fold` does to Arabic; white space and punctuation stay."""
    if text.isascii():
        return text
    if _FORM.search(text):  # few texts have any, and to translate one takes as long as all the rest
        text = text.translate(_FORMS)
    composed = unicodedata.normalize("NFC", stream_safe(text))
    folded = _DROPPED.sub("", composed).translate(_TABLE)
    return folded.translate(_HAMZA) if hamza else folded
