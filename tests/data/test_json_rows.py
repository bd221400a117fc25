"""JSON as programs write tables: lists, columns and keys of rows are the same rows."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.row_files import ROWS, file, rows_of
from gemtune.data.columns import check_columns
from gemtune.data.sources import read_rows
from gemtune.errors import DataError
from gemtune.recipe.schema import DataSource

FRAME = pd.DataFrame(ROWS)


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table", "records"])
def test_a_table_of_named_rows_is_told_from_its_transpose(tmp_path: Path, orient: Any) -> None:
    frame = pd.concat([FRAME] * 3, ignore_index=True).set_index(pd.Index(list("abcdef")))
    rows = rows_of(file(tmp_path / "x.json", frame.to_json(orient=orient)))
    assert [{key: row[key] for key in ROWS[0]} for row in rows] == ROWS * 3


def test_values_without_columns_are_called_by_number(tmp_path: Path) -> None:
    path = file(tmp_path / "x.json", FRAME.to_json(orient="values"))
    with pytest.raises(DataError) as error:
        check_columns(rows_of(path)[0], ["text", "emoji"], "x.json[1]")
    assert "set data.columns: {text: " in str(error.value)
    assert rows_of(path, columns={"text": "0", "emoji": "1"}) == ROWS


def test_many_rows_under_keys_stream(tmp_path: Path) -> None:
    path = file(tmp_path / "x.json", json.dumps({f"q{n}": {"text": "x" * 2000, "n": n} for n in range(20_000)}))
    tracemalloc.start()
    numbers = [row["n"] for _, row in read_rows(DataSource(source=str(path)))]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert numbers == list(range(20_000))
    assert peak < 12e6 < path.stat().st_size
