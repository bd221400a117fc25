"""Wordings: how alike two questions are, and what they differ in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemtune.preparation.wording import Wording, fold, likeness
from preparation.prepared_rows import WORDS


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from(["market", "17", "Rome"]))
def test_what_two_long_texts_differ_in_is_found_wherever_it_is(before: int, after: int, word: str) -> None:
    ahead, behind = "some words " * before, " other words" * after
    alike = likeness(f"{ahead}{word}{behind}", f"{ahead}makret{behind}")
    assert (alike is not None and bool(alike.slips)) == (word == "market")


@given(st.text(max_size=40))
def test_a_question_is_like_itself_and_its_words_are_those_of_its_hash(text: str) -> None:
    words = Wording(text).words
    assert sorted(" ".join(words)) == sorted(fold(text)) or not text.isascii()
    same = likeness(text, f"  {text.upper().lower()}\n" if text.isascii() else text)
    assert same and same.similarity == 1.0


@given(st.lists(st.sampled_from([*WORDS, "Paris", "17", "3.5", "+", "不", "لا"]), min_size=1, max_size=9), st.data())
def test_a_word_more_is_never_a_copy(words: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(words)))
    more = [
        *words[:place],
        data.draw(st.sampled_from(["not", "no", "never", "7", "-7", "不", "لا", "Rome"])),
        *words[place:],
    ]
    assert likeness(" ".join(words), " ".join(more)) is None
