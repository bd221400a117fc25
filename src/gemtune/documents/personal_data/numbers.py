"""Groups of digits that may be one number, and the check digit that most numbers share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_GROUPS = re.compile(r"(?<![A-Za-z0-9])[0-9]{1,40}+(?:[ ()./+-]{1,3}[0-9]{1,40}+)*+(?![A-Za-z0-9])")
_GROUP = re.compile("[0-9]+")
_DIGITS = range(9, 20)  # of a number that is looked at: a phone number has the fewest, a card the most
_LONG_LINE, _FEW = 500, 4  # groups on one line from which on no more than a few are taken for one number
_DATE = re.compile(
    r"(?<!\d)(?:\d{1,2}[ ./-]{1,3}){2}(?:19|20)\d\d(?!\d)|(?<!\d)(?:19|20)\d\d(?:[ ./-]{1,3}\d{1,2}){2}(?!\d)"
)


def is_dates(text: str) -> bool:
    """Whether there is a date in a row of numbers, or all of them may be years.

    >>> is_dates("2010 1995 2012"), is_dates("05/12/2010 12"), is_dates("0512 345678")
    (True, True, False)
    """
    return bool(_DATE.search(text)) or all(
        re.fullmatch("1[0-9]{3}|20[0-9]{2}", group) for group in _GROUP.findall(text)
    )


@dataclass(frozen=True)
class Number:
    """Groups of digits that follow each other and may be one number."""

    text: str
    start: int
    digits: str
    sizes: tuple[int, ...]  # digits of each group

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def is_plain(self) -> bool:
        """Nothing but single spaces or dashes between its groups."""
        return len(self.text) == len(self.digits) + len(self.sizes) - 1 and not set(self.text) & set("()./+")

    @property
    def is_in_boxes(self) -> bool:
        """A digit each, as in a form."""
        return max(self.sizes) == 1


def numbers(text: str) -> Iterator[Number]:
    """Every run of groups, and every part of one, that may be a number."""
    for run in _GROUPS.finditer(text):
        groups = [match.span() for match in _GROUP.finditer(text, *run.span())]
        most = _DIGITS.stop if len(groups) <= _LONG_LINE else _FEW
        for first, (start, _) in enumerate(groups):
            digits, sizes = "", []
            for left, right in groups[first : first + most]:
                digits += text[left:right]
                sizes.append(right - left)
                if len(digits) >= _DIGITS.stop:
                    break
                if len(digits) in _DIGITS:
                    yield Number(text[start:right], start, digits, tuple(sizes))


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
