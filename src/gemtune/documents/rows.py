"""Replies -> rows: which documents stay together, whether the replies to a page agree, and a line of rows.jsonl."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

from gemtune.data.groups import merged
from gemtune.documents.fingerprints import shared_pages
from gemtune.documents.folder import Page
from gemtune.documents.redaction import Sendable, without_redacted
from gemtune.documents.teacher.repair import faults_of
from gemtune.errors import RecipeError, did_you_mean, listed
from gemtune.files import JsonObject
from gemtune.run_files import Stored

if TYPE_CHECKING:
    from gemtune.documents.teacher import Reply
    from gemtune.tasks.documents import PageTask


@dataclass(frozen=True, kw_only=True)
class SharedPage(Stored):
    """A page that two documents share."""

    document: str
    number: int
    other: str
    other_number: int
    distance: Annotated[int, "of their fingerprints", "bits of 256"]


@dataclass(frozen=True, kw_only=True)
class Group(Stored):
    """Documents that the split keeps on one side: a line of groups.jsonl."""

    group: Annotated[str, "its name: those of its documents, with ` + ` between them"]
    documents: list[str]
    shared: Annotated[list[SharedPage], "why they are one; empty where `pages.groups` alone says so"]


@dataclass(frozen=True, kw_only=True)
class LeftOut(Stored):
    """A document, a page or a task of a page without a row."""

    document: str
    number: Annotated[int | None, "null: the whole document"]
    task: Annotated[str | None, "null: all of them"]
    why: str

    def __str__(self) -> str:
        """
        >>> str(LeftOut(document="a.pdf", number=2, task=None, why="nothing is on it"))
        'a.pdf page 2: nothing is on it'
        """
        return ", ".join(
            [self.document + (f" page {self.number}" if self.number else ""), *filter(None, [self.task])]
        ) + (f": {self.why}")


# --- groups -----------------------------------------------------------------------------------------------------------


def groups_of(
    pages: Sequence[Page], declared: Sequence[Sequence[str]] = (), known: Collection[str] = ()
) -> list[Group]:
    """Documents that share a page, or that the recipe declares to belong together, as far as one leads to another.

    RecipeError where the recipe names a document that is none; `known` are those of which no page could be drawn.
    """
    names = sorted({page.document for page in pages})
    for name in (name for group in declared for name in group):
        if name not in names and name not in known:
            move = f"the documents are {listed(names, 5)}"
            raise RecipeError(f"pages.groups: no document is called {name!r}{did_you_mean(name, names, move)}")
    shared = [
        SharedPage(
            document=one.document,
            number=one.number,
            other=other.document,
            other_number=other.number,
            distance=distance,
        )
        for one, other, distance in shared_pages(pages)
    ]
    sets = _joined([*declared, *((pair.document, pair.other) for pair in shared)], set(names))
    return [
        Group(
            group=merged(documents),
            documents=documents,
            shared=[pair for pair in shared if pair.document in documents],
        )
        for documents in sorted(map(sorted, sets))
    ]


def _joined(links: Sequence[Sequence[str]], names: Collection[str]) -> list[set[str]]:
    """The names that links lead between, in sets of two and more.

    >>> [sorted(found) for found in _joined([("a", "b"), ("c", "d"), ("b", "c"), ("e",)], "abcdef")]
    [['a', 'b', 'c', 'd']]
    """
    sets: list[set[str]] = []
    for link in links:
        new = {name for name in link if name in names}
        touched = [found for found in sets if found & new]
        sets = [found for found in sets if not found & new] + [new.union(*touched)]
    return [found for found in sets if len(found) > 1]


# --- agreement --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vote:
    """A reply to a page and task, and who gave it."""

    model: str
    agreement: float  # that it needs with the others
    reply: Reply


def agreed(votes: Sequence[Vote]) -> tuple[Reply | None, str]:
    """The reply that is most like the others, and where there is none, why.

    A single reply needs no other; of several, any two have to be as similar as the stricter of their teachers wants.
    """
    answered = [vote for vote in votes if vote.reply.problem is None]
    failed = [f"{vote.model}: {vote.reply.problem}" for vote in votes if vote.reply.problem is not None]
    if not answered or (len(answered) == 1 and len(votes) > 1):
        alone = [f"only {vote.model} has answered" for vote in answered]
        return None, "; ".join([*alone, *dict.fromkeys(failed)])
    likeness = {
        (one, other): similarity(answered[one].reply, answered[other].reply)
        for one, other in combinations(range(len(answered)), 2)
    }
    for (one, other), value in sorted(likeness.items(), key=lambda entry: entry[1]):
        least = max(answered[one].agreement, answered[other].agreement)
        if value < least:
            models = " and ".join(dict.fromkeys([answered[one].model, answered[other].model]))
            return None, f"two replies of {models} are {value:.2f} alike; teacher.agreement wants {least:g}"
    total = [sum(value for pair, value in likeness.items() if number in pair) for number in range(len(answered))]
    return answered[total.index(max(total))].reply, ""


def similarity(one: Reply, other: Reply) -> float:
    """How alike two replies are, from 0 to 1: 1 - edits a character, of their values without keys and white space."""
    from rapidfuzz.distance import Levenshtein

    return float(Levenshtein.normalized_similarity(_words(one), _words(other)))


def _words(reply: Reply) -> str:
    texts = _texts(reply.text if reply.value is None else reply.value)
    return " ".join(word for text in texts for word in text.split())


def _texts(value: object) -> Iterator[str]:
    """The texts and numbers in a value, in order.

    >>> list(_texts({"a": ["b", 1], "c": {"d": None}}))
    ['b', '1']
    """
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
    elif value is not None:
        yield str(value)


def without_covered(reply: Reply, one: Sendable) -> tuple[Reply | None, str]:
    """A reply to a redacted page without what is covered there; none, and why, where its schema does not allow that."""
    value = without_redacted(reply.text if reply.value is None else reply.value, one.redactions)
    if isinstance(value, str):
        return replace(reply, text=value), ""
    fault = next(faults_of(value, reply.request.schema or {}), None)
    if fault or not isinstance(value, dict):
        return None, f"its label tells what is redacted on the page, and cannot be null there ({fault or 'all of it'})"
    return replace(reply, value=value, text=json.dumps(value, ensure_ascii=False)), ""


# --- rows -------------------------------------------------------------------------------------------------------------


def row_of(reply: Reply, page: Page, task: PageTask, *, image: str, group: str, known: JsonObject) -> JsonObject:
    """A line of rows.jsonl: all that a row of the `documents` task needs, as a user could write it by hand.

    `known` is what else is known of the page: `ocr`, `layer`, `reference`.
    """
    return {
        "document": page.document,
        "number": page.number,
        "group": group,
        "task": task.name,
        "image": image,
        "prompt": task.student_prompt,
        "answer": reply.text,
        "schema": task.schema,
        **known,
    }
