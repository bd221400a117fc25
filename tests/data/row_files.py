"""Files of every format with the same rows, and what is read of one or said where it cannot be."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import strategies as st

from gemtune.data.sources import read_rows
from gemtune.errors import DataError, GemtuneError
from gemtune.recipe.schema import DataSource

ROWS = [{"text": "hi, there", "emoji": "👋"}, {"text": 'two\n"lines"', "emoji": "🏊‍♀️"}]


def source(path: Path | str, **options: Any) -> DataSource:
    return DataSource(source=str(path), **options)


def read(path: Path | str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    return list(read_rows(source(path, **options)))


def rows_of(path: Path | str, **options: Any) -> list[dict[str, Any]]:
    """The rows of a source without their places."""
    return [row for _, row in read(path, **options)]


def refused(path: Path | str, **options: Any) -> str:
    """The one line that is said of a source that cannot be read."""
    with pytest.raises(GemtuneError) as error:
        read(path, **options)
    assert type(error.value) is DataError
    assert "\n" not in str(error.value)
    return str(error.value)


def file(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def as_arrow(rows: list[dict[str, Any]]) -> bytes:
    table = pyarrow.Table.from_pylist(rows)
    out = io.BytesIO()
    with pyarrow.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return out.getvalue()


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


OBJECTS = st.lists(st.dictionaries(TEXT, VALUES, max_size=4), max_size=5)


class Hub:
    """A fake of datasets.load_dataset that remembers how it was called."""

    def __init__(self, rows: list[dict[str, Any]], error: Exception | None = None):
        self.rows, self.error = rows, error
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        self.calls.append((args, kwargs))
        yield from self.rows
        if self.error:
            raise self.error
