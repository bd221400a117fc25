"""The split: each group goes whole to train, val or test by its hash; then the audit of what leaks between them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gemtune.preparation.near_duplicates import Sketch, leaks
from gemtune.preparation.row_store import Hashes, Numbers, RowStore
from gemtune.recipe.schema import Split
from gemtune.runs import PARTS

AUDITED = 0.8  # the similarity from which two questions on different sides of the split are reported
_TRAIN, _VAL, _TEST = range(len(PARTS))

Parts = NDArray[np.int8]  # the number of the part of each row


def split(settings: Split, groups: Hashes, pools: Hashes) -> Parts:
    """The part of every row, by where its group's hash lies between 0 and 1: test first, then val, then train."""
    places = groups / 2.0**64
    splittable = np.sort(places[pools == 0])
    test_end = _end(0.0, settings.test, splittable)
    val_end = _end(test_end, settings.val, splittable)
    by_hash = np.select([places < test_end, places < val_end], [_TEST, _VAL], _TRAIN)
    return np.where(pools == 0, by_hash, pools.astype(np.int64) - 1).astype(np.int8)


def _end(start: float, size: float, places: NDArray[np.float64]) -> float:
    """Where a part that starts at `start` ends: a share is as wide as it says, a number reaches so many rows' groups.

    >>> _end(0.1, 0.2, np.array([0.05, 0.15, 0.15, 0.4])), _end(0.1, 1, np.array([0.05, 0.15, 0.15, 0.4])) > 0.15
    (0.30000000000000004, True)
    """
    if size < 1:
        return start + size
    after = places[np.searchsorted(places, start) :]
    return float(np.nextafter(after[min(math.ceil(size), len(after)) - 1], 2.0)) if len(after) else start


def leak_lines(sketch: Sketch, store: RowStore, questions: Numbers, parts: Parts) -> Iterator[dict[str, object]]:
    """Yields, for every question of val and test, the closest one in each part before its own, from AUDITED on."""
    for near in leaks(sketch, AUDITED, store.hashes("scope")[questions], parts[questions]):
        pair: dict[str, object] = {}
        for side, place in (("a", near.text), ("b", near.other)):
            row = int(questions[place])
            value = store.conversation(row)
            pair |= {f"part_{side}": PARTS[parts[row]], f"where_{side}": value["where"], f"key_{side}": value["key"]}
        yield {**pair, "similarity": round(near.similarity, 4)}
