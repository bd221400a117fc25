"""The text that a document carries itself: mended where that is safe, and believed only where it reads like language.

Of real Arabic PDFs a quarter carry nonsense (a wrong glyph map, words reversed), and most others swap lam and alef.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

MOST = 200_000  # characters of a page; a longer layer is no page's text

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_FORMS = re.compile("[\ufb50-\ufdff\ufe70-\ufefc]+")  # Arabic letters as drawn: at the start, within, at the end
_SWAPPED = re.compile("ا([أإآ])ل")  # األ for الأ: the ligature was taken apart in the wrong order
_MARKS = re.compile("[\u0640\u064b-\u065f\u0670]")  # tatweel and vowel signs
_ARABIC = re.compile("[ء-غف-ي]{2,}")
_LATIN = re.compile(r"[a-zà-öø-ÿœ]{2,}")
_WORD = re.compile(r"\w{2,}")

_FEWEST = 12  # words of a script that say something of it
_ARTICLE, _ARTICLES = "ال", ("ال", "وال", "بال", "لل", "كال", "فال")
_LEAST_ARTICLES = 0.15  # of Arabic words of three letters or more: 0.26 to 0.49 in sound layers, 0.00 to 0.07 in others
_LEAST_FUNCTION_WORDS = 0.025  # of Arabic words: 0.03 to 0.20, and 0.00 to 0.02
_LEAST_LATIN = 0.08  # function words of the languages below, of Latin words
_LEAST_OVERLAP = 0.35  # words in common with OCR: 0.45 to 0.82, and 0.10 to 0.23
_FUNCTION_WORDS = {
    "Arabic": """
        في من على إلى الى عن أن ان إن لا ما هذا هذه ذلك تلك التي الذي الذين أو او ثم قد كان كانت هو هي كل بين بعد قبل مع
        حتى عند لم لن غير أي كما منذ خلال وفي ومن وهو وهي وقد فيه فيها به بها له لها منه منها عليه عليها وكان ولا وما يا
        إذا اذا حيث
    """,
    "Latin": """
        the of and to in for is on that by with from at as this be are it or an not have was we you your
        le la les des du de et en un une est pour dans que qui sur par au aux avec ce il
        der die das und zu den von mit ist im nicht ein eine dem auf für
        el los las del una por con para se su al lo como di che per della non sono nel alla dei
        do da os um uma não com em no na het een van dat te zijn met voor op niet ve bir bu ile için olarak
    """,
}
_ARABIC_WORDS, _LATIN_WORDS = (frozenset(words.split()) for words in _FUNCTION_WORDS.values())


def mended(text: str) -> str:
    r"""A layer with its letters as letters and lam-alef in order; marks of direction and control are gone.

    >>> mended("\ufedf\ufe8e األحد\r\n\x02")
    'لا الأحد\n'
    """
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _FORMS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return _SWAPPED.sub(rf"{_ARTICLE}\1", unicodedata.normalize("NFC", text))


def trust(text: str, ocr: str = "") -> tuple[bool, str]:
    """Whether a layer can be believed, and why; with the text that OCR reads on the same page where there is one.

    >>> trust("")
    (False, 'no text')
    """
    if not text.strip():
        return False, "no text"
    plain = _MARKS.sub("", text).lower()
    judged = [verdict for verdict in (_arabic(plain), _latin(plain)) if verdict]
    if not judged:
        return False, f"fewer than {_FEWEST} words: too few to tell"
    refused = [why for sound, why in judged if not sound]
    if refused:
        return False, refused[0]
    if ocr.strip() and (overlap := word_overlap(plain, _MARKS.sub("", ocr).lower())) < _LEAST_OVERLAP:
        return False, f"{overlap:.0%} of its words are those that OCR reads"
    return True, "; ".join(why for _, why in judged)


def _arabic(text: str) -> tuple[bool, str] | None:
    words = _ARABIC.findall(text)
    long = [word for word in words if len(word) > 2]
    if len(long) < _FEWEST:
        return None
    articles = _share(long, lambda word: word.startswith(_ARTICLES))
    functions = _share(words, _ARABIC_WORDS.__contains__)
    why = f"{articles:.0%} of its Arabic words have the article, {functions:.0%} are function words"
    return articles >= _LEAST_ARTICLES and functions >= _LEAST_FUNCTION_WORDS, why


def _latin(text: str) -> tuple[bool, str] | None:
    words = _LATIN.findall(text)
    if len(words) < max(_FEWEST, len(_ARABIC.findall(text)) // 2):  # names and terms on an Arabic page say nothing
        return None
    functions = _share(words, _LATIN_WORDS.__contains__)
    return functions >= _LEAST_LATIN, f"{functions:.0%} of its Latin words are function words"


def _share(words: list[str], counts: Callable[[str], bool]) -> float:
    return sum(map(counts, words)) / len(words)


def word_overlap(text: str, other: str) -> float:
    """F1 of two bags of words, whatever their order.

    >>> round(word_overlap("a bb cc dd", "dd bb ee"), 2)
    0.67
    """
    bags = [Counter(_words(one)) for one in (text, other)]
    both = (bags[0] & bags[1]).total()
    return 2 * both / max(1, bags[0].total() + bags[1].total())


def _words(text: str) -> Iterable[str]:
    return _WORD.findall(text.translate(str.maketrans("أإآىة", "اااي\u0647")))
