"""How well a page was read: errors by character and by word, words in any order, text without a source, loops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from gemtune.metrics.arabic import fold, fold_arabic
from gemtune.metrics.text import overlap

NEAR = 75.0  # partial ratio from which a statement has a source: a page read with one letter in five wrong gets 80
_GRAM = 5  # characters: a statement with next to none of its 5-grams in the sources is not looked for any further
_FEW = 0.15
_STATEMENT_END = re.compile(r"[.!?؟؛]+(?=\s|$)|\n+")
_WORDS, _LONGEST = 3, 200  # words that make a statement; characters of one

_UNIT = 200  # characters of the longest unit that is looked for as a loop
_TIMES, _COVERED = 8, 200  # repeats, and characters that they cover, from which it is one
_RULED = 1_000  # as _COVERED, for a unit without letters or digits: dots that lead to a page number, a ruled line


@dataclass(frozen=True)
class Edits:
    """Edits that turn a reply into the truth, and how long the truth is."""

    edits: int
    length: int

    @property
    def rate(self) -> float:
        """Above 1 where more is wrong than there is; 1 for anything against nothing."""
        return self.edits / self.length if self.length else float(self.edits > 0)


def character_edits(reply: str, truth: str) -> Edits:
    """
    >>> character_edits("kitten", "sitting").rate
    0.42857142857142855
    """
    return Edits(Levenshtein.distance(reply, truth), len(truth))


def word_edits(reply: str, truth: str) -> Edits:
    """
    >>> word_edits("the cat  sat", "the cat\\nsat down")
    Edits(edits=1, length=4)
    """
    words = truth.split()
    return Edits(0 if reply == truth else Levenshtein.distance(reply.split(), words), len(words))


def word_bag_f1(reply: str, truth: str) -> float:
    """F1 of the words, in any order.

    >>> word_bag_f1("b a", "a b"), word_bag_f1("", "a")
    (1.0, 0.0)
    """
    return 1.0 if reply == truth else overlap(reply.split(), truth.split())["f1"]


def statements(text: str) -> list[str]:
    """The sentences of a text, folded; what is shorter than three words says too little to have a source.

    >>> statements("Rent is due. Yes. The sum of it\\nis 12.50 a month")
    ['Rent is due', 'The sum of it', 'is 12 50 a month']
    """
    return list(_statements(text))


def _statements(text: str) -> Iterator[str]:
    for sentence in _STATEMENT_END.split(fold_arabic(text)):
        folded = fold(sentence, "punctuation")
        for start in range(0, len(folded), _LONGEST):
            piece = folded[start : start + _LONGEST]
            if len(piece.split()) >= _WORDS:
                yield piece


class Sources:
    """What a page is known to say: texts that a statement should have a near match in.

    Statements are folded, as `statements` gives them.

    >>> Sources(["The rent is due in May."]).support("Tbe rent is duc"), Sources(["Rent"]).support("Call the office")
    (True, False)
    """

    def __init__(self, texts: Sequence[str]):
        self._text = " ".join(filter(None, map(fold, texts)))

    @cached_property
    def _grams(self) -> set[str]:
        return set(_grams(self._text))

    def support(self, statement: str) -> bool:
        if statement in self._text:
            return True
        grams = set(_grams(statement))
        if len(grams & self._grams) < _FEW * len(grams):
            return False
        return len(statement) <= len(self._text) and fuzz.partial_ratio(statement, self._text, score_cutoff=NEAR) > 0


def _grams(text: str) -> Iterator[str]:
    return (text[start : start + _GRAM] for start in range(len(text) - _GRAM + 1))


def repeats_at_end(text: str) -> tuple[str, int]:
    """The unit that a text ends in over and over, and how often: the one that covers most; ("", 0) without any.

    >>> repeats_at_end("so he said no no no no"), repeats_at_end("fine.")
    ((' no', 4), ('', 0))
    """
    text = text.rstrip()
    best = ("", 0)
    for size in range(1, min(_UNIT, len(text) // 2) + 1):
        unit, times, end = text[-size:], 1, len(text) - size
        while end >= size and text.startswith(unit, end - size):
            times, end = times + 1, end - size
        if times > 1 and times * size > len(best[0]) * best[1]:
            best = unit, times
    return best


def is_loop(text: str) -> bool:
    """Whether a text got stuck: it ends in the same few words or letters again and again.

    >>> is_loop("total: " + "one and " * 60), is_loop("Sign here: " + "." * 300)
    (True, False)
    """
    unit, times = repeats_at_end(text)
    covered = _COVERED if any(map(str.isalnum, unit)) else _RULED
    return times >= _TIMES and times * len(unit) >= covered
