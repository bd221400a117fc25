"""A JSON array, streamed: what json.loads gives, in pieces of any size, and no more of a broken one."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.row_files import OBJECTS, TEXT, VALUES
from gemtune.data.json_rows import json_rows
from gemtune.errors import DataError

LAYOUT = {"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 0, 1, "\t"])}


@settings(deadline=None)  # the machine may be busy
@given(OBJECTS, st.fixed_dictionaries(LAYOUT), st.integers(1, 9))
@example([{"a": 12.5e30}, {"a": "\ud83d\ude00"}], {"ensure_ascii": True, "indent": None}, 1)
def test_a_json_array_streams_to_what_json_loads_gives(rows: Any, layout: dict[str, Any], chunk: int) -> None:
    text = json.dumps(rows, **layout)
    assert list(json_rows(io.StringIO(text), "x.json", chunk=chunk)) == list(enumerate(json.loads(text), 1))


@settings(deadline=None)  # the machine may be busy
@given(OBJECTS, st.dictionaries(TEXT, VALUES.filter(lambda value: not isinstance(value, list))), st.integers(1, 9))
def test_an_array_in_an_object_streams_too(rows: Any, others: dict[str, Any], chunk: int) -> None:
    text = json.dumps({**others, "rows": rows, **{key + "!": value for key, value in others.items() if key != "rows"}})
    if isinstance(json.loads(text)["rows"], list):
        assert [row for _, row in json_rows(io.StringIO(text), "x.json", chunk=chunk)] == rows


@settings(deadline=None)  # the machine may be busy
@given(OBJECTS, st.data(), st.integers(1, 9))
def test_an_array_cut_anywhere_is_refused(rows: Any, data: st.DataObject, chunk: int) -> None:
    text = json.dumps(rows)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(DataError, match=r"x\.json:1: "):
        list(json_rows(io.StringIO(cut), "x.json", chunk=chunk))


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.sampled_from('[]{},:"\\u0dean1.-e \n')), st.integers(1, 9))
def test_json_streams_just_what_json_loads_takes(text: str, chunk: int) -> None:
    try:
        expected = json.loads(text)
    except json.JSONDecodeError:
        expected = None
    try:
        found = [row for _, row in json_rows(io.StringIO(text), "x.json", chunk=chunk)]
    except DataError:
        assert not (isinstance(expected, list) and all(isinstance(row, dict) for row in expected))
    else:
        assert isinstance(expected, dict) or found == [
            row if isinstance(row, dict) else {str(at): value for at, value in enumerate(row)} for row in expected
        ]


def test_an_early_error_in_a_large_array_is_found_early() -> None:
    text = io.StringIO('[{"a": 1}, {"a": oops}, ' + '{"a": "b"}, ' * 100_000)
    with pytest.raises(DataError, match=r"x\.json:1: broken JSON \(expecting value at column 18\); mend it there"):
        list(json_rows(text, "x.json", chunk=64))
    assert text.tell() < 1000
