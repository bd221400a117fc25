"""Bank accounts by IBAN, and cards by their brand and check digit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gemtune.documents.personal_data.numbers import Number, luhn

# Country: characters in all. The registry of ISO 13616, and what banks of Algeria, Morocco and Iran use.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ DZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IR IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HN HU LB LC MA NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_ARAB = re.compile("AE|BH|DJ|DZ|EG|IQ|JO|KW|LB|LY|MA|MR|OM|PS|QA|SA|SD|SO|TN")
_IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{2}) ?([0-9]{2})(?=[ \n-]{0,2}[A-Za-z0-9])")
_LONGEST_IBAN = 80  # characters, with everything between its groups


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every IBAN; of an Arab state also where its check digits are wrong."""
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[1].upper())
        end = _end_of(text, match.start(), length) if length else None
        if end is None:
            continue
        iban = "".join(filter(str.isalnum, text[match.start() : end])).upper()
        misread = _ARAB.match(iban) and match[1].isupper() and iban[2:].isdigit()  # one digit is enough, in OCR
        if misread or is_iban(iban):
            yield match.start(), end


def _end_of(text: str, start: int, length: int) -> int | None:
    """Where so many letters and digits end, of which no more than two signs stand between any two."""
    count, last = 0, start
    for place in range(start, min(start + _LONGEST_IBAN, len(text))):
        if text[place].isascii() and text[place].isalnum():
            count, last = count + 1, place
        elif text[place] not in " -\n" or place - last > 2:
            return None
        if count == length:
            after = text[place + 1 : place + 2]
            return None if after.isascii() and after.isalnum() else place + 1
    return None


def is_iban(iban: str) -> bool:
    """Whether its check digits are right, and its length that of its country.

    >>> is_iban("EG380019000500000000263180002"), is_iban("EG380019000500000000263180003")
    (True, False)
    """
    if _IBAN_LENGTHS.get(iban[:2]) != len(iban):
        return False
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97 == 1


# What card numbers of a brand begin with, with their digits in all.
_CARDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"4(?:\d{12}|\d{15}|\d{18})",  # Visa
        r"(?:5[1-5]\d{2}|222[1-9]|22[3-9]\d|2[3-6]\d{2}|27[01]\d|2720)\d{12}",  # Mastercard
        r"3[47]\d{13}",  # American Express
        r"(?:30[0-5]|3[689]\d)\d{11}",  # Diners Club
        r"(?:6011|65\d{2}|64[4-9]\d)\d{12}",  # Discover
        r"62\d{14,17}",  # UnionPay
        r"35(?:2[89]|[3-8]\d)\d{12}",  # JCB
        r"(?:5078|9682|6054|5043|5852)\d{12}",  # Meeza of Egypt, mada of Saudi Arabia
    )
)


def is_card(number: Number) -> bool:
    """Whether it has the beginning and length of a brand, the check digit, and even groups."""
    evenly = len(number.sizes) == 1 or (len(number.sizes) <= 5 and min(number.sizes) >= 3) or number.is_in_boxes
    return evenly and luhn(number.digits) and any(card.fullmatch(number.digits) for card in _CARDS)
