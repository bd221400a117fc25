"""National ids of Arab states, as far as their structure is published."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence

from gemtune.documents.personal_data.numbers import Number, luhn

_GOVERNORATE = re.compile("0[1-4]|1[1-9]|2[1-9]|3[1-5]|88")
_KUWAIT_WEIGHTS = (2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
# Countries, by their numbers in ISO 3166, that most people in Qatar come from.
_OF_QATAR = re.compile("050|144|356|364|400|422|434|504|512|524|586|608|634|682|729|736|760|788|818|826")


def _born(century: str, date: str) -> bool:
    """Whether a date of birth as YYMMDD exists; a century of "2" is 19.., "3" is 20..

    >>> _born("2", "980101"), _born("3", "010229"), _born("1", "980101")
    (True, False, False)
    """
    if century not in ("2", "3"):
        return False
    try:
        datetime.date(1700 + 100 * int(century) + int(date[:2]), int(date[2:4]), int(date[4:]))
    except ValueError:
        return False
    return True


def _egyptian(digits: str) -> bool:
    return _born(digits[0], digits[1:7]) and bool(_GOVERNORATE.match(digits, 7))


def _saudi(digits: str) -> bool:
    return digits[0] in "12" and luhn(digits)


def _emirati(digits: str) -> bool:
    return digits.startswith("784") and digits[3:5] in ("19", "20")


def _jordanian(digits: str) -> bool:
    return digits.startswith("200") or (digits[0] == "9" and digits[3] in "12")


def _kuwaiti(digits: str) -> bool:
    check = 11 - sum(int(digit) * weight for digit, weight in zip(digits, _KUWAIT_WEIGHTS, strict=False)) % 11
    return _born(digits[0], digits[1:7]) and str(check) == digits[11]


def _qatari(digits: str) -> bool:
    return digits[0] in "23" and bool(_OF_QATAR.match(digits, 3))


# Region: digits in all, what they satisfy, and the most groups that they are written in. Of other states no structure
# is published that would tell an id from any number: they are found after a label, as in "رقم الهوية: ...".
_NATIONAL_IDS: dict[str, tuple[int, Callable[[str], bool], int]] = {
    "EG": (14, _egyptian, 3),
    "SA": (10, _saudi, 1),
    "AE": (15, _emirati, 4),
    "JO": (10, _jordanian, 1),
    "KW": (12, _kuwaiti, 3),
    "QA": (11, _qatari, 1),
}


def is_national_id(number: Number, regions: Sequence[str]) -> bool:
    """Whether it has the structure of an id of one of the regions."""
    for region in regions:
        length, satisfied, most_groups = _NATIONAL_IDS.get(region, (0, bool, 0))
        in_groups = number.is_in_boxes or len(number.sizes) <= most_groups
        if len(number.digits) == length and in_groups and satisfied(number.digits):
            return True
    return False
