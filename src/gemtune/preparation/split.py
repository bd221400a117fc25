"""The split: each group goes whole to train, val or test by its hash; then the audit of what leaks between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gemtune.data.groups import has_member
from gemtune.errors import DataError, did_you_mean, listed
from gemtune.preparation.near_duplicates import NearPair, Questions
from gemtune.preparation.row_store import RowStore, group_hash
from gemtune.preparation.scratch import Hashes, Mask, pieces, together
from gemtune.recipe.schema import Split
from gemtune.runs import PARTS

_TRAIN, _VAL, _TEST = range(len(PARTS))

Parts = NDArray[np.int8]  # the number of the part of each row


def split(
    settings: Split,
    groups: Hashes,
    pools: Hashes,
    named: Mapping[str, Sequence[int]] | None = None,
    rows: Mask | None = None,
) -> Parts:
    """The part of every row, by where its group's hash lies between 0 and 1: test first, then val, then train.

    A part that is a list of names has the groups of these names; `named` says which they are. `rows` are those that are
    divided, all by default; the others are in no part, which is -1.
    """
    rows = np.ones(len(groups), bool) if rows is None else rows
    hashes = [_hashes(part, named or {}) for part in (settings.test, settings.val)]
    test_end, val_end = _ends(settings, groups, pools, hashes, rows)
    parts = np.full(len(groups), -1, np.int8)
    for _, numbers in pieces(rows):
        here, places = groups[numbers], groups[numbers] / 2.0**64
        listed_groups = [np.isin(here, names) for names in hashes]
        by_hash = np.select([*listed_groups, places < test_end, places < val_end], [_TEST, _VAL, _TEST, _VAL], _TRAIN)
        pool = pools[numbers].astype(np.int64)
        parts[numbers] = np.where(pool == 0, by_hash, pool - 1)
    return parts


def _ends(settings: Split, groups: Hashes, pools: Hashes, hashes: Sequence[Hashes], rows: Mask) -> tuple[float, float]:
    """Where test and val end between 0 and 1; a part that is a number of rows asks where every row lies."""
    sizes = [_share(part) for part in (settings.test, settings.val)]
    places = np.empty(0)
    if max(sizes) >= 1:
        free = groups[rows & (pools == 0)]
        places = np.sort(free[~np.isin(free, np.concatenate(hashes))] / 2.0**64)
    test_end = _end(0.0, sizes[0], places)
    return test_end, _end(test_end, sizes[1], places)


def parts_by_name(settings: Split, groups: Sequence[str]) -> list[str]:
    """The part of each row by the name of its group, as `gemtune prepare` divides the same rows.

    >>> parts_by_name(Split(val=["b"], test=0), ["a", "b", "b"])
    ['train', 'val', 'val']
    """
    hash_of = {group: group_hash(str(settings.seed), group) for group in groups}
    hashes = np.array([hash_of[group] for group in groups], np.uint64)
    parts = split(settings, hashes, np.zeros(len(groups), np.uint64), groups_named(settings, hash_of))
    return [PARTS[part] for part in parts]


def groups_of(settings: Split, store: RowStore) -> dict[str, int]:
    """The groups of the rows that were read, by name, where a part lists some."""
    if not any(isinstance(part, list) for part in (settings.val, settings.test)):
        return {}
    hashes, rows = np.unique(store.hashes("group"), return_index=True)
    return {store.conversation(row)["group"]: int(number) for number, row in zip(hashes, rows.tolist(), strict=True)}


def groups_named(settings: Split, hash_of: Mapping[str, int]) -> dict[str, list[int]]:
    """The names that val and test list -> the hashes of their groups: those of that name, or merged with one of it.

    DataError when a name is in no group, or when val and test name the same one.
    """
    parts = {key: part for key in ("val", "test") if isinstance(part := getattr(settings, key), list)}
    named: dict[str, list[int]] = {}
    for key, name in ((key, name) for key, names in parts.items() for name in names):
        exact = [hash_of[name]] if name in hash_of else []
        named[name] = exact or [number for group, number in hash_of.items() if has_member(group, name)]
        if not named[name]:
            groups = f"{len(hash_of)} groups by {settings.by or 'question'}, such as {listed(sorted(hash_of), 3)}"
            move = did_you_mean(name, hash_of, f"there are {groups}")
            raise DataError(f"split.{key}: no row has the group {name!r}{move}")
    numbers = {key: {number for name in names for number in named[name]} for key, names in parts.items()}
    if both := set.intersection(*numbers.values()) if len(numbers) > 1 else set():
        group = next(group for group, number in hash_of.items() if number in both)
        raise DataError(f"split.val and split.test both name the group {group!r}; name it in one of them")
    return named


def _hashes(part: int | float | list[str], named: Mapping[str, Sequence[int]]) -> Hashes:
    """The groups that a part names."""
    names = part if isinstance(part, list) else []
    return np.array([number for name in names for number in named[name]], np.uint64)


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
    neighbours = questions.neighbours()
    rows_of = questions.rows_of(parts >= 0, _in_parts(store, questions.hashes, parts) | {*neighbours})
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


def _in_parts(store: RowStore, questions: Hashes, parts: Parts) -> set[int]:
    """The questions that are asked in more than one part."""
    several: set[int] = set()
    for asked, rows in together(lambda part: questions[part], parts >= 0, store.folder):
        edges = np.flatnonzero(np.diff(asked, prepend=~asked[:1]))
        masks = np.bitwise_or.reduceat(np.uint8(1) << parts[rows].astype(np.uint8), edges) if edges.size else edges
        several |= {*asked[edges[masks & (masks - 1) != 0]].tolist()}
    return several


def _leak(store: RowStore, parts: Parts, row: int, other: int, similarity: float) -> dict[str, object]:
    pair: dict[str, object] = {}
    for side, number in (("a", row), ("b", other)):
        value = store.conversation(number)
        pair |= {f"part_{side}": PARTS[parts[number]], f"where_{side}": value["where"], f"key_{side}": value["key"]}
    return {**pair, "similarity": round(similarity, 4)}
