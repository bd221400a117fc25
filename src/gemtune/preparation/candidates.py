"""Texts that share most letters, found without comparing every text with every other one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

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


def candidates(keys: U32, scopes: U64) -> Iterator[tuple[int, int]]:
    """Yields (text, earlier text) that share a scope and most letters, or all words; each pair once.

    `keys` (PARTS + 1, N) are those of `wording.keys`. The most alike come first, and a text is named at most eight
    times as the later one: where thousands resemble it, it does not cost thousands of comparisons.

    >>> from gemtune.preparation.wording import keys
    >>> texts = ("a glass of water", "the capital of france", "the captial of france")
    >>> list(candidates(np.array([keys(text) for text in texts], np.uint32).T, np.zeros(3, np.uint64)))
    [(2, 1)]
    """
    left = np.full(len(scopes), COMPARED, np.uint8)
    for count in range(PARTS, PARTS - WRONG - 1, -1):
        for parts in combinations(range(PARTS), count):
            yield from _sharing(keys, scopes, parts, left, keep=2 * (PARTS - count))
        if count == PARTS:
            yield from _sharing(keys, scopes, (PARTS,), left, keep=0)


def _sharing(
    keys: U32, scopes: U64, columns: tuple[int, ...], left: NDArray[np.uint8], keep: int
) -> Iterator[tuple[int, int]]:
    """Yields the pairs that are equal in just these columns, and counts down what is left to each text, to `keep`.

    The less alike pairs are, the more are so by chance, and the fewer are looked at.
    """
    values = scopes
    for column in columns:
        values = mixed(values * _GOLDEN + keys[column])
    order = np.argsort(values, kind="stable")
    values = values[order]
    for distance in range(1, _REACH + 1):
        places = np.flatnonzero(values[distance:] == values[:-distance])
        if not places.size:
            return
        later, earlier = order[places + distance], order[places]
        is_new = _is_new(keys, later, earlier, columns) & (left[later] > keep)
        left[later[is_new]] -= 1
        yield from zip(later[is_new].tolist(), earlier[is_new].tolist(), strict=True)


def _is_new(
    keys: U32, later: NDArray[np.int64], earlier: NDArray[np.int64], columns: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Whether pairs are not equal in more columns, which were seen before, and share letters enough."""
    is_equal = keys[:PARTS, later] == keys[:PARTS, earlier]
    if columns == (PARTS,):
        return ~is_equal.all(axis=0)
    others = [part for part in range(PARTS) if part not in columns]
    letters = (keys[list(columns)][:, later] & np.uint32(MOST)).sum(axis=0)
    return ~is_equal[others].any(axis=0) & ((letters >= FEWEST) | (not others))
