"""What makes two questions the same: their words, folded; a word that differs must be a slip of the pen.

Folded away are case, accents, width, white space and the punctuation of sentences. Digits, signs and scripts without
capital letters have no slips: one stroke there is another number, another sign, another word.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple
from zlib import crc32

from rapidfuzz.distance import OSA, Levenshtein

from gemtune.metrics.text import normalise_text

PARTS = 6  # of the alphabet; a slip changes one or two of them
AROUND = 150  # characters that are read on both sides of what differs
MOST = 31  # up to which a key of a part tells how many letters it was made of

# Letters in six parts that are about as frequent in European languages; the bytes of other scripts by their number.
_ALPHABET = ("elz", "trvq", "ahfx", "oscj", "idum", "nwgypbk")
_LEAD_BYTES = bytes(range(0xC0, 0x100))  # of UTF-8: the alphabet, which the following bytes say nearly as well
_OTHERS = tuple(
    b" "
    + _LEAD_BYTES
    + bytes(byte for byte in range(0x80, 0xC0) if byte % PARTS != number)
    + "".join(part for place, part in enumerate(_ALPHABET) if place != number).encode()
    for number in range(PARTS)
)

# Combining marks of Latin, Greek, Cyrillic, Hebrew and Arabic; elsewhere a mark is a vowel or a tone.
_MARKS = (range(0x300, 0x370), range(0x591, 0x5C8), range(0x64B, 0x660), (0x670,), range(0x6D6, 0x6EE))
_INVISIBLE = (0xAD, 0x640, 0x200B, 0x200E, 0x200F, 0x2060, 0xFE0E, 0xFE0F, 0xFEFF)
_FOLDED: dict[int, str | None] = dict.fromkeys((*_INVISIBLE, *(code for marks in _MARKS for code in marks)))
_FOLDED |= {ord("ى"): "ي", ord("ة"): "ه", ord("\u2212"): "-", ord("\u2019"): "'"}

_TOKEN = re.compile(
    r"""(?:(?<![\w.)\]])[-+])?\d+(?:[.,:/-]\d+)*        # a number, a date, a time
    |[^\W\d_]+(?:'[^\W\d_]+)*                           # a word
    |!(?==)|-(?=[\d.])|(?<=\d)-                         # signs that elsewhere are punctuation
    |(?<!\w\w\s)(?<![^\W\d_])-|-(?![^\W\d_])(?!\s\w\w)
    |[^\s\w.,;:!?"'`´…\-‐‑–—―¿¡؟،؛。、・“”‘‚„«»‹›]|_""",
    re.VERBOSE,
)
_NEIGHBOURS = {
    letter: set(row[max(0, at - 1) : at + 2] + "".join(line[max(0, at - 1) : at + 2] for line in around))
    for row, *around in (
        ("qwertyuiop", "asdfghjkl"),
        ("asdfghjkl", "qwertyuiop", "zxcvbnm"),
        ("zxcvbnm", "asdfghjkl"),
    )
    for at, letter in enumerate(row)
}


@dataclass(frozen=True)
class Wording:
    """A question's words, folded, and how they were written."""

    text: str

    @cached_property
    def _found(self) -> list[re.Match[str]]:
        return list(_TOKEN.finditer(_spelled(unicodedata.normalize("NFKC", self.text.translate(_FOLDED)))))

    @cached_property
    def words(self) -> list[str]:
        return [_folded(match[0]) for match in self._found]

    def is_name(self, place: int) -> bool:
        """Whether a word has a capital letter, and not because a sentence begins."""
        return self._found[place][0] != self._found[place][0].lower() and not self.begins(place)

    def begins(self, place: int) -> bool:
        """Whether a sentence begins with a word."""
        return place == 0 or any(sign in self._gap(place) for sign in ".!?\n:")

    def is_cut_before(self, place: int) -> bool:
        """Whether there is punctuation between a word and the one before it."""
        return bool(self._gap(place).strip())

    def _gap(self, place: int) -> str:
        match = self._found[place]
        return match.string[self._found[place - 1].end() : match.start()]


def _spelled(text: str) -> str:
    """
    >>> _spelled("cafés أين")
    'cafes اين'
    """
    return (
        text if text.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).translate(_FOLDED))
    )


def _folded(word: str) -> str:
    return word.casefold().replace("'", "")


def fold(text: str) -> str:
    """The words of a text, one blank between them.

    >>> fold("Don\u2019t  PANIC: 3.5 km, or -2!"), fold("Le Café (C++)"), fold("well-known – x - y")
    ('dont panic 3.5 km or -2', 'le cafe ( c + + )', 'well known x - y')
    """
    plain = normalise_text(text)
    return " ".join(_TOKEN.findall(plain if plain.isascii() else _spelled(plain))).replace("'", "")


def keys(folded: str) -> tuple[int, ...]:
    """A number for each part of the alphabet, equal where the letters of that part are the same, and one for the words.

    So two texts with a slip share most of the first six, and texts with their words in another order the last. The
    lowest five bits of a part's number tell how many letters it has.

    >>> [a == b for a, b in zip(keys("the capital of france"), keys("the captial of france"))]
    [True, True, True, True, True, True, False]
    """
    letters = folded.encode("utf-8", "surrogatepass")
    parts = [letters.translate(None, others) for others in _OTHERS]
    numbers = [crc32(part) & ~MOST | min(len(part), MOST) for part in parts]
    return (*numbers, crc32(b" ".join(sorted(letters.split(b" ")))))


