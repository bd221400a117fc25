"""Dates, amounts, IBANs and ids of pages in a report: how many each reader has right to the digit, and which not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gemtune.metrics.facts import KINDS, Kind, facts_in, missed

MOST_MISSES = 200  # lines of the table; eval/ has every reply


@dataclass(frozen=True)
class KindOfFact:
    """How many facts of a kind are true, and how many of them each reader has: of pages that it has answered."""

    kind: Kind
    true: int
    right: Mapping[str, tuple[int, int]]  # who -> right, of how many


@dataclass(frozen=True)
class Miss:
    """A fact that somebody has not."""

    page: str
    kind: Kind
    written: str  # in the truth, digits as ASCII
    has: Mapping[str, bool]  # who -> whether it is in its reply


@dataclass(frozen=True)
class Facts:
    """A part of a report."""

    kinds: Sequence[KindOfFact]
    misses: Sequence[Miss]  # of tuned
    left_out: int


def facts_of(pages: Iterable[tuple[str, str, Mapping[str, str]]]) -> Facts | None:
    """The facts of pages, each a name, its true text and everybody's text of it; None where no page has any.

    >>> facts = facts_of([("p. 1", "1/2/2024, 500.00", {"tuned": "01/02/2024, 600.00", "ocr": "٥٠٠٫٠٠"})])
    >>> [(miss.kind, miss.written, dict(miss.has)) for miss in facts.misses]
    [('amount', '500.00', {'tuned': False, 'ocr': True})]
    """
    true: dict[Kind, int] = {}
    right: dict[tuple[Kind, str], tuple[int, int]] = {}
    misses: list[Miss] = []
    for page, truth, texts in pages:
        facts = facts_in(truth)
        missing = {who: [id(fact) for fact in missed(facts, facts_in(text))] for who, text in texts.items()}
        for fact in facts:
            true[fact.kind] = true.get(fact.kind, 0) + 1
            has = {who: id(fact) not in own for who, own in missing.items()}
            for who, is_right in has.items():
                known, of = right.get((fact.kind, who), (0, 0))
                right[fact.kind, who] = known + is_right, of + 1
            if not has.get("tuned", True):
                misses.append(Miss(page, fact.kind, fact.written, has))
    kinds = [
        KindOfFact(kind, true[kind], {who: counts for (other, who), counts in right.items() if other == kind})
        for kind in KINDS
        if kind in true
    ]
    return Facts(kinds, misses[:MOST_MISSES], max(0, len(misses) - MOST_MISSES)) if kinds else None
