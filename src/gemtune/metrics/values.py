"""Dates and numbers as they are written on pages, Arabic ones too, read as values."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal, InvalidOperation

from gemtune.metrics.arabic import fold_arabic

_NAMES = [
    ("january", "jan", "يناير", "كانون الثاني", "جانفي"),
    ("february", "feb", "فبراير", "شباط", "فيفري"),
    ("march", "mar", "مارس", "اذار"),
    ("april", "apr", "ابريل", "نيسان", "افريل"),
    ("may", "مايو", "ايار", "ماي"),
    ("june", "jun", "يونيو", "حزيران", "جوان"),
    ("july", "jul", "يوليو", "تموز", "جويليه"),
    ("august", "aug", "اغسطس", "اب", "اوت"),
    ("september", "sep", "sept", "سبتمبر", "ايلول"),
    ("october", "oct", "اكتوبر", "تشرين الاول"),
    ("november", "nov", "نوفمبر", "تشرين الثاني"),
    ("december", "dec", "ديسمبر", "كانون الاول"),
]
MONTHS = {name: number for number, names in enumerate(_NAMES, 1) for name in names}  # as they are folded
_YEAR_FIRST = re.compile(r"(\d{4})[-/.\s]+(\d{1,2})[-/.\s]+(\d{1,2})(?:[T ][\d:.+Z-]*)?")
_DAY_FIRST = re.compile(r"(\d{1,2})[-/.\s]+(\d{1,2})[-/.\s]+(\d{4})")
_IN_WORDS = re.compile(
    r"(\d{1,2})[\s.,-]*([^\W\d][^\d,]*?)[\s.,-]*(\d{4})|([^\W\d][^\d,]*?)[\s.]*(\d{1,2})[\s.,]+(\d{4})"
)
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:[, ']\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,4})?")
_EUROPEAN = re.compile(r"([-+]?)(\d{1,3}(?:\.\d{3})+|\d+),(\d+)")


def date_of(text: str) -> date | None:
    """A Gregorian date in digits or with a month's name, the day before the month; None where a text is none.

    >>> date_of("Mar 5, 2024"), date_of("٥ آذار ٢٠٢٤"), date_of("31/02/2024"), date_of("1445/09/01")
    (datetime.date(2024, 3, 5), datetime.date(2024, 3, 5), None, datetime.date(1445, 9, 1))
    """
    plain = " ".join(fold_arabic(text).replace("،", ",").split()).strip(" مAD.")[:100]
    if match := _YEAR_FIRST.fullmatch(plain):
        year, month, day = map(int, match.groups())
    elif match := _DAY_FIRST.fullmatch(plain):
        day, month, year = map(int, match.groups())
        if month > 12 >= day:
            day, month = month, day
    elif match := _IN_WORDS.fullmatch(plain):
        day, year = int(match[1] or match[5]), int(match[3] or match[6])
        month = MONTHS.get((match[2] or match[4]).strip(" .,").casefold(), 0)
    else:
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


def number_of(text: str) -> Decimal | None:
    """The one number in a text, whatever stands around it that is no digit; None where there is none or are several.

    >>> number_of("EGP 1,200.50"), number_of("1.200,50"), number_of("٪١٤"), number_of("1-2"), number_of("none")
    (Decimal('1200.50'), Decimal('1200.50'), Decimal('14'), None, None)
    """
    plain = fold_arabic(text[:1_000])
    core = re.sub(r"^[^\d+-]+|[^\d]+$", "", plain)
    if (match := _EUROPEAN.fullmatch(core)) and not _NUMBER.fullmatch(core):
        core = f"{match[1]}{match[2].replace('.', '')}.{match[3]}"
    if not core or not _NUMBER.fullmatch(core):
        return None
    try:
        return Decimal(re.sub(r"[, ']", "", core))
    except InvalidOperation:
        return None
