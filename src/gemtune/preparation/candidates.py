"""Texts that share most letters, found without comparing every text with every other one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemtune.preparation.scratch import Mask, Numbers, together
from gemtune.preparation.wording import MOST, PARTS

FEWEST = 8  # letters that two texts must share to be candidates, where they do not share all
WRONG = 3  # parts of the alphabet that may differ: one slip changes one or two
COMPARED = 8  # candidates per text
_REACH = 2 * COMPARED  # texts looked back on among those with the same letters

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(values: U64) -> U64:
    """The finalizer of SplitMix64: every bit of the input changes half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def candidates(
    keys: Sequence[U32], scopes: U64, rows: Mask | None = None, folder: Path | None = None
) -> Iterator[tuple[int, int]]:
    """Yields (text, earlier text) that share a scope and most letters, or all words; each pair once.

    `keys` are PARTS + 1 arrays (N,), those of `wording.keys`; `rows` are the texts that are meant, all by default.
    The most alike come first, and a text is named at most eight times as the later one: where thousands resemble it, it
    does not cost thousands of comparisons.

    >>> from gemtune.preparation.wording import keys
    >>> texts = ("a glass of water", "the capital of france", "the captial of france")
    >>> list(candidates(np.array([keys(text) for text in texts], np.uint32).T, np.zeros(3, np.uint64)))
    [(2, 1)]
    """
    rows = np.ones(len(scopes), bool) if rows is None else rows
    left = np.full(len(scopes), COMPARED, np.uint8)
    for count in range(PARTS, PARTS - WRONG - 1, -1):
        for parts in combinations(range(PARTS), count):
            groups = together(partial(_numbers, keys, scopes, parts), rows, folder)
            yield from _sharing(groups, keys, parts, left, keep=2 * (PARTS - count))
        if count == PARTS:
            groups = together(partial(_numbers, keys, scopes, (PARTS,)), rows, folder)
            yield from _sharing(groups, keys, (PARTS,), left, keep=0)


def _numbers(keys: Sequence[U32], scopes: U64, columns: tuple[int, ...], part: slice) -> U64:
    """A number of every text of a piece, equal where these columns and the scope are."""
    values = np.asarray(scopes[part])
    for column in columns:
        values = mixed(values * _GOLDEN + keys[column][part])
    return values


def _sharing(
    groups: Iterable[tuple[U64, Numbers]],
    keys: Sequence[U32],
    columns: tuple[int, ...],
    left: NDArray[np.uint8],
    keep: int,
) -> Iterator[tuple[int, int]]:
    """Yields the pairs that are equal in just these columns, and counts down what is left to each text, to `keep`.

    The less alike pairs are, the more are so by chance, and the fewer are looked at.
    """
    pairs: list[list[tuple[Numbers, Numbers]]] = [[] for _ in range(_REACH)]  # by how far apart they are
    for values, rows in groups:
        for distance, near in enumerate(pairs, 1):
            places = np.flatnonzero(values[distance:] == values[:-distance])
            if not places.size:
                break
            later, earlier = rows[places + distance], rows[places]
            is_new = _is_new(keys, later, earlier, columns) & (left[later] > keep)
            left[later[is_new]] -= 1
            near.append((later[is_new], earlier[is_new]))
    for later, earlier in (found for near in pairs for found in near):
        yield from zip(later.tolist(), earlier.tolist(), strict=True)


def _is_new(keys: Sequence[U32], later: Numbers, earlier: Numbers, columns: tuple[int, ...]) -> Mask:
    """Whether pairs are not equal in more columns, which were seen before, and share letters enough."""
    is_equal = np.stack([keys[part][later] == keys[part][earlier] for part in range(PARTS)])
    if columns == (PARTS,):
        return np.asarray(~is_equal.all(axis=0))
    others = [part for part in range(PARTS) if part not in columns]
    letters = np.stack([keys[column][later] & np.uint32(MOST) for column in columns]).sum(axis=0)
    return np.asarray(~is_equal[others].any(axis=0) & ((letters >= FEWEST) | (not others)))
