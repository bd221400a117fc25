"""The split: each group goes whole to train, val or test by its hash; then the audit of what leaks between them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemtune.data.sources import is_hub, source_files
from gemtune.errors import DataError
from gemtune.preparation.near_duplicates import NearPair, Questions
from gemtune.preparation.row_store import Hashes, RowStore
from gemtune.recipe.schema import DataSource, Split
from gemtune.runs import PARTS

_NAMES = {  # of files and folders -> the part that they are
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
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


def refuse_test_rows(data: DataSource) -> None:
    """DataError where rows that others hold out for a test would be trained on without the recipe saying so."""
    if data.part != "auto" or data.train_on_test:
        return
    if is_hub(data) and ("test" in data.hub_split or "bench" in data.source.lower()):
        raise DataError(
            f"{data.source} ({data.hub_split}) is a benchmark's test split; set data.part: test to score on it, or "
            "data.train_on_test: true to train on it, after which its scores mean nothing"
        )
    parts = {name: path.name for path in source_files(data) if (name := _part_named(path, Path(data.source)))}
    if len(parts) > 1 and "test" in parts:
        sources = ", ".join(f"{{source: ..., part: {name}}}" for name in sorted(parts))
        raise DataError(
            f"{data.source}: holds the parts of a split ({', '.join(sorted(parts.values()))}), which would be mixed; "
            f"name each as a source of its own, data: [{sources}], or set data.train_on_test: true"
        )


def _part_named(path: Path, folder: Path) -> str:
    """The part of a split that a file is by its name, or its folder's; "" for none.

    >>> [_part_named(Path("d", *names), Path("d")) for names in (["test-00000-of-00001.parquet"], ["val", "a.csv"])]
    ['test', 'val']
    >>> _part_named(Path("d/latest.csv"), Path("d")), _part_named(Path("test/a.csv"), Path("test"))
    ('', '')
    """
    places = path.relative_to(folder).parts if path.is_relative_to(folder) else (path.name,)
    words = [word for place in places for word in re.split(r"[^a-z]+", place.lower())]
    return next((part for word in words for part, names in _NAMES.items() if word in names), "")
