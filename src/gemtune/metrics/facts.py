"""What has to be right to the digit on a page: dates, amounts, IBANs, and the numbers of ids and papers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from gemtune.metrics.arabic import fold_arabic
from gemtune.metrics.values import MONTHS, date_of, number_of

Kind = Literal["date", "amount", "iban", "id"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_MONTH = "|".join(sorted(map(re.escape, MONTHS), key=len, reverse=True))
_SPELT = re.compile(
    r"(?<![A-Za-z0-9])(?P<iban>[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?))(?![\w/.,:-])"
    rf"|(?<!\d)(?P<date>(?i:\d{{1,2}} (?:{_MONTH}),? \d{{4}}|(?:{_MONTH}) \d{{1,2}}, ?\d{{4}}))(?!\d)"
)
_WRITTEN = re.compile(r"[A-Za-z]*[-/]?\d(?:[\dA-Za-z.,:/-]*[\dA-Za-z])?")
_DATE = re.compile(r"\d{1,4}([/.-])\d{1,2}\1\d{1,4}")
_AMOUNT = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3})+,\d{1,2}|\d+[.,]\d{1,3}")
_ID_DIGITS = 5  # a number of fewer, such as that of a page or of a list, is no id


@dataclass(frozen=True)
class Fact:
    """A date, an amount, an IBAN or an id: as it is written, and by what two of them are the same."""

    kind: Kind
    written: str
    key: str


def facts_in(text: str) -> list[Fact]:
    """The facts of a text, its digits as ASCII, in no order.

    >>> [(fact.kind, fact.key) for fact in facts_in("٣ بنود، ١٢٬٥٠٠٫٥٠ جنيه في ٥ مارس ٢٠٢٤، فاتورة INV-2024-0017")]
    [('date', '2024-03-05'), ('amount', '12500.5'), ('id', 'INV20240017')]
    """
    return list(_facts(" ".join(fold_arabic(text).split())))


def _facts(plain: str) -> Iterator[Fact]:
    for match in _SPELT.finditer(plain):
        if match["iban"]:
            yield Fact("iban", match[0], match[0].replace(" ", "").upper())
        elif day := date_of(match[0]):
            yield Fact("date", match[0], day.isoformat())
    for match in _WRITTEN.finditer(_SPELT.sub(" ", plain)):
        if fact := _fact(match[0]):
            yield fact


def _fact(written: str) -> Fact | None:
    if _DATE.fullmatch(written):
        day = date_of(written)
        return Fact("date", written, day.isoformat() if day else "-".join(re.findall(r"\d+", written)))
    if _AMOUNT.fullmatch(written) and (value := number_of(written)) is not None:
        return Fact("amount", written, f"{value.normalize():f}")
    if sum(map(str.isdigit, written)) < _ID_DIGITS:
        return None
    return Fact("id", written, re.sub(r"[^A-Z0-9]", "", written.upper()))


def missed(truth: Sequence[Fact], reply: Sequence[Fact]) -> list[Fact]:
    """The facts that are true and not in a reply; one that is true twice has to be there twice.

    >>> [fact.written for fact in missed(facts_in("12000 12000 1/2/2024"), facts_in("12,000, 01/02/2024"))]
    ['12000']
    """
    there = Counter(fact.key for fact in reply)
    missing = []
    for fact in truth:
        if there[fact.key]:
            there[fact.key] -= 1
        else:
            missing.append(fact)
    return missing
