"""The order of a training, computed from its seed and the step: nothing of it is kept, and no row is read for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from gemtune.preparation.candidates import mixed

_ROUNDS = 8  # of the Feistel network: 4 look drawn over thousands of rows, some ten rows gain by more
_COMPUTED = 4096  # rows at once: numpy takes as long for 16
_LEAST = 1e-6  # of a row: 3 * 0.1 * 10 is 3.0000000000000004
_OF_EPOCHS, _OF_ROWS = 0, 1  # what a permutation is of

Rows = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True)
class Order:
    """The rows of every effective batch: item i is those of step i, an array of numbers in the token table.

    `weights` are (weight, rows) as the table has them one after another. Rows of weight w stand in a line, permuted
    once and walked over and over; an epoch takes the next w of its length and permutes what it has taken from all
    lines. So a row is visited w times an epoch in the long run, and any step of any epoch is computed alone.
    The last batch of an epoch may be smaller; a fraction of an epoch is its first batches. `max_steps` goes on with
    further epochs where it is beyond them.

    >>> [rows.tolist() for rows in Order(((1.0, 5),), batch_size=3, epochs=2, seed=0)]
    [[2, 3, 1], [0, 4], [2, 4, 3], [1, 0]]
    """

    weights: tuple[tuple[float, int], ...]
    batch_size: int
    epochs: float
    seed: int
    max_steps: int | None = None

    def __len__(self) -> int:
        return (self.max_steps or self._steps) if self._steps else 0

    def __getitem__(self, step: int) -> Rows:
        if not 0 <= step < len(self):
            raise IndexError(step)
        epoch = int(np.searchsorted(self._ends, step, side="right"))
        number = step - (int(self._ends[epoch - 1]) if epoch else 0)
        steps = max(1, _COMPUTED // self.batch_size)
        start = number % steps * self.batch_size
        return _block(self, epoch, number // steps * steps, steps)[start : start + self.batch_size]

    @property
    def steps_per_epoch(self) -> float:
        return self._steps / self.epochs

    @cached_property
    def _steps(self) -> int:
        """Those of `epochs`."""
        last = math.ceil(self.epochs) - 1
        whole = int(self._ends[last - 1]) if last else 0
        return whole + math.ceil((self.epochs - last) * (int(self._ends[last]) - whole))

    @cached_property
    def _ends(self) -> Rows:
        """The steps until the end of every epoch."""
        epochs = math.ceil(self.epochs)
        while True:
            visits = np.diff(sum(_edges(group, np.arange(epochs + 1)) for group in self.weights))
            ends: Rows = np.cumsum(-(-visits // self.batch_size))
            if not ends[-1] or ends[-1] >= (self.max_steps or 0):
                return ends
            epochs *= 2


def _edges(group: tuple[float, int], epochs: NDArray[np.int64]) -> Rows:
    """How far rows of one weight have been walked when epochs begin."""
    weight, rows = group
    return np.floor(epochs * (weight * rows) + _LEAST).astype(np.int64)


@lru_cache(maxsize=4)
def _block(order: Order, epoch: int, first: int, steps: int) -> Rows:
    """The rows of some steps of an epoch, one after another; fewer at its end."""
    walked = [_edges(group, np.array([epoch, epoch + 1])).tolist() for group in order.weights]
    visits = sum(end - start for start, end in walked)
    begin, end = first * order.batch_size, min((first + steps) * order.batch_size, visits)
    places = permuted(np.arange(begin, end, dtype=np.uint64), visits, (order.seed, _OF_EPOCHS, epoch)).astype(np.int64)
    rows, taken, offset = np.empty(len(places), np.int64), 0, 0
    for number, ((_, count), (start, stop)) in enumerate(zip(order.weights, walked, strict=True)):
        here = (places >= taken) & (places < taken + stop - start)
        line = (start + places[here] - taken) % max(1, count)
        rows[here] = offset + permuted(line.astype(np.uint64), count, (order.seed, _OF_ROWS, number)).astype(np.int64)
        taken, offset = taken + stop - start, offset + count
    return rows


def permuted(places: U64, size: int, key: Sequence[int]) -> U64:
    """Where a permutation of `size` places, which the key chooses, sends some of them.

    A Feistel network over the next power of 4; what it sends outside is sent on until it is inside.

    >>> permuted(np.arange(6, dtype=np.uint64), 6, (0, 1)).tolist()
    [4, 1, 3, 0, 5, 2]
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    values, outside = places.copy(), np.arange(len(places))
    while outside.size:
        left, right = values[outside] >> half, values[outside] & mask
        for one in keys:
            left, right = right, left ^ (mixed(right ^ one) & mask)
        values[outside] = left << half | right
        outside = outside[values[outside] >= size]
    return values
