"""Tables as people and programs write them: what pandas, Excel and databases make of the same two rows."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.row_files import file, refused, rows_of
from gemtune.data.cells import Unreadable
from gemtune.data.columns import check_columns
from gemtune.data.sources import read_rows
from gemtune.errors import DataError, RowError
from gemtune.recipe.schema import DataSource
from gemtune.tasks import text_of

ROWS = [{"text": "hi, there", "emoji": "👋"}, {"text": "two", "emoji": "🏊"}]
FRAME = pd.DataFrame(ROWS)
NAMED = FRAME.set_index(pd.Index(["a", "b"]))


def objects(rows: list[dict[str, Any]], between: str, **options: Any) -> str:
    return between.join(json.dumps(row, **options) for row in rows)


TABLES: dict[str, str | bytes] = {  # file name -> content that holds ROWS
    "pipe.csv": FRAME.to_csv(sep="|", index=False),
    "semicolon.csv": FRAME.to_csv(sep=";", index=False),
    "index.csv": FRAME.to_csv(),
    "index.tsv": FRAME.to_csv(sep="\t"),
    "trailing.csv": 'text,emoji,\n"hi, there",👋,\ntwo,🏊,\n',
    "blanks.csv": '\ufeff text ,\temoji\n"hi, there",👋\ntwo,🏊\n',
    "marks.csv": '\ufeff\ufeff"text","emoji"\n"hi, there",👋\ntwo,🏊\n',
    "excel.csv": "sep=;\r\ntext;emoji\r\nhi, there;👋\r\ntwo;🏊\r\n",
    "cr.csv": 'text,emoji\r"hi, there",👋\rtwo,🏊\r',
    "cr.tsv": "text\temoji\rhi, there\t👋\rtwo\t🏊\r",
    "cr.jsonl": objects(ROWS, "\r"),
    "packed.csv.bz2": bz2.compress(FRAME.to_csv().encode()),
    "packed.jsonl.xz": lzma.compress(objects(ROWS, "\n").encode()),
    "packed.tsv.gz": gzip.compress(FRAME.to_csv(sep="\t").encode()),
    "pretty.jsonl": objects(ROWS, "\n", indent=2),
    "pretty.json": objects(ROWS, "\n", indent=2),
    "first_plain.jsonl": json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1], indent=1) + "\n",
    "one_line.jsonl": objects(ROWS, ""),
    "one_line.json": objects(ROWS, " "),
    "array.jsonl": json.dumps(ROWS),
    "pretty_array.ndjson": json.dumps(ROWS, indent=1),
    "lines.json": FRAME.to_json(orient="records", lines=True),
    "default.json": FRAME.to_json(),
    "list.json": json.dumps(FRAME.to_dict("list")),
    "tight.json": json.dumps(FRAME.to_dict("tight")),
    "beside.json": json.dumps({"tags": ["a"], "rows": ROWS, "more": ["b", "c"]}),
    **{f"{orient}.json": FRAME.to_json(orient=orient) for orient in ("records", "columns", "index", "split", "table")},
    **{f"named_{orient}.json": NAMED.to_json(orient=orient) for orient in ("index", "split", "table")},
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_however_it_is_written(tmp_path: Path, name: str) -> None:
    rows = rows_of(file(tmp_path / name, TABLES[name]))
    assert [{key: row[key] for key in ROWS[0]} for row in rows] == ROWS
    assert {key for row in rows for key in row} <= {"text", "emoji", "index"}  # orient="table" has the index, too


TSV = {  # lines below the header -> the rows
    '"Hello" she said\t👋\nbye\t👋\n': [('"Hello" she said', "👋"), ("bye", "👋")],
    '"Hello\t👋\nbye "now"\t👋\n': [('"Hello', "👋"), ('bye "now"', "👋")],
    '5" nail\t"\nbye\t"\n': [('5" nail', '"'), ("bye", '"')],
    '"Open\t1\nclosed"\t2\n': [('"Open', "1"), ('closed"', "2")],
    '"quoted"\t"a\tb"\n': [("quoted", "a\tb")],
    '"two\nlines"\t👋\n': [("two\nlines", "👋")],
    '"say ""a""\tb\nc"\tx\n': [('say "a"\tb\nc', "x")],
    '""\t"""a"""\n': [("", '"a"')],
    '"never closed\t1\nb\t2\n': [('"never closed', "1"), ("b", "2")],
}


@pytest.mark.parametrize("content", TSV)
def test_quotes_between_tabs(tmp_path: Path, content: str) -> None:
    for ending, name in (("\n", "x.tsv"), ("\r\n", "y.tsv"), ("\n", "tabs.csv")):
        path = file(tmp_path / name, f"text\temoji\n{content}".replace("\n", ending))
        rows = [(str(row["text"]).replace("\r", ""), row["emoji"]) for row in rows_of(path)]
        assert rows == TSV[content]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(TEXT.filter(lambda text: "\n" not in text or "\t" not in text), TEXT), min_size=1))
def test_what_pandas_writes_with_tabs_is_read_back(tmp_path_factory: Any, pairs: list[tuple[str, str]]) -> None:
    frame = pd.DataFrame([{"a": a, "b": b.replace("\n", " ")} for a, b in pairs])
    path = file(tmp_path_factory.getbasetemp() / "pandas.tsv", frame.to_csv(sep="\t", index=False))
    assert rows_of(path) == frame.to_dict("records")


BROKEN: dict[str, tuple[str, list[str], list[str]]] = {  # file name -> content, the values of `a` kept, places dropped
    "count.csv": ("a,b\n1,2\n1,2,3\n4\n5,6\n", ["1", "5"], ["count.csv:3", "count.csv:4"]),
    "quote.csv": ('a,b\n1,2\n"x"y,2\n5,6\n', ["1", "5"], ["quote.csv:3"]),
    "open.csv": ('a,b\n1,2\n"x,2\n5,6\n7,8\n', ["1", "5", "7"], ["open.csv:3"]),
    "inside.csv": ('a,b\n1,2\n"x,2\n5,6\n"7"z,8\n9,9\n', ["1", "5", "9"], ["inside.csv:3", "inside.csv:5"]),
    "nul.csv": ("a,b\n1,2\nx\0,2\n5,6\n", ["1", "5"], ["nul.csv:3"]),
    "nul.tsv": ("a\tb\n1\t2\nx\0\t2\n5\t6\n", ["1", "5"], ["nul.tsv:3"]),
    "count.tsv": ("a\tb\n1\t2\n\t\tx\n5\t6\n", ["1", "5"], ["count.tsv:3"]),
    "line.jsonl": (
        '{"a": "1"}\n{"a": \n{"a": "5"}\n"x"\n{"a": "7"}\n',
        ["1", "5", "7"],
        ["line.jsonl:2", "line.jsonl:4"],
    ),
    "pretty.jsonl": ('{"a":\n"1"}\n{"a": oops,\n"b": {\n}}\n{\n"a": "5"}', ["1", "5"], ["pretty.jsonl:3"]),
    "cut.jsonl": ('{"a": "1"}\n{"a": "2', ["1"], ["cut.jsonl:2"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rows_are_dropped_where_the_recipe_says_so(tmp_path: Path, name: str) -> None:
    content, kept, places = BROKEN[name]
    path = file(tmp_path / name, content)
    dropped: list[tuple[str, RowError]] = []
    source = DataSource(source=str(path), bad_rows="drop")
    rows = list(read_rows(source, refuse=lambda where, error: dropped.append((where, error))))
    assert [row["a"] for _, row in rows] == kept
    assert [where for where, _ in dropped] == places
    assert {error.reason for _, error in dropped} == {"broken row"}
    with pytest.raises(DataError) as error:
        list(read_rows(DataSource(source=str(path)), refuse=lambda where, error: None))
    assert str(error.value).startswith(places[0]) and "data.bad_rows: drop" in str(error.value)


def test_a_column_twice_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    path = file(tmp_path / "x.csv", "text,n,n\nhi,1,2\n")
    (row,) = rows_of(path)
    assert row["text"] == "hi" and isinstance(row["n"], Unreadable)
    with pytest.raises(DataError, match=r"x\.csv:2: column 'n' is in two columns of that name; rename"):
        check_columns(row, ["n"], "x.csv:2")
    with pytest.raises(RowError, match="column 'n' is in two columns of that name"):
        text_of(row, "n")
    assert "column 'n' is in two columns" in refused(path, columns={"emoji": "n"})


@pytest.mark.parametrize("cell", [json.dumps, str, lambda value: value], ids=["json", "python", "object"])
def test_a_place_inside_a_cell_can_be_named(tmp_path: Path, cell: Any) -> None:
    rows = [{"data": cell({**row, "answers": {"text": ["yes"], "none": []}})} for row in ROWS]
    path = file(tmp_path / "x.jsonl", objects(rows, "\n"))
    columns = {"text": "data.text", "emoji": "data.emoji", "yes": "data.answers.text.0", "no": "data.answers.none.0"}
    found = rows_of(path, columns=columns)
    assert [{key: row[key] for key in ROWS[0]} for row in found] == ROWS
    assert [(row["yes"], row["no"]) for row in found] == [("yes", None)] * 2
    assert "column 'data.txt' is missing" in refused(path, columns={"text": "data.txt"})
    with pytest.raises(DataError, match=r"'data\.text' is there; set data\.columns: \{text: data\.text\}"):
        check_columns(rows_of(path)[0], ["text", "emoji"], "x.jsonl:1")


@pytest.mark.parametrize("name", [" text", "no", "0", "text: x", '"t"', "naïve text", "#1"])
def test_the_name_that_is_advised_can_be_copied_into_a_recipe(name: str) -> None:
    import yaml

    with pytest.raises(DataError) as error:
        check_columns({name: "hi"}, ["text"], "x.json[1]")
    advised = str(error.value).partition("set data.columns: ")[2]
    assert yaml.safe_load(advised) == {"text": name}


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz", "x.json.gz", "x.tsv.gz"])
def test_a_row_larger_than_any_is_refused(tmp_path: Path, name: str) -> None:
    row = {"x.jsonl.gz": '{"a": "%s"}', "x.json.gz": '[{"a": "%s"}]'}.get(name, "a\n%s\n")
    path = file(tmp_path / name, gzip.compress((row % ("x" * 110_000_000)).encode(), 1))
    assert "a row of over 100 million characters" in refused(path)
    assert path.stat().st_size < 1e6
