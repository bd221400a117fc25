"""Near duplicates against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemtune.preparation.near_duplicates import PERMUTATIONS, Sketch, band_rows, leaks, near_duplicates, shingles

WORDS = ["where", "is", "the", "nearest", "station", "please", "tell", "me", "a", "joke", "about", "cats", "Über", "🏊"]


def pieces(text: str) -> set[str]:
    """The reference: the different 5-character pieces, spelled out."""
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def reference(a: str, b: str) -> float:
    return len(pieces(a) & pieces(b)) / len(pieces(a) | pieces(b))


def anywhere(count: int) -> np.ndarray:
    return np.zeros(count, np.uint64)


@st.composite
def close_texts(draw: st.DrawFn) -> list[str]:
    """A few sentences and copies of them with some characters changed; different from one another."""
    texts = []
    for _ in range(draw(st.integers(1, 3))):
        base = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30)))
        texts.append(base)
        for _ in range(draw(st.integers(0, 2))):
            copy = list(base)
            for place in draw(st.lists(st.integers(0, len(base) - 1), max_size=4)):
                copy[place] = draw(st.sampled_from("xyz "))
            texts.append("".join(copy))
    return list(dict.fromkeys(texts))


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_similarities_are_the_exact_jaccard_similarities(texts: list[str]) -> None:
    texts = [text.replace("\0", "") for text in texts]  # shorter texts are filled up with it
    found = Sketch(texts).similarities(0, np.arange(len(texts)))
    assert found == pytest.approx([reference(texts[0], text) for text in texts])


@given(st.text(alphabet=st.characters(exclude_characters="\0"), max_size=60))
def test_a_shingle_is_one_different_piece(text: str) -> None:
    assert len(shingles(text)) == len(pieces(text))


@settings(max_examples=300, deadline=None)
@given(close_texts(), st.sampled_from([0.6, 0.8, 0.9, 1.0]))
def test_what_is_removed_is_near_to_a_kept_one_and_nothing_near_is_kept(texts: list[str], threshold: float) -> None:
    found = near_duplicates(Sketch(texts), threshold, anywhere(len(texts)))
    removed = {near.text for near in found}
    for near in found:
        assert near.other < near.text and near.other not in removed
        assert near.similarity == pytest.approx(reference(texts[near.text], texts[near.other]))
        assert near.similarity >= threshold
    kept = [i for i in range(len(texts)) if i not in removed]
    missed = [(i, j) for i in kept for j in kept if i < j and reference(texts[i], texts[j]) >= threshold + 0.05]
    assert not missed


@settings(max_examples=150, deadline=None)
@given(close_texts(), st.data())
def test_leaks_are_the_closest_of_each_part_before(texts: list[str], data: st.DataObject) -> None:
    parts = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=len(texts), max_size=len(texts))), np.int8)
    found = {
        (near.text, int(parts[near.other])): near for near in leaks(Sketch(texts), 0.8, anywhere(len(texts)), parts)
    }
    for i in range(len(texts)):
        for part in range(3):
            others = [reference(texts[i], texts[j]) for j in range(len(texts)) if parts[j] == part]
            closest = max(others, default=0.0)
            if part < parts[i] and closest >= 0.85:
                assert found[i, part].similarity == pytest.approx(closest)
            elif part >= parts[i] or closest < 0.8:
                assert (i, part) not in found


def test_the_estimate_is_unbiased_and_as_wide_as_the_binomial() -> None:
    generator = np.random.default_rng(1)
    errors = []
    for _ in range(300):
        codes = generator.integers(97, 110, 150)
        other = codes.copy()
        other[generator.integers(0, 150, 6)] = 120
        sketch = Sketch(["".join(map(chr, codes)), "".join(map(chr, other))])
        estimate = (sketch.signatures[0] == sketch.signatures[1]).mean()
        errors.append(estimate - sketch.similarities(0, np.array([1]))[0])
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 1.2 * 0.5 / np.sqrt(PERMUTATIONS)


@pytest.mark.parametrize("similarity", [0.51, 0.6, 0.75, 0.8, 0.9, 0.95, 0.99])
def test_bands_catch_a_pair_at_the_threshold(similarity: float) -> None:
    rows = band_rows(similarity)
    assert (1 - similarity**rows) ** (PERMUTATIONS // rows) <= 0.001


def test_texts_behind_different_fences_are_not_compared() -> None:
    texts = ["How many singers are there in the database?", "How many singers are there in the database??"]
    assert len(near_duplicates(Sketch(texts), 0.9, anywhere(2))) == 1
    assert not near_duplicates(Sketch(texts), 0.9, np.array([1, 2], np.uint64))


def test_equal_texts_are_left_to_the_caller() -> None:
    assert not near_duplicates(Sketch(["the very same question"] * 3), 0.9, anywhere(3))


def test_short_reviews_behind_one_long_instruction_are_not_copies() -> None:
    instruction = (
        "Classify the sentiment of this customer review as positive, neutral or negative. Answer with exactly a word, "
        "in lower case, without any punctuation; when in doubt choose the milder of two labels, and never explain why. "
    )
    reviews = [
        "good",
        "terrible food",
        "I loved it",
        "never again",
        "meh",
        "what a surprise",
        "cold soup",
        "warm welcome",
    ]
    texts = [instruction + review for review in [*reviews, *(f"{review} today" for review in reviews)]]
    copy = instruction + "what a surprise!"
    found = near_duplicates(Sketch([*texts, copy]), 0.8, anywhere(len(texts) + 1))
    assert reference(texts[0], texts[1]) > 0.9
    assert [(near.text, near.other) for near in found] == [(len(texts), texts.index(copy[:-1]))]


def test_nothing_is_found_among_no_texts() -> None:
    assert near_duplicates(Sketch([]), 0.9, anywhere(0)) == []
    assert list(leaks(Sketch([]), 0.8, anywhere(0), np.empty(0, np.int8))) == []
