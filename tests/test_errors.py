"""Errors: one line whatever they quote, one tree, and the words that several of them share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gemtune.errors
from gemtune.errors import GemtuneError, MissingExtra, did_you_mean, json_visible, listed, nearest, shown, visible

ANY = st.text(st.characters(codec=None))  # half surrogate pairs, too
ACTS = set(map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]))


@given(ANY)
def test_an_error_is_one_line_that_a_terminal_may_have(text: str) -> None:
    line = str(GemtuneError(text))
    assert not ACTS & set(line)
    line.encode("utf-8")


@given(ANY)
def test_a_visible_text_keeps_lines_and_does_not_act(text: str) -> None:
    assert not (ACTS - {"\n", "\t"}) & set(visible(text))


@given(st.dictionaries(st.text(), st.text() | st.integers()))
def test_visible_json_is_the_same_json(value: dict[str, object]) -> None:
    text = json_visible(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value and not ACTS & set(text)


@given(ANY | st.integers() | st.lists(ANY), st.integers(1, 50))
def test_a_value_is_quoted_within_a_length(value: object, most: int) -> None:
    assert len(shown(value, most)) <= most + 1


def test_every_error_of_gemtune_is_of_one_tree() -> None:
    kinds = [kind for kind in vars(gemtune.errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 5 and all(issubclass(kind, GemtuneError) for kind in kinds)


def test_a_missing_extra_names_the_line_that_installs_it() -> None:
    assert str(MissingExtra("reading a Hub data set", "hub")).endswith("pip install 'gemtune[hub]'")


@pytest.mark.parametrize(("name", "near"), [("emojis", "emoji"), ("tetx", "text"), ("EMOJI", "emoji"), ("sql", None)])
def test_the_nearest_name_is_one_that_was_meant(name: str, near: str | None) -> None:
    assert nearest(name, ["text", "emoji"]) == near
    assert ("did you mean" in did_you_mean(name, ["text", "emoji"], "mend it")) == (near is not None)


def test_a_long_list_ends_with_how_many_more() -> None:
    names = [f"n{number}" for number in range(30)]
    assert listed(names[:3]) == "n0, n1, n2"
    assert listed(names, most=2).startswith("n0, n1") and "28" in listed(names, most=2)
