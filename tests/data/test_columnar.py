"""Parquet and Arrow: values that Python has none for cost nobody a row who did not ask for them."""

from __future__ import annotations

import datetime
import decimal
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from data.row_files import file, refused, rows_of, source
from gemtune.data.cells import Unreadable
from gemtune.data.sources import read_rows
from gemtune.errors import DataError
from gemtune.recipe.schema import DataSource

TEXTS = {"text": ["a", "b"], "emoji": ["x", "y"]}


ODD = Unreadable("of type string, and not to be read")
TWICE = Unreadable("in two columns of that name")
COLUMNS: dict[str, tuple[Any, list[Any]]] = {  # what -> a column, its values as read
    "a day after 9999": (pa.array([3_000_000, 1], pa.date32()), ["10183-09-21", datetime.date(1970, 1, 2)]),
    "a time after 9999": (pa.array([2**58, None], pa.timestamp("us", "UTC")), ["11103-08-29 17:22:31.711744Z", None]),
    "decimals": (pa.array([decimal.Decimal("1.50"), None]), [decimal.Decimal("1.50"), None]),
    "a long time": (pa.array([2**62, 1], pa.duration("s")), [str(2**62), datetime.timedelta(seconds=1)]),
    "days in objects": (
        pa.array([[{"d": 3_000_000}], None], pa.list_(pa.struct([("d", pa.date32())]))),
        [[{"d": "10183-09-21"}], None],
    ),
    "a field twice": (
        pa.StructArray.from_arrays([pa.array([1, 2]), pa.array(["p", "q"]), pa.array([3, 4])], names=["n", "t", "n"]),
        [{"n": TWICE, "t": "p"}, {"n": TWICE, "t": "q"}],
    ),
    "no UTF-8": (pa.array([b"\xff", b"a"]).view(pa.string()), [ODD, "a"]),
    "a dictionary": (pa.array(["p", "q"]).dictionary_encode(), ["p", "q"]),
    "a map": (pa.array([[("k", 1), ("k", 2)], []], pa.map_(pa.string(), pa.int64())), [[("k", 1), ("k", 2)], []]),
    "bytes": (pa.array([b"\0\xff", None]), [b"\0\xff", None]),
    "nothing": (pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize("what", COLUMNS)
@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
def test_any_column_is_read_beside_those_that_are_asked_for(tmp_path: Path, what: str, suffix: str) -> None:
    if what == "no UTF-8" and suffix != "parquet":
        pytest.skip("an Arrow file is checked whole, for its offsets may lead anywhere")
    column, values = COLUMNS[what]
    table, path = pa.table({**TEXTS, "other": column}), tmp_path / f"x.{suffix}"
    if suffix == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif suffix == "feather":
        pyarrow.feather.write_feather(table, path)
    else:
        with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table, max_chunksize=1)
    rows = rows_of(path)
    assert [(row["text"], row["emoji"]) for row in rows] == [("a", "x"), ("b", "y")]
    assert [row["other"] for row in rows] == values


def test_an_unknown_time_zone_is_told_to_those_who_ask(tmp_path: Path) -> None:
    table = pa.table({**TEXTS, "at": pa.array([1, 2], pa.timestamp("us", "Mars/Phobos"))})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    assert [row["text"] for row in rows_of(tmp_path / "x.parquet")] == ["a", "b"]
    with pytest.raises(DataError, match=r"x\.parquet\[1\]: column 'at' is of type timestamp.*Mars/Phobos"):
        rows_of(tmp_path / "x.parquet", columns={"text": "at"})


def test_two_columns_of_a_name_are_told_to_those_who_ask(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a", "b"]), pa.array([1, 2]), pa.array([3, 4])], names=["text", "n", "n"])
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    assert rows_of(tmp_path / "x.parquet") == [{"text": "a", "n": TWICE}, {"text": "b", "n": TWICE}]
    with pytest.raises(DataError, match=r"x\.parquet\[1\]: column 'n' is in two columns of that name; rename"):
        rows_of(tmp_path / "x.parquet", columns={"text": "n"})


def test_nanoseconds_need_no_pandas(tmp_path: Path) -> None:
    table = pa.table(
        {**TEXTS, "at": pa.array([2**60 + 1, 10**18], pa.timestamp("ns")), "for": pa.array([1, 2], pa.duration("ns"))}
    )
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "pandas.py").write_text("raise ImportError('pandas is not installed')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from gemtune.data.sources import read_rows; from gemtune.recipe.schema import DataSource\n"
        "rows = list(read_rows(DataSource(source=sys.argv[1] + '/x.parquet')))\n"
        "print([str(row['at']) for _, row in rows], 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['2006-07-14 23:58:24.606846977', '2001-09-09 01:46:40'] False"


def test_times_of_a_hub_data_set_cost_no_row(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the hub extra is not installed")
    table = pa.table({**TEXTS, "day": pa.array([3_000_000, 1], pa.date32()), "n": [1, None]})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    assert rows_of(tmp_path, format="hub") == [
        {"text": "a", "emoji": "x", "day": "10183-09-21", "n": 1},
        {"text": "b", "emoji": "y", "day": datetime.date(1970, 1, 2), "n": None},
    ]


def test_one_text_that_many_rows_repeat_does_not_fill_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["x" * 1_500_000] * 512}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    held = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() for _ in read_rows(DataSource(source=str(path))))
    assert peak - held < 100e6


def test_a_row_of_parquet_larger_than_any_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["x" * 120_000_000]}), path, compression="zstd")
    with pytest.raises(DataError, match="a row of over 100 million characters"):
        rows_of(path)


def test_a_damaged_page_of_parquet_is_refused(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [f"row {number}" for number in range(10_000)]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet", use_dictionary=False)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[100:20_000] = b"\xff" * 19_900
    assert "x.parquet: " in refused(file(tmp_path / "x.parquet", bytes(data)))


def test_parquet_without_rows_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([], pyarrow.int64())}), tmp_path / "x.parquet")
    assert "x.parquet: no rows in it" in refused(tmp_path / "x.parquet")


def test_one_row_group_of_parquet_does_not_fill_memory(tmp_path: Path) -> None:
    values = pyarrow.array([os.urandom(500).hex() for _ in range(20_000)])
    pyarrow.parquet.write_table(pyarrow.table({"text": values}), tmp_path / "big.parquet", use_dictionary=False)
    held = pyarrow.total_allocated_bytes()
    peak = max(pyarrow.total_allocated_bytes() for _ in read_rows(source(tmp_path / "big.parquet")))
    assert peak - held < 8e6 < values.nbytes
