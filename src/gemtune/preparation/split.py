"""The split: each group goes whole to train, val or test by its hash; then the audit of what leaks between them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gemtune.preparation.near_duplicates import NearPair, Questions
from gemtune.preparation.row_store import Hashes, RowStore, group_hash
from gemtune.recipe.schema import Split
from gemtune.runs import PARTS

_TRAIN, _VAL, _TEST = range(len(PARTS))

Parts = NDArray[np.int8]  # the number of the part of each row


def split(settings: Split, groups: Hashes, pools: Hashes) -> Parts:
    """The part of every row, by where its group's hash lies between 0 and 1: test first, then val, then train.

    A part that is a list of names has the groups of these names.
    """
    places = groups / 2.0**64
    named = [np.isin(groups, _hashes(settings, part)) for part in (settings.test, settings.val)]
    splittable = np.sort(places[(pools == 0) & ~named[0] & ~named[1]])
    test_end = _end(0.0, _share(settings.test), splittable)
    val_end = _end(test_end, _share(settings.val), splittable)
    by_hash = np.select([*named, places < test_end, places < val_end], [_TEST, _VAL, _TEST, _VAL], _TRAIN)
    return np.where(pools == 0, by_hash, pools.astype(np.int64) - 1).astype(np.int8)


def _hashes(settings: Split, part: int | float | list[str]) -> Hashes:
    """The groups that a part names."""
    names = part if isinstance(part, list) else []
    return np.array([group_hash(str(settings.seed), name) for name in names], np.uint64)


def _share(part: int | float | list[str]) -> float:
    return 0.0 if isinstance(part, list) else part


def _end(start: float, size: float, places: NDArray[np.float64]) -> float:
    """Where a part that starts at `start` ends: a share is as wide as it says, a number reaches so many rows' groups.

    >>> _end(0.1, 0.2, np.array([0.05, 0.15, 0.15, 0.4])), _end(0.1, 1, np.array([0.05, 0.15, 0.15, 0.4])) > 0.15
    (0.30000000000000004, True)
    """
    if size < 1:
        return start + size
    after = places[np.searchsorted(places, start) :]
    return float(np.nextafter(after[min(math.ceil(size), len(after)) - 1], 2.0)) if len(after) else start


def leak_lines(store: RowStore, questions: Questions, parts: Parts) -> Iterator[dict[str, object]]:
    """Yields, for every question of val and test, the closest one in each part before its own.

    `parts` (N,) is the part of every row, -1 for those that are dropped.
    """
    rows = np.flatnonzero(parts >= 0)
    neighbours = questions.neighbours()
    rows_of = questions.rows_of(rows, _in_parts(questions.hashes[rows], parts[rows]) | {*neighbours})
    groups = store.hashes("group")
    first_of = {question: {int(parts[row]): row for row in reversed(asking)} for question, asking in rows_of.items()}
    for question, asking in sorted(rows_of.items(), key=lambda item: item[1][0]):
        same = NearPair(question, question, 1.0)
        closest = sorted([same, *neighbours.get(question, [])], key=lambda pair: -pair.similarity)
        for row in {(int(groups[row]), int(parts[row])): row for row in reversed(asking)}.values():
            for part in range(int(parts[row])):
                pair = next((pair for pair in closest if part in first_of.get(pair.other, {})), None)
                if pair:
                    yield _leak(store, parts, row, first_of[pair.other][part], pair.similarity)


def _in_parts(questions: Hashes, parts: Parts) -> set[int]:
    """The questions that are asked in more than one part."""
    order = np.argsort(questions, kind="stable")
    edges = np.flatnonzero(np.diff(questions[order], prepend=~questions[order[:1]]))
    masks = np.bitwise_or.reduceat(np.uint8(1) << parts[order].astype(np.uint8), edges) if edges.size else edges
    return {*questions[order[edges[masks & (masks - 1) != 0]]].tolist()}


def _leak(store: RowStore, parts: Parts, row: int, other: int, similarity: float) -> dict[str, object]:
    pair: dict[str, object] = {}
    for side, number in (("a", row), ("b", other)):
        value = store.conversation(number)
        pair |= {f"part_{side}": PARTS[parts[number]], f"where_{side}": value["where"], f"key_{side}": value["key"]}
    return {**pair, "similarity": round(similarity, 4)}
