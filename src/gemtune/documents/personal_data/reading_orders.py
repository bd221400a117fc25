"""A text as it is, and in the orders in which its numbers may have come out of right-to-left lines.

From an Arabic line, pdfium reads "EG38 0019 8000 2" as "2 8000 0019 38EG" and "+20 10" as "20+ 10"; others turn the
order of words around, or the digits of an Arabic-Indic number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

_LINE_ENDS = "\n\r\v\f\x85\u2028\u2029"
_RUN = re.compile("[!-~](?:[ -~]*[!-~])?")  # of a line: letters, digits and signs of ASCII, and spaces between them
_ATOM = re.compile("[0-9]+|[A-Za-z]+|.")
_WORD = re.compile(" +|[^ ]+")
_ASCII_WORD = re.compile("[!-~]+")
_NATIVE = "\ue000"  # stands for a digit that was not 0 to 9: a private character, which no fold writes
_NATIVE_NUMBER = re.compile(f"{_NATIVE}+")
_NATIVE_GROUPS = re.compile(f"{_NATIVE}+(?:[ ./-]{_NATIVE}+)*")
_CHARACTER = re.compile(".", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """A text in one order, with the place of each character in the original."""

    text: str
    places: list[int]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where in the original a part of `text` came from."""
        places = self.places[start:end]
        return min(places), max(places) + 1


def fold(text: str) -> Reading:
    """Digits as 0 to 9, dashes as "-", spaces as " ", presentation forms as letters; no marks and no tatweel.

    >>> fold("ﻻ ٠١٢\\u200f–٣").text
    'لا 012-3'
    """
    characters, places = [], []
    for place, character in enumerate(text):
        for folded in _folded(character):
            characters.append(folded)
            places.append(place)
    return Reading("".join(characters), places)


@cache
def _folded(character: str) -> str:
    if character in _LINE_ENDS:
        return "\n"
    if character.isascii():
        return " " if character < " " else character
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category == "Cf" or (category == "Mn" and "\u0600" <= character <= "\u06ff") or character == "\u0640":
        return ""  # direction marks, vowel signs, tatweel
    if category in ("Zs", "Pd") or character == "\u2212":
        return " " if category == "Zs" else "-"
    if "\ufb50" <= character <= "\ufdff" or "\ufe70" <= character <= "\ufeff" or "\uff01" <= character <= "\uff5e":
        return "".join(map(_folded, unicodedata.normalize("NFKC", character)))
    return character


def readings(text: str) -> list[Reading]:
    """The text as it is, folded, and in every other order that differs from it.

    >>> [reading.text for reading in readings("2 8000 0019 38EG")]  # the third is what is printed
    ['2 8000 0019 38EG', '2 8000 0019 EG38', 'EG38 0019 8000 2', '38EG 0019 8000 2']
    """
    plain = fold(text)
    native = "".join(
        _NATIVE if character.isdigit() and not text[place].isascii() else character
        for character, place in zip(plain.text, plain.places, strict=True)
    )
    orders = [
        plain,
        _turned(plain, plain.text, _ASCII_WORD, _ATOM),
        _turned(plain, plain.text, _RUN, _ATOM),
        _turned(plain, plain.text, _RUN, _WORD),
        _turned(plain, native, _NATIVE_NUMBER, _CHARACTER),
        _turned(plain, native, _NATIVE_GROUPS, _CHARACTER),
    ]
    distinct: dict[str, Reading] = {}
    for reading in orders:
        distinct.setdefault(reading.text, reading)
    return list(distinct.values())


def _turned(reading: Reading, runs_of: str, run: re.Pattern[str], piece: re.Pattern[str]) -> Reading:
    """The pieces of each run in reverse order; `runs_of` is the reading's text, or a text as long."""
    order = list(range(len(reading.text)))
    for match in run.finditer(runs_of):
        pieces = [part.span() for part in piece.finditer(runs_of, *match.span())]
        order[match.start() : match.end()] = _flat(range(*span) for span in reversed(pieces))
    return Reading("".join(reading.text[place] for place in order), [reading.places[place] for place in order])


def _flat(ranges: Iterable[range]) -> list[int]:
    return [place for places in ranges for place in places]
