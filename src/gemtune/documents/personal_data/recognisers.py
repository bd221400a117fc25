"""Personal data in a text, whichever way round its numbers came out of the lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gemtune.documents.personal_data.banking import ibans, is_card
from gemtune.documents.personal_data.labels import labelled
from gemtune.documents.personal_data.national_ids import is_national_id
from gemtune.documents.personal_data.numbers import numbers
from gemtune.documents.personal_data.phones import is_mobile, phones
from gemtune.documents.personal_data.reading_orders import Reading, readings
from gemtune.documents.personal_data.user_patterns import UserPatterns


@dataclass(frozen=True)
class Match:
    """Personal data in a text: its kind, where it stands, and what it says in the order that it is read in."""

    kind: str
    start: int
    end: int
    value: str


Span = tuple[str, int, int]  # kind, start, end


def matches(
    text: str,
    regions: Sequence[str],
    patterns: UserPatterns | None = None,
    names: re.Pattern[str] | None = None,
) -> list[Match]:
    """The personal data in a text, in the order of the text; `regions` are those of phone numbers and national ids.

    >>> [(match.kind, match.value) for match in matches("رقم 7519 1016 6080 0000 8000 03SA", ["SA"])]
    [('iban', 'SA03 8000 0000 6080 1016 7519')]
    """
    orders = readings(text)
    found = [_match(reading, *span) for reading in orders for span in _values(reading.text, tuple(regions))]
    found += [_match(orders[0], *span) for span in labelled(orders[0].text)]
    if names:
        found += [_match(orders[0], "name", *match.span("name")) for match in names.finditer(orders[0].text)]
    if patterns:
        orders.append(Reading(text, list(range(len(text)))))  # as it is: a pattern may ask for what folding takes away
        own = patterns.find([reading.text for reading in orders])
        found += [_match(orders[which], name, start, end) for name, which, start, end in own]
    return _without_parts(found)


def _match(reading: Reading, kind: str, start: int, end: int) -> Match:
    return Match(kind, *reading.span(start, end), reading.text[start:end])


def _without_parts(found: Iterable[Match]) -> list[Match]:
    """Each once, and none that lies in a longer one."""
    kept: list[Match] = []
    for match in sorted(found, key=lambda match: match.start - match.end):
        if not any(other.start <= match.start and match.end <= other.end for other in kept):
            kept.append(match)
    return sorted(kept, key=lambda match: match.start)


def _values(text: str, regions: tuple[str, ...]) -> Iterator[Span]:
    """What is personal data by what it looks like, in one reading of a text."""
    yield from _emails(text)
    yield from (("iban", *span) for span in ibans(text))
    for number in numbers(text):
        if number.is_plain and is_national_id(number, regions):
            yield "national id", number.start, number.end
        if number.is_plain and is_card(number):
            yield "card", number.start, number.end
        if is_mobile(number, regions):
            yield "phone", number.start, number.end
    yield from (("phone", *span) for span in phones(text, regions))


_EMAIL = re.compile(
    r"(?<![A-Za-z0-9.%+_-])[A-Za-z0-9.%+_-]{1,64}+ ?@ ?(?:[A-Za-z0-9-]{1,63}+\.){1,8}+ ?[A-Za-z]{2,24}+(?![A-Za-z0-9-])"
)


def _emails(text: str) -> Iterator[Span]:
    for match in _EMAIL.finditer(text):
        yield "email", *match.span()