class Slip(NamedTuple):
    """A word and how another question spells it.

    swapped: two letters have changed places; typed: one is doubled or left out, or the key beside it was hit; changed:
    one letter is another. `begins`: its capital letter may be that of a sentence or of a name.
    """

    word: str
    other: str
    kind: Literal["swapped", "typed", "changed"]
    begins: bool


@dataclass(frozen=True)
class Likeness:
    """Two questions that say the same, but for slips of the pen, with the words side by side that both have nearby."""

    similarity: float
    slips: tuple[Slip, ...] = ()
    shared: frozenset[tuple[str, str]] = frozenset()


def likeness(left: str, right: str) -> Likeness | None:
    """How like each other two questions are, from 1.0 down with every slip; None where a word differs.

    >>> print(likeness("Is Iran in Asia?", "Is Iraq in Asia?"))
    None
    >>> likeness("The Capital of Frnace?", "the capital of france").slips
    (Slip(word='frnace', other='france', kind='swapped', begins=False),)
    """
    slips: list[Slip] = []
    here, there = map(Wording, _windows(left, right))
    if here.words == there.words or _is_moved(here, there):
        return Likeness(1.0)
    for some, others in _differences(here.words, there.words):
        if not _is_joined(here.words[some.start : some.stop], there.words[others.start : others.stop]):
            differences = [_slip(here, a, there, b) for a, b in zip(some, others, strict=False)]
            if len(some) != len(others) or None in differences:
                return None
            slips += [slip for slip in differences if slip]
    shared = frozenset(pairwise(here.words)) & {*pairwise(there.words)}
    return Likeness(1.0 - len(slips) / max(len(left), len(right)), tuple(slips), shared)


def _windows(left: str, right: str) -> tuple[str, str]:
    """What two texts differ in, with some words around it: rows under one long text are read in a moment.

    >>> _windows("long " * 99 + "old text", "long " * 99 + "new text")[1] == "long " * (AROUND // 5) + "new text"
    True
    """
    most = min(len(left), len(right))
    start = max(0, bisect_left(range(most), True, key=lambda end: left[: end + 1] != right[: end + 1]) - AROUND)
    most -= start
    tail = bisect_left(range(most), True, key=lambda end: left[len(left) - end - 1 :] != right[len(right) - end - 1 :])
    start = left.rfind(" ", 0, start) + 1
    stop = left.find(" ", len(left) - max(0, tail - AROUND))
    after = len(left) - stop if stop >= 0 else 0
    return left[start : len(left) - after], right[start : len(right) - after]


def _differences(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[range, range]]:
    """Yields the runs of words in which two texts differ."""
    blocks = [block for block in Levenshtein.opcodes(left, right) if block.tag != "equal"]
    while blocks:
        first = last = blocks.pop(0)
        while blocks and (blocks[0].src_start, blocks[0].dest_start) == (last.src_end, last.dest_end):
            last = blocks.pop(0)
        yield range(first.src_start, last.src_end), range(first.dest_start, last.dest_end)


def _is_joined(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether two runs of words differ in their blanks alone: data base and database, but not 1 0 and 10."""
    return "".join(left) == "".join(right) and "".join(left).isalpha()


def _slip(left: Wording, place: int, right: Wording, other: int) -> Slip | None:
    """The slip that tells two words apart; None where there is more than one, or a name is spelled in another way.

    Of a name only changed places count: Jansen and Janssen are two people.
    """
    kind = slip_kind(left.words[place], right.words[other])
    is_name = left.is_name(place) or right.is_name(other)
    if kind is None or (is_name and kind != "swapped"):
        return None
    return Slip(left.words[place], right.words[other], kind, left.begins(place))


def slip_kind(a: str, b: str) -> Literal["swapped", "typed", "changed"] | None:
    """What tells two words apart, when it is one letter and not the first; None for numbers, signs and short words.

    >>> [slip_kind("market", word) for word in ("makret", "markett", "marjet", "mardet", "markets", "parket")]
    ['swapped', 'typed', 'typed', 'changed', 'changed', None]
    """
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    has_capitals = longer.upper() != longer and longer.isalpha() and shorter.isalpha()
    if not has_capitals or len(shorter) < 4 or OSA.distance(a, b, score_cutoff=1) > 1:
        return None
    at = next((i for i, (x, y) in enumerate(zip(longer, shorter, strict=False)) if x != y), len(shorter))
    if len(longer) == len(shorter) and longer[at + 1 :] != shorter[at + 1 :]:
        return "swapped"
    if at == 0 or len(longer) < 5:
        return None
    if len(longer) > len(shorter):
        return "typed" if at < len(shorter) or longer[-1] == longer[-2] else "changed"
    return "typed" if at < len(shorter) - 1 and shorter[at] in _NEIGHBOURS.get(longer[at], ()) else "changed"


def _is_moved(left: Wording, right: Wording) -> bool:
    """Whether a clause has moved from one end to the other; things that are listed in another order have not.

    >>> _is_moved(Wording("In Paris, who sings at night?"), Wording("Who sings at night in Paris?"))
    True
    >>> _is_moved(Wording("Old Paris, new Rome"), Wording("New Rome, old Paris"))
    False
    """
    count = len(left.words)
    if count < 4 or sorted(left.words) != sorted(right.words):
        return False
    cut = next((at for at in range(2, count - 1) if left.words[at:] + left.words[:at] == right.words), None)
    if cut is None or all(any(word[-1].isdigit() for word in run) for run in (left.words[:cut], left.words[cut:])):
        return False
    is_long = 3 <= cut <= count - 3 and not any(map(left.is_name, range(count)))
    return is_long or left.is_cut_before(cut) != right.is_cut_before(count - cut)
