"""Near duplicates: questions that share most letters are read, word by word; what tells them apart decides.

What they share with many others says nothing. Two questions are nearly the same when slips of the pen alone tell them
apart, and the more a slip could be another word, the more must speak for a copy: an answer, or words that few have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gemtune.preparation.candidates import candidates
from gemtune.preparation.row_store import Numbers, RowStore
from gemtune.preparation.wording import Likeness, Slip, fold, likeness

RARE_ANSWER = 8  # rows that have an answer; up to so many it speaks for a copy
RARE_WORDS = 4  # questions that have two words side by side; up to so many they speak for a copy ...
SOME, ENOUGH = 2, 6  # ... where there are so many such pairs: for two letters that changed places, and for other slips
KNOWN = 3  # questions that have a word, from which on it may be more than a slip
SAMPLED = 10_000  # questions whose words are counted


@dataclass(frozen=True)
class NearPair:
    """Two questions by their hash, and how similar they are."""

    question: int
    other: int
    similarity: float


@dataclass(frozen=True)
class _Pair:
    """Two rows whose questions are alike, with what speaks for a copy."""

    row: int
    other: int
    likeness: Likeness
    share_answer: bool


class Questions:
    """The different questions of some rows, and the pairs of them that are nearly the same."""

    def __init__(self, store: RowStore, rows: Numbers, threshold: float):
        self._store = store
        self.hashes = store.hashes("question")  # of every row
        self.firsts = rows[np.sort(np.unique(self.hashes[rows], return_index=True)[1])]  # one row of each question
        self._answers = np.sort(store.hashes("answer")[rows])
        pairs = self._pairs(threshold)
        doubtful = [pair for pair in pairs if pair.likeness.slips]
        counts = self._counts(doubtful) if doubtful else Counter()
        slips = Counter(word for pair in doubtful for slip in pair.likeness.slips for word in (slip.word, slip.other))
        self.near = [
            NearPair(int(self.hashes[pair.row]), int(self.hashes[pair.other]), pair.likeness.similarity)
            for pair in pairs
            if _is_copy(pair, counts, slips)
        ]

    def _pairs(self, threshold: float) -> list[_Pair]:
        keys, scopes = self._store.keys(self.firsts), self._store.hashes("scope")[self.firsts]
        pairs = []
        for later, earlier in candidates(keys, scopes):
            row, other = int(self.firsts[later]), int(self.firsts[earlier])
            alike = likeness(self._store.question(row), self._store.question(other))
            if alike and alike.similarity >= threshold:
                pairs.append(_Pair(row, other, alike, self._share_rare_answer(row, other)))
        return pairs

    def _share_rare_answer(self, row: int, other: int) -> bool:
        """Whether two rows have one answer that few others have, and that says more than yes or no."""
        answer, same = self._store.hashes("answer")[[row, other]]
        first, stop = (int(self._answers.searchsorted(answer, side)) for side in ("left", "right"))
        if answer != same or stop - first > RARE_ANSWER:
            return False
        text = fold(self._store.answer(row))
        return " " in text or len(text) >= 10

    def _counts(self, pairs: Iterable[_Pair]) -> Counter[object]:
        """In how many questions, or in a sample of many, the words of slips and the shared pairs of words occur."""
        compared: set[object] = {part for pair in pairs for part in pair.likeness.shared}
        compared |= {word for pair in pairs for slip in pair.likeness.slips for word in (slip.word, slip.other)}
        counts: Counter[object] = Counter()
        for row in self.firsts[:: 1 + len(self.firsts) // SAMPLED].tolist():
            words = fold(self._store.question(row)).split()
            counts.update(compared & {*words, *pairwise(words)})
        return counts

    def rows_of(self, rows: Numbers, questions: set[int]) -> dict[int, list[int]]:
        """Question -> those of some rows that ask it, for some questions."""
        rows_of: dict[int, list[int]] = defaultdict(list)
        hashes = np.fromiter(questions, np.uint64, len(questions))
        for row in rows[np.isin(self.hashes[rows], hashes)].tolist():
            rows_of[int(self.hashes[row])].append(row)
        return rows_of

    def neighbours(self) -> dict[int, list[NearPair]]:
        """Question -> the pairs that it is in, with itself in front."""
        pairs: dict[int, list[NearPair]] = defaultdict(list)
        for pair in self.near:
            pairs[pair.question].append(pair)
            pairs[pair.other].append(NearPair(pair.other, pair.question, pair.similarity))
        return pairs


def _is_copy(pair: _Pair, counts: Counter[object], slips: Counter[str]) -> bool:
    if not pair.likeness.slips:
        return True
    rare = sum(counts[part] <= RARE_WORDS for part in pair.likeness.shared)
    is_sure = pair.share_answer or rare >= ENOUGH
    return all(_is_slip(slip, is_sure, rare >= SOME, counts, slips) for slip in pair.likeness.slips)


def _is_slip(slip: Slip, is_sure: bool, is_likely: bool, counts: Counter[object], slips: Counter[str]) -> bool:
    """Whether a word is only misspelt; one that occurs often, and not as a slip, is another word."""
    rare, usual = sorted((slip.word, slip.other), key=lambda word: counts[word])
    is_word = counts[rare] >= KNOWN and (counts[rare] * 4 >= counts[usual] or counts[rare] - slips[rare] >= 2)
    is_known = counts[usual] >= KNOWN + 2 and counts[rare] < KNOWN
    if is_word or slip.kind == "swapped":
        return not is_word and (is_sure or is_likely)
    return is_sure and (is_known or (slip.kind == "typed" and not slip.begins))
