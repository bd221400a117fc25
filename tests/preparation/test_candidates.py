"""Candidates: every pair with one slip is among them, and of thousands alike few are compared."""

from __future__ import annotations

import random
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gemtune.preparation.candidates import COMPARED, candidates
from gemtune.preparation.wording import PARTS, fold, keys
from preparation.prepared_rows import WORDS, misspelt


def columns(texts: list[str]) -> np.ndarray:
    return np.array([keys(fold(text)) for text in texts], np.uint32).reshape(len(texts), PARTS + 1).T


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=4, max_size=12, unique=True), st.randoms(use_true_random=False))
def test_every_question_with_one_slip_is_a_candidate(words: list[str], draw: random.Random) -> None:
    text = "x " + " ".join(words)
    texts = [*{text: None, **{misspelt(draw, text): None for _ in range(3)}}]
    pairs = [*candidates(columns(texts), np.zeros(len(texts), np.uint64))]
    assert len(pairs) == len({*pairs})
    assert {(later, 0) for later in range(1, len(texts))} <= {*pairs}


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), max_size=30), st.integers(1, 3))
def test_candidates_are_pairs_of_one_scope_and_few(texts: list[str], scopes: int) -> None:
    scope = np.arange(len(texts), dtype=np.uint64) % np.uint64(scopes)
    pairs = [*candidates(columns(texts), scope)]
    assert all(later > earlier and scope[later] == scope[earlier] for later, earlier in pairs)
    assert max([sum(pair[0] == number for pair in pairs) for number in range(len(texts))], default=0) <= COMPARED


def test_thousands_alike_are_compared_with_few() -> None:
    texts = [f"the same long sentence in every row {a}{b}{c}" for a, b, c in combinations("abcdefghijklmnopqrst", 3)]
    assert len([*candidates(columns(texts), np.zeros(len(texts), np.uint64))]) <= COMPARED * len(texts)
