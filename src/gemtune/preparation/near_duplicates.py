"""Near duplicates: MinHash signatures find the texts that may be close; exact Jaccard similarity decides.

Two texts are as similar as the 5-character shingles they share. A shingle that more than one text in twenty contains is
boilerplate (an instruction put before every row); a pair must be similar with it and without it, or two short reviews
behind one long instruction would count as duplicates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

WIDTH = 5  # characters per shingle
PERMUTATIONS = 64  # the estimate's standard deviation is at most 0.0625
BOILERPLATE_SHARE = 20  # a shingle in more than one text of twenty is boilerplate ...
BOILERPLATE_COUNT = 10  # ... in a set large enough to tell
_SLOT_BITS = 22  # shingles are counted by this many bits of their hash: 16 MB
_BATCH = 1 << 16  # characters hashed at once: the arrays stay in the processor's cache
_VERIFIED = 32  # candidates per text, the most promising ones, that are read and compared

U64 = NDArray[np.uint64]
Ints = NDArray[np.int64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROLL = np.uint64(0x100000001B3)
_random = np.random.default_rng(5)
_A: U64 = _random.integers(0, 2**63, PERMUTATIONS, np.uint64) * np.uint64(2) + np.uint64(1)
_B: U64 = _random.integers(0, 2**63, PERMUTATIONS, np.uint64)


class Texts(Protocol):
    """Anything that gives a text by its number: a list, or a file that holds more than memory does."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> str: ...


class SimilarPair(NamedTuple):
    """Two texts by number, and how similar they are."""

    text: int
    other: int
    similarity: float


def _mixed(values: U64) -> U64:
    """The finalizer of SplitMix64: every bit of the input changes half of the output's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _hashed(texts: Sequence[str]) -> tuple[U64, Ints]:
    """The hashes of all shingles of all texts, one text after the other, and how many each text has (at least one)."""
    padded = [text.ljust(WIDTH, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    counts = np.array([len(text) - WIDTH + 1 for text in padded])
    starts = np.arange(counts.sum()) + (WIDTH - 1) * np.repeat(np.arange(len(texts)), counts)
    values = codes[starts]
    for offset in range(1, WIDTH):
        values = values * _ROLL * _GOLDEN + codes[starts + offset]
    return _mixed(values), counts


def shingles(text: str) -> U64:
    """The hashes of a text's different 5-character pieces, sorted; a shorter text is one piece."""
    return np.unique(_hashed([text])[0])


