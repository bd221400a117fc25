"""How well a page was read: error rates, words in any order, statements without a source, loops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from gemtune.metrics.arabic import fold
from gemtune.metrics.reading import (
    Sources,
    character_edits,
    is_loop,
    repeats_at_end,
    statements,
    word_bag_f1,
    word_edits,
)

PAGE = (
    "يسر الشركة أن تدعوكم إلى الاجتماع السنوي. يعقد الاجتماع في القاهرة يوم الأحد.\n"
    "The annual meeting of the company is held in Cairo on Sunday at ten."
)


def test_white_space_does_not_count_as_words() -> None:
    assert word_edits("a\nb\u00a0c", "a b c").rate == 0.0, "jiwer says 1.0"


@given(st.text(max_size=30), st.text(max_size=30))
def test_edits_are_those_of_the_reference_implementation(reply: str, truth: str) -> None:
    assert character_edits(reply, truth).edits == Levenshtein.distance(reply, truth)
    assert word_bag_f1(reply, truth) == word_bag_f1(truth, reply)


def test_an_error_rate_can_pass_one() -> None:
    assert character_edits("a" * 50, "b" * 10).rate == 5.0


def test_a_page_read_in_another_order_keeps_its_words() -> None:
    lines = fold(PAGE).split()
    assert word_bag_f1(" ".join(reversed(lines)), " ".join(lines)) == 1.0


def unsupported(reply: str, *known: str) -> list[str]:
    sources = Sources(known)
    return [statement for statement in statements(reply) if not sources.support(statement)]


def test_what_the_page_says_is_supported_also_when_read_badly() -> None:
    assert unsupported(PAGE, PAGE) == []
    assert unsupported("The annua1 rneeting of the cornpany is held in Ca1ro on Sunday.", PAGE) == []
    assert unsupported("يَسُرّ الشركه ان تدعوكم الي الاجتماع السنوى", PAGE) == []


def test_what_no_source_says_is_not() -> None:
    made_up = "Sun Tzu said that all warfare is based on deception"
    assert unsupported(f"{PAGE} {made_up}.", PAGE) == [made_up]
    assert unsupported("تقع المدينة على ساحل البحر الأحمر وتشتهر بالصيد", PAGE) != []
    assert unsupported("Something on a blank page", "") != []


def test_each_source_counts() -> None:
    assert (
        unsupported(
            "The annual meeting. تدعوكم إلى الاجتماع السنوي", "the annual meeting", "تدعوكم الى الاجتماع السنوى"
        )
        == []
    )


@pytest.mark.parametrize(
    "text",
    ["كلمة " * 60, "ـ" * 300, "| 0 " * 80, "x" * 20_000, PAGE + " and so on and on" * 20],
)
def test_a_reply_that_is_stuck(text: str) -> None:
    assert is_loop(text)


@pytest.mark.parametrize(
    "text",
    ["", PAGE, "no no no no", "Name: " + "." * 400, "| 0 | 0 | 0 | 0 |", "\n" * 5_000, "-" * 300],
)
def test_a_page_that_repeats_itself_is_not(text: str) -> None:
    assert not is_loop(text)


def test_the_unit_that_covers_most_is_the_one_named() -> None:
    assert repeats_at_end("a" + "ab" * 5)[1] == 5
