"""Cells: what is empty, what is packed in a text, and what is true."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.data.cells import Unreadable, is_empty, kind_of, truth, unpacked

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
LISTS = st.lists(JSON, max_size=3) | st.dictionaries(st.text(), JSON, max_size=3)


@given(LISTS)
def test_what_json_or_python_packed_is_unpacked(value: object) -> None:
    assert unpacked(json.dumps(value)) == value
    assert unpacked(repr(value)) == value
    assert unpacked(value) is value


@given(st.text())
def test_a_text_that_packs_nothing_stays(text: str) -> None:
    value = unpacked(text)
    assert value == text or isinstance(value, list | dict)


@pytest.mark.parametrize("value", [None, "", " \n", [], {}, math.nan])
def test_what_says_nothing_is_empty(value: object) -> None:
    assert is_empty(value)


@pytest.mark.parametrize("value", [0, 0.0, False, "0", "None", [None]])
def test_what_says_something_is_not_empty(value: object) -> None:
    assert not is_empty(value)


TRUTHS: dict[bool | None, tuple[object, ...]] = {
    True: (True, 1, 1.0, "true", "True", "1", "yes"),
    False: (False, 0, 0.0, "false", "0", "no"),
    None: (2, -1, 0.5, "maybe", [], {}, math.nan),
}


@pytest.mark.parametrize("wanted", TRUTHS)
def test_what_is_true_false_or_neither(wanted: bool | None) -> None:
    assert [truth(value) for value in TRUTHS[wanted]] == [wanted] * len(TRUTHS[wanted])


def test_kinds_are_called_as_json_calls_them() -> None:
    values = {"a string": "a", "a number": 1.5, "true or false": True, "null": None, "an array": [], "an object": {}}
    assert {kind_of(value): value for value in values.values()} == values
    assert kind_of(Unreadable("in two columns of that name")) == "in two columns of that name"
    assert "bytes" in kind_of(b"a")
