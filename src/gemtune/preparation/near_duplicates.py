"""Near duplicates: questions that share most letters are read, word by word; what tells them apart decides.

What they share with many others says nothing. Two questions are nearly the same when slips of the pen alone tell them
apart, and the more a slip could be another word, the more must speak for a copy: an answer, or words that few have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from gemtune.preparation.candidates import candidates
from gemtune.preparation.row_store import RowStore
from gemtune.preparation.scratch import Mask, numbers_of, repeats, without
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

    def __init__(self, store: RowStore, rows: Mask, threshold: float):
        self._store = store
        self.hashes = store.hashes("question")  # of every row
        self.repeats = repeats(lambda part: self.hashes[part], rows, store.folder)  # rows and the first with a question
        self.firsts = without(rows, self.repeats[0])  # one row of each question
        pairs = self._pairs(rows, threshold)
        doubtful = [pair for pair in pairs if pair.likeness.slips]
        counts = self._counts(doubtful) if doubtful else Counter()
        slips = Counter(word for pair in doubtful for slip in pair.likeness.slips for word in (slip.word, slip.other))
        self.near = [
            NearPair(int(self.hashes[pair.row]), int(self.hashes[pair.other]), pair.likeness.similarity)
            for pair in pairs
            if _is_copy(pair, counts, slips)
        ]

    def _pairs(self, rows: Mask, threshold: float) -> list[_Pair]:
        store, answers = self._store, self._store.hashes("answer")
        alike = []
        for row, other in candidates(store.keys(), store.hashes("scope"), self.firsts, store.folder):
            found = likeness(store.question(row), store.question(other))
            if found and found.similarity >= threshold:
                alike.append((row, other, found))
        shared = {int(answers[row]) for row, other, _ in alike if answers[row] == answers[other]}
        asked = Counter[int]()  # rows that have an answer
        for _, values in store.rows_with("answer", shared, rows):
            asked.update(values.tolist())
        return [
            _Pair(row, other, found, answers[row] == answers[other] and self._is_rare(row, asked))
            for row, other, found in alike
        ]

    def _is_rare(self, row: int, asked: Counter[int]) -> bool:
        """Whether few rows have the answer of a row, and it says more than yes or no."""
        if asked[int(self._store.hashes("answer")[row])] > RARE_ANSWER:
            return False
        text = fold(self._store.answer(row))
        return " " in text or len(text) >= 10

    def _counts(self, pairs: Iterable[_Pair]) -> Counter[object]:
        """In how many questions, or in a sample of many, the words of slips and the shared pairs of words occur."""
        compared: set[object] = {part for pair in pairs for part in pair.likeness.shared}
        compared |= {word for pair in pairs for slip in pair.likeness.slips for word in (slip.word, slip.other)}
        counts: Counter[object] = Counter()
        step = 1 + int(np.count_nonzero(self.firsts)) // SAMPLED
        for row in islice(numbers_of(self.firsts), 0, None, step):
            words = fold(self._store.question(row)).split()
            counts.update(compared & {*words, *pairwise(words)})
        return counts

    def rows_of(self, rows: Mask, questions: set[int]) -> dict[int, list[int]]:
        """Question -> those of some rows that ask it, for some questions."""
        rows_of: dict[int, list[int]] = defaultdict(list)
        for numbers, asked in self._store.rows_with("question", questions, rows):
            for row, question in zip(numbers.tolist(), asked.tolist(), strict=True):
                rows_of[question].append(row)
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