def _jaccard(size: int, owners: Ints, is_shared: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """The similarities of a set of `size` with `count` sets, whose elements come with their set's number."""
    intersection = np.bincount(owners[is_shared], minlength=count)
    union = size + np.bincount(owners, minlength=count) - intersection
    return np.where(union, intersection / np.maximum(union, 1), 1.0)


def _batches(texts: Texts) -> Iterator[tuple[int, list[str]]]:
    """Yields (number of the first, texts) of about `_BATCH` characters; one longer text is its own batch."""
    start, size = 0, 0
    batch: list[str] = []
    for number in range(len(texts)):
        batch.append(texts[number])
        size += len(batch[-1])
        if size >= _BATCH:
            yield start, batch
            start, size, batch = number + 1, 0, []
    if batch:
        yield start, batch


class Sketch:
    """MinHash signatures of texts: 128 bytes per text in memory, the texts themselves wherever `texts` keeps them."""

    def __init__(self, texts: Texts):
        self.texts = texts
        self._is_boilerplate = self._boilerplate()  # (2**22,)
        self.signatures = self._signatures()  # (N, 64)

    def __len__(self) -> int:
        return len(self.texts)

    def similarities(self, text: int, others: NDArray[np.integer]) -> NDArray[np.float64]:
        """The Jaccard similarity of a text with each other one, with boilerplate or without, whichever is lower.

        >>> Sketch(["singer", "singers", "Singapore"]).similarities(0, np.array([1, 2]))
        array([0.66666667, 0.        ])
        """
        pieces = shingles(self.texts[text])
        hashes, counts = _hashed([self.texts[int(other)] for other in others])
        owners = np.repeat(np.arange(len(others)), counts)
        order = np.lexsort((hashes, owners))
        hashes, owners = hashes[order], owners[order]
        is_first = (np.diff(hashes, prepend=~hashes[:1]) != 0) | (np.diff(owners, prepend=-1) != 0)
        hashes, owners = hashes[is_first], owners[is_first]
        is_shared = pieces.take(pieces.searchsorted(hashes), mode="clip") == hashes
        is_content = ~self._boilerplate_among(hashes)
        content_size = int((~self._boilerplate_among(pieces)).sum())
        return np.minimum(
            _jaccard(pieces.size, owners, is_shared, len(others)),
            _jaccard(content_size, owners[is_content], is_shared[is_content], len(others)),
        )

    def _boilerplate_among(self, hashes: U64) -> NDArray[np.bool_]:
        return self._is_boilerplate[hashes >> np.uint64(64 - _SLOT_BITS)]

    def _boilerplate(self) -> NDArray[np.bool_]:
        texts_with = np.zeros(1 << _SLOT_BITS, np.uint32)
        for _, batch in _batches(self.texts):
            hashes, counts = _hashed(batch)
            slots = (hashes >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)
            once_per_text = np.unique((np.repeat(np.arange(len(batch)), counts) << _SLOT_BITS) | slots)
            slot, texts = np.unique(once_per_text & ((1 << _SLOT_BITS) - 1), return_counts=True)
            texts_with[slot] += texts.astype(np.uint32)
        return texts_with > max(BOILERPLATE_COUNT, len(self.texts) // BOILERPLATE_SHARE)

    def _signatures(self) -> NDArray[np.uint16]:
        """The MinHash of each text's shingles without boilerplate, or with it where the text is nothing else."""
        signatures = np.empty((len(self.texts), PERMUTATIONS), np.uint16)
        for first, batch in _batches(self.texts):
            hashes, counts = _hashed(batch)
            is_content = ~self._boilerplate_among(hashes)
            content = np.add.reduceat(is_content, _starts(counts), dtype=np.int64)
            is_used = is_content | np.repeat(content == 0, counts)
            hashes, starts = hashes[is_used], _starts(np.where(content == 0, counts, content))
            for number, (a, b) in enumerate(zip(_A, _B, strict=True)):
                minimum = np.minimum.reduceat(hashes * a + b, starts)
                # The highest bits of a minimum are nearly always 0, the lowest of a product not random.
                signatures[first : first + len(batch), number] = _mixed(minimum) >> np.uint64(48)
        return signatures


def _starts(counts: Ints) -> Ints:
    return np.cumsum(counts) - counts


def band_rows(similarity: float) -> int:
    """How many of the 64 minima make one bucket key: the most that still catch 99.9 % of the pairs at `similarity`.

    >>> band_rows(0.8), band_rows(0.9), band_rows(1.0)
    (4, 6, 64)
    """
    missed = {rows: (1 - similarity**rows) ** (PERMUTATIONS // rows) for rows in range(1, PERMUTATIONS + 1)}
    return max(rows for rows, share in missed.items() if share <= 0.001)


class _Buckets:
    """For every text and band, the texts with the same minima in that band and the same `compare_within`."""

    def __init__(self, sketch: Sketch, similarity: float, compare_within: U64):
        rows, size = band_rows(similarity), len(sketch)
        shape = (PERMUTATIONS // rows, size)
        self._order = np.empty(shape, np.int32)  # (bands, N): texts, those of one bucket side by side, by number
        self._place = np.empty(shape, np.int32)  # where in `_order` a text is, and where its bucket starts and stops
        self._start = np.empty(shape, np.int32)
        self._stop = np.empty(shape, np.int32)
        ranks = np.arange(size, dtype=np.int32)
        for band in range(shape[0]):
            keys = compare_within
            for column in range(band * rows, (band + 1) * rows):
                keys = _mixed(keys * _GOLDEN + sketch.signatures[:, column])
            order = np.argsort(keys, kind="stable").astype(np.int32)
            edges = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[:1]])).astype(np.int32)
            sizes = np.diff(edges, append=np.int32(size))
            self._order[band], self._place[band, order] = order, ranks
            self._start[band, order] = np.repeat(edges, sizes)
            self._stop[band, order] = np.repeat(edges + sizes, sizes)

    def with_earlier(self) -> Ints:
        """The texts that share a bucket with one of a lower number."""
        return np.flatnonzero((self._place > self._start).any(axis=0))

    def with_other(self) -> NDArray[np.bool_]:
        """Whether each text shares a bucket with another one."""
        return np.any(self._stop > self._start + 1, axis=0)

    def earlier(self, text: int) -> NDArray[np.int32]:
        return self._between(self._start[:, text], self._place[:, text])

    def others(self, text: int) -> NDArray[np.int32]:
        return self._between(self._start[:, text], self._stop[:, text])

    def _between(self, starts: NDArray[np.int32], stops: NDArray[np.int32]) -> NDArray[np.int32]:
        runs = [o[a:b] for o, a, b in zip(self._order, starts.tolist(), stops.tolist(), strict=True) if a < b]
        return np.unique(np.concatenate(runs)) if runs else np.empty(0, np.int32)


def _verified(sketch: Sketch, text: int, candidates: NDArray[np.int32], threshold: float) -> list[SimilarPair]:
    """The candidates that are at least as similar as the threshold, the most similar first.

    Only candidates within four standard deviations of the estimate are read, and of those the best 32: a text that
    thousands of others resemble does not cost thousands of comparisons.
    """
    equal = np.count_nonzero(sketch.signatures[candidates] == sketch.signatures[text], axis=1)
    lowest = PERMUTATIONS * threshold - 4 * math.sqrt(PERMUTATIONS * threshold * (1 - threshold))
    likely = np.flatnonzero(equal >= lowest)
    likely = likely[np.argsort(-equal[likely], kind="stable")[:_VERIFIED]]
    if not likely.size:
        return []
    others = candidates[likely]
    similarities = sketch.similarities(text, others)
    order = np.argsort(-similarities, kind="stable")
    return [SimilarPair(text, int(others[i]), float(similarities[i])) for i in order if similarities[i] >= threshold]


def near_duplicates(sketch: Sketch, threshold: float, compare_within: U64) -> list[SimilarPair]:
    """Every text that nearly repeats an earlier text which stays, with that text and their similarity.

    Texts are compared only where `compare_within` (N,) is equal. Equal texts are left to the caller.
    """
    buckets = _Buckets(sketch, threshold, compare_within)
    is_kept = np.ones(len(sketch), bool)
    pairs = []
    for text in buckets.with_earlier().tolist():
        candidates = buckets.earlier(text)
        for near in _verified(sketch, text, candidates[is_kept[candidates]], threshold):
            if near.similarity < 1.0 or sketch.texts[text] != sketch.texts[near.other]:
                is_kept[text] = False
                pairs.append(near)
                break
    return pairs


def leaks(sketch: Sketch, threshold: float, compare_within: U64, parts: NDArray[np.int8]) -> Iterator[SimilarPair]:
    """Yields, for every text, the most similar one of each part before its own, from the threshold on.

    `parts` (N,) is the part of the split that a text is in, 0 for training; texts of part -1 are left out.
    """
    buckets = _Buckets(sketch, threshold, compare_within)
    for text in np.flatnonzero((parts > 0) & buckets.with_other()).tolist():
        candidates = buckets.others(text)
        for part in range(parts[text]):
            yield from _verified(sketch, text, candidates[parts[candidates] == part], threshold)[:1]
