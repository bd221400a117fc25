"""Rows: what each format yields, and what is said, with file and line, of each way a file can be wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemtune.data import llamafactory
from gemtune.data.chat_layouts import to_messages
from gemtune.data.columns import check_columns
from gemtune.data.formats import FORMATS, SUFFIXES, format_name
from gemtune.data.json_rows import json_rows
from gemtune.data.sources import read_rows, source_files, source_for
from gemtune.errors import DataError, GemtuneError, MissingExtra, RowError
from gemtune.recipe.schema import DataSource, Recipe

ROWS = [{"text": "hi, there", "emoji": "👋"}, {"text": 'two\n"lines"', "emoji": "🏊‍♀️"}]


def source(path: Path | str, **options: Any) -> DataSource:
    return DataSource(source=str(path), **options)


def read(path: Path | str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    return list(read_rows(source(path, **options)))


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


FILES: dict[str, tuple[str | bytes, list[str]]] = {  # file name -> content, where its two rows are
    "x.csv": (as_csv(ROWS), ["x.csv:2", "x.csv:3"]),
    "x.CSV": (as_csv(ROWS), ["x.CSV:2", "x.CSV:3"]),
    "x.tsv": (as_csv(ROWS, "\t"), ["x.tsv:2", "x.tsv:3"]),
    "semicolons.csv": (as_csv(ROWS, ";"), ["semicolons.csv:2", "semicolons.csv:3"]),
    "tabs.csv": (as_csv(ROWS, "\t"), ["tabs.csv:2", "tabs.csv:3"]),
    "blank.csv": ("\n" + as_csv(ROWS).replace("\r\n", "\r\n\r\n") + "  \n", ["blank.csv:4", "blank.csv:6"]),
    "x.jsonl": ("\n" + as_jsonl(ROWS).replace("\n", "\r\n"), ["x.jsonl:2", "x.jsonl:3"]),
    "x.ndjson": (as_jsonl(ROWS), ["x.ndjson:1", "x.ndjson:2"]),
    "x.json": (json.dumps(ROWS, indent=2), ["x.json[1]", "x.json[2]"]),
    "wrapped.json": (
        json.dumps({"version": 1.5, "rows": ROWS, "by": {"a": []}}),
        ["wrapped.json[1]", "wrapped.json[2]"],
    ),
    "lines.json": (as_jsonl(ROWS), ["lines.json:1", "lines.json:2"]),
    "x.parquet": (as_parquet(ROWS), ["x.parquet[1]", "x.parquet[2]"]),
    "x.arrow": (as_arrow(ROWS), ["x.arrow[1]", "x.arrow[2]"]),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_yields_the_same_rows_with_their_places(tmp_path: Path, name: str, packed: bool) -> None:
    content, places = FILES[name]
    data = content.encode() if isinstance(content, str) else content
    if packed and name.endswith(("parquet", "arrow")):
        assert "damaged or not" in refused(file(tmp_path / f"{name}.gz", gzip.compress(data)))
        return
    path = file(tmp_path / f"{name}.gz", gzip.compress(data)) if packed else file(tmp_path / name, data)
    rows = read(path)
    assert [row for _, row in rows] == ROWS
    assert [where.replace(".gz", "") for where, _ in rows] == places
    assert source_files(source(path)) == [path]


def test_csv_keeps_strings_and_empty_values(tmp_path: Path) -> None:
    path = file(tmp_path / "x.csv", "\ufefftext,n\n,007\nNA,1.50\n")
    assert [row for _, row in read(path)] == [{"text": "", "n": "007"}, {"text": "NA", "n": "1.50"}]
    assert read(path, encoding="utf-8")[0][1]["text"] == ""  # the byte order mark is no part of the first name


def test_csv_takes_a_field_of_any_size(tmp_path: Path) -> None:
    path = file(tmp_path / "x.csv", f"text\n{'a' * 300_000}\n")
    assert len(read(path)[0][1]["text"]) == 300_000


def test_every_format_is_read_above_documented_and_taken_by_a_recipe() -> None:
    assert {format_name(Path(name)) for name in FILES} == set(FORMATS)
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    assert [suffix for suffix in SUFFIXES if f"`rows{suffix}`" not in page] == []
    assert [source("rows", format=name).format for name in FORMATS] == list(FORMATS)


def test_a_format_overrides_the_suffix(tmp_path: Path) -> None:
    path = file(tmp_path / "rows.txt", as_jsonl(ROWS))
    assert [row for _, row in read(path, format="jsonl")] == ROWS
    assert "tabs.csv:2" in read(file(tmp_path / "tabs.csv", "a,b\tc\n1\t2\n"), format="tsv")[0][0]


def test_encodings(tmp_path: Path) -> None:
    text = "text,emoji\nhéllo,x\n"
    assert read(file(tmp_path / "a.csv", text.encode("cp1252")), encoding="cp1252")[0][1]["text"] == "héllo"
    assert read(file(tmp_path / "b.csv", text.encode("utf-16")), encoding="utf-16")[0][1]["text"] == "héllo"


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = file(tmp_path / "x.jsonl", as_jsonl(ROWS) + "broken")
    assert len(read(path, limit=2)) == 2
    folder = tmp_path / "many"
    for name in "ab":
        file(folder / f"{name}.jsonl", as_jsonl(ROWS))
    assert [where for where, _ in read(folder, limit=3)] == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1"]


def test_folders_and_globs(tmp_path: Path) -> None:
    wanted = [file(tmp_path / name, as_csv(ROWS)) for name in ("b.csv", "sub/a.csv")]
    packed = file(tmp_path / "c.jsonl.gz", gzip.compress(as_jsonl(ROWS).encode()))
    for name in (".hidden.csv", ".git/x.csv", "README.md", "dataset_infos.json"):
        file(tmp_path / name, "not rows")
    assert [where for where, _ in read(tmp_path)] == [
        *("b.csv:2", "b.csv:3", "c.jsonl.gz:1", "c.jsonl.gz:2", "sub/a.csv:2", "sub/a.csv:3")
    ]
    assert source_files(source(tmp_path)) == [wanted[0], packed, wanted[1]]
    assert source_files(source(tmp_path, format="csv")) == wanted
    assert [where for where, _ in read(tmp_path / "*.csv")] == ["b.csv:2", "b.csv:3"]
    assert sorted(source_files(source(tmp_path / "**" / "*.csv"))) == sorted(wanted)
    assert [where for where, _ in read(tmp_path / "s*" / "*.csv")] == ["sub/a.csv:2", "sub/a.csv:3"]
    brackets = file(tmp_path / "x[1].csv", as_csv(ROWS))
    assert source_files(source(brackets)) == [brackets]


def test_columns_are_renamed(tmp_path: Path) -> None:
    path = file(tmp_path / "x.csv", "q,a,text,id\nhow many?,3,other,7\n")
    columns = {"text": "q", "answer": "a", "again": "a"}
    assert [row for _, row in read(path, columns=columns)] == [
        {"id": "7", "text": "how many?", "answer": "3", "again": "3"}
    ]
    swapped = read(path, columns={"q": "a", "a": "q"})[0][1]
    assert (swapped["q"], swapped["a"]) == ("3", "how many?")
    said = refused(path, columns={"text": "tekst"})
    assert said.startswith("x.csv:2: column 'tekst' is missing; found q, a, text, id; did you mean 'text'?")
    assert "data.columns: {text: tekst}" in said


@pytest.mark.parametrize(
    ("row", "wanted", "said"),
    [
        (
            {"text": "", "label": ""},
            ["text", "emoji"],
            "emoji.csv:2: column 'emoji' is missing; found text, label; did you mean 'label'? "
            "set data.columns: {emoji: label}",
        ),
        (
            {"a": "", "Emojis": "", "b": ""},
            ["emoji"],
            "emoji.csv:2: column 'emoji' is missing; found a, Emojis, b; did you mean 'Emojis'? "
            "set data.columns: {emoji: Emojis}",
        ),
        (
            {"a": "", "b": ""},
            ["emoji"],
            "emoji.csv:2: column 'emoji' is missing; found a, b; set data.columns: {emoji: <its name in the file>}",
        ),
    ],
)
def test_a_missing_column_is_named_with_its_likely_name(row: dict[str, str], wanted: list[str], said: str) -> None:
    with pytest.raises(DataError) as error:
        check_columns(row, wanted, "emoji.csv:2")
    assert str(error.value) == said
    check_columns(dict.fromkeys(wanted), wanted, "emoji.csv:2")


BROKEN: dict[str, tuple[str, str | bytes, list[str]]] = {  # what -> file name, content, what is said
    "short row": ("x.csv", 'a,b\n1,2\n"3\n3"\n', ["x.csv:3: 1 field, wanted 2 as in the header (a, b)", "comma"]),
    "long row": ("x.csv", "a,b\n1,2,3\n", ["x.csv:2: 3 fields, wanted 2 as in the header (a, b)", "double quotes"]),
    "long tsv row": ("x.tsv", "a\tb\n1\t2\t3\n", ["x.tsv:2: 3 fields", "tab in double quotes"]),
    "unclosed quote": ("x.csv", 'a,b\n1,2\n"3,4\n5,6\n', ["x.csv:3: ", "never closed"]),
    "stray quote": ("x.csv", 'a,b\n"1"x,2\n', ["x.csv:2: broken CSV", '""this""']),
    "nameless columns": ("x.csv", ",\n0,1\n", ["x.csv:1: no column of the header has a name", "first line"]),
    "NUL in the header": ("x.csv", "a,b\0\n1,2\n", ["x.csv:1: a NUL byte", "utf-16"]),
    "broken header": ("x.csv", 'a,"b"c\n1,2\n', ["x.csv:1: broken CSV"]),
    "NUL": ("x.csv", "a,b\n1,2\n\0,4\n", ["x.csv:3: a NUL byte", "utf-16"]),
    "empty csv": ("x.csv", "", ["x.csv: the file is empty", "wanted at least one row"]),
    "blank csv": ("x.csv", "\n \n", ["x.csv: no rows in it"]),
    "header only": ("x.csv", "a,b\n", ["x.csv: no rows in it", "wanted at least one row"]),
    "empty jsonl": ("x.jsonl", "", ["x.jsonl: the file is empty"]),
    "empty gz": ("x.jsonl.gz", gzip.compress(b""), ["x.jsonl.gz: no rows in it"]),
    "empty array": ("x.json", "[ ]", ["x.json: no rows in it"]),
    "empty json": ("x.json", " \n", ["x.json:2: found the end of the file; wanted an array of objects"]),
    "empty parquet": ("x.parquet", b"", ["x.parquet: the file is empty"]),
    "broken line": (
        "x.jsonl",
        '{"a": 1}\n{"a": 2,}\n{"a": 3}\n',
        ["x.jsonl:2: broken JSON (a comma before the closing } at column 9); mend it there"],
    ),
    "cut line": (
        "x.jsonl",
        '{"a": 1}\n{"a": "2',
        ["x.jsonl:2: broken JSON (unterminated string); the file ends too early"],
    ),
    "lists in jsonl": (
        "x.jsonl",
        "[1]\n[2]",
        ["x.jsonl:1: x.jsonl[1] is a number; wanted an object with named values"],
    ),
    "commas in jsonl": ("x.jsonl", '{"a": 1},\n{"a": 2}', ["x.jsonl:1: a comma between objects", "put [ ] around"]),
    "list in jsonl": ("x.jsonl", '{"a": 1}\n[2]', ["x.jsonl[1] is a number"]),
    "string in jsonl": ("x.jsonl", '"a"', ["x.jsonl:1: a string; wanted an object"]),
    "deep jsonl": ("x.jsonl", "[" * 200_000, ["x.jsonl:1: broken JSON (nested too deeply at column 2)"]),
    "long number": ("x.jsonl", '{"a": ' + "9" * 5000 + "}", ["x.jsonl:1: broken JSON (", "digits"]),
    "broken array": (
        "x.json",
        '[\n{"a": 1},\n{"a": 2 "b"},\n{"a": 3}]',
        ["x.json:3: broken JSON (expecting ',' delimiter at column 9)", "mend it there"],
    ),
    "missing comma": (
        "x.json",
        '[{"a": 1}\n{"a": 2}]',
        ["x.json:2: broken JSON (expecting ',' or ']', found an object at column 1)"],
    ),
    "last comma": ("x.json", '[{"a": 1},\n]', ["x.json:2: broken JSON (a comma before the closing ] at column 1)"]),
    "cut array": ("x.json", '[{"a": 1},\n{"a": ', ["x.json:2: broken JSON (expecting value); the file ends too early"]),
    "cut string": ("x.json", '[{"a": 1},\n{"a": "b', ["x.json:2: broken JSON (unterminated string); the file ends"]),
    "open array": ("x.json", '[{"a": 1}', ["x.json:1: broken JSON (expecting ',' or ']', found the end of the file)"]),
    "numbers": ("x.json", "[\n1, 2]", ["x.json:2: x.json[1] is a number; wanted an object with named values"]),
    "uneven rows": ("x.json", "[[1, 2], [3]]", ["x.json:1: x.json[2] has 1 values, wanted 2 (0, 1)"]),
    "uneven columns": ("x.json", '{"a": [1], "b": [1, 2]}', ["x.json:1: arrays of different lengths (a 1, b 2)"]),
    "one string": ("x.json", '"a"', ["x.json:1: found a string; wanted an array of objects"]),
    "one object": ("x.json", '{"a": 1, "b": 2}', ["x.json:1: one object without an array (keys: a, b)", "put [ ]"]),
    "no object": ("x.json", "{}", ["x.json:1: one object without an array (keys: none)"]),
    "two arrays": (
        "x.json",
        '{"a": [{}],\n "b": [{}]}',
        ["x.json:2: two arrays, 'a' and 'b'; wanted one", "of its own"],
    ),
    "bad key": (
        "x.json",
        '{"a": 1, b: []}',
        ["x.json:1: broken JSON (expecting a key in double quotes, found 'b' at column 10)"],
    ),
    "two tops": ("x.json", '[{"a": 1}]\n5', ["x.json:2: more text after the end of the array", "jsonl"]),
    "deep json": ("x.json", '[{"a":' + "[" * 200_000, ["x.json:1: broken JSON (nested too deeply at column 2)"]),
    "not utf-8": (
        "x.csv",
        "text\nhé\n".encode("cp1252"),
        ["x.csv: byte 6 (0xe9) is not utf-8", "data.encoding", "cp1252"],
    ),
    "utf-16": ("x.csv", "a,b\n1,2".encode("utf-16"), ["byte 0 (0xff)", "data.encoding to utf-16, "]),
    "not utf-8, far in": (
        "x.jsonl",
        b'{"a": "' + b"\xc3\xa9" * 50_000 + b'"}\n\x80',
        ["x.jsonl: byte 100010 (0x80) is not utf-8", "data.encoding"],
    ),
    "not utf-8, after a mark": ("x.json", b'\xef\xbb\xbf[{"a": "\xff"}]', ["x.json: byte 11 (0xff) is not utf-8"]),
    "not utf-8, packed": ("x.csv.gz", gzip.compress(b"a\n\xff\n"), ["x.csv.gz: byte 2 (0xff) is not utf-8"]),
    "not gzip": ("x.csv.gz", "a,b\n1,2\n", ["x.csv.gz: damaged or not gzip", "drop .gz"]),
    "cut gzip": ("x.csv.gz", gzip.compress(as_csv(ROWS).encode())[:-12], ["x.csv.gz: damaged or not gzip", "again"]),
    "flipped gzip": ("x.csv.gz", gzip.compress(b"a\n1\n")[:-6] + b"\0" * 6, ["x.csv.gz: damaged or not gzip"]),
    "not parquet": ("x.parquet", "a,b\n1,2\n", ["x.parquet: damaged or not Parquet", "again"]),
    "cut parquet": ("x.parquet", as_parquet(ROWS)[:-10], ["x.parquet: damaged or not Parquet"]),
    "unknown suffix": ("x.txt", "a", ["x.txt: unknown suffix '.txt'; wanted .csv, .tsv, .json", "data.format"]),
    "no suffix": ("rows", "a", ["rows: unknown suffix ''", "data.format"]),
    "spreadsheet": ("x.xlsx", "a", ["x.xlsx: unknown suffix '.xlsx'", "CSV UTF-8"]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named_with_its_line_and_the_next_move(tmp_path: Path, what: str) -> None:
    name, content, said = BROKEN[what]
    message = refused(file(tmp_path / name, content))
    for words in said:
        assert words in message, message


def test_rows_before_the_broken_one_are_read(tmp_path: Path) -> None:
    rows = read_rows(source(file(tmp_path / "x.json", '[{"a": 1}, {"a": 2}, oops')))
    assert [next(rows)[1]["a"], next(rows)[1]["a"]] == [1, 2]
    with pytest.raises(DataError, match=r"x\.json:1: broken JSON"):
        next(rows)


def test_a_damaged_page_of_parquet_is_refused(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [f"row {number}" for number in range(10_000)]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet", use_dictionary=False)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[100:20_000] = b"\xff" * 19_900
    assert "x.parquet: " in refused(file(tmp_path / "x.parquet", bytes(data)))


def test_parquet_without_rows_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([], pyarrow.int64())}), tmp_path / "x.parquet")
    assert "x.parquet: no rows in it" in refused(tmp_path / "x.parquet")


def test_what_is_not_there_is_named_with_the_nearest_name(tmp_path: Path) -> None:
    file(tmp_path / "emoji.csv", as_csv(ROWS))
    said = refused(tmp_path / "emojis.csv")
    assert "emojis.csv: no such file or folder; did you mean 'emoji.csv'?" in said
    assert "holds emoji.csv" in said
    said = refused(tmp_path / "dta" / "emoji.csv")
    assert "dta/emoji.csv: no such file or folder" in said and "holds emoji.csv" in said
    assert "*.jsonl: matches no file" in refused(tmp_path / "*.jsonl")
    assert "data.format: hub" in refused(tmp_path / "emoji")
    assert "Hub" not in refused("no_such_folder/emoji.csv")


def test_a_folder_without_rows_says_what_it_holds(tmp_path: Path) -> None:
    file(tmp_path / "notes.md", "a")
    file(tmp_path / ".hidden.csv", as_csv(ROWS))
    said = refused(tmp_path)
    assert f"{tmp_path}: no file in it ends in one of .csv" in said and "found .md" in said
    file(tmp_path / "rows.xlsx", "a")
    assert "CSV UTF-8" in refused(tmp_path)


def test_an_encoding_python_does_not_know(tmp_path: Path) -> None:
    path = file(tmp_path / "x.csv", as_csv(ROWS))
    assert "data.encoding: unknown encoding: utf-9" in refused(path, encoding="utf-9")
    assert "data.encoding: 'hex' is not a text encoding" in refused(path, encoding="hex")
    assert "not utf-16 text" in refused(path, encoding="utf-16")


def test_a_name_too_long_is_one_line() -> None:
    assert "File name too long; check the path" in refused("/tmp/" + "x" * 5000 + ".csv")


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """A folder, a file in it, and a user who may read neither (root may read everything)."""
    folder = Path(tempfile.mkdtemp())
    locked = file(folder / "locked" / "x.csv", as_csv(ROWS))
    file(folder / "x.csv", as_csv(ROWS)).chmod(0)
    locked.parent.chmod(0)
    folder.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    locked.parent.chmod(0o700)
    shutil.rmtree(folder)


def test_permission_denied(unreadable: Path) -> None:
    assert "x.csv: Permission denied; make it readable" in refused(unreadable / "x.csv")
    assert "Permission denied" in refused(unreadable / "locked" / "x.csv")
    assert "Permission denied" in refused(unreadable / "locked")
    assert "Permission denied" in refused(unreadable)


# ------------------------------------------------------------------------------------- a file beside the recipe's


def recipe_over(*data: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({"name": "t", "task": "emoji", "data": list(data)})


def test_a_source_of_the_recipe_is_read_as_the_recipe_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path / "b.txt", as_csv(ROWS))
    other = {"source": str(path), "format": "csv", "columns": {"text": "t"}, "encoding": "cp1252", "limit": 1}
    recipe = recipe_over({"source": "a.csv"}, other, {"source": "user/name", "columns": {"text": "q"}})
    expected = recipe.data[1].model_copy(update={"limit": None})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.txt").symlink_to(path)
    for name in (str(path), "b.txt", "./b.txt", "link.txt"):
        assert source_for(recipe, name) == expected
    assert source_for(recipe, "user/name") == recipe.data[2]


def test_another_file_is_read_as_all_sources_are() -> None:
    alike = {"columns": {"text": "t"}, "layout": "alpaca", "images": ["pics"]}
    recipe = recipe_over({"source": "a.txt", "format": "csv", **alike, "limit": 2}, {"source": "b.json", **alike})
    assert source_for(recipe, "new.json") == DataSource.model_validate({"source": "new.json", **alike})


@pytest.mark.parametrize(
    "key", [{"columns": {"text": "t"}}, {"layout": "alpaca"}, {"images": ["pics"]}, {"encoding": "cp1252"}]
)
def test_a_file_that_could_be_read_in_two_ways_is_refused(key: dict[str, Any]) -> None:
    recipe = recipe_over({"source": "a.csv"}, {"source": "b.csv", **key}, {"source": "c.csv"})
    with pytest.raises(DataError) as caught:
        source_for(recipe, "new.csv")
    assert str(caught.value).startswith("new.csv: how to read it is not clear: a.csv, b.csv and c.csv differ in data.")
    assert next(iter(key)) in str(caught.value) and "wanted one of these sources" in str(caught.value)


# ------------------------------------------------------------------------------------------------- properties

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(TEXT, VALUES, max_size=4), max_size=5)
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


NAMES = st.lists(st.text("abcé 🙂\n\"'").map(str.strip).filter(bool), min_size=1, max_size=4, unique=True)


@settings(deadline=None)  # the machine may be busy
@given(NAMES, st.data(), st.sampled_from(["csv", "tsv"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_csv_reads_back_what_csv_wrote(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject, suffix: str, quoting: Any
) -> None:
    values = data.draw(st.lists(st.lists(TEXT, min_size=len(names), max_size=len(names)), min_size=1, max_size=5))
    path = tmp_path_factory.getbasetemp() / f"property.{suffix}"
    with path.open("w", encoding="utf-8-sig", newline="") as out:
        writer = csv.writer(out, delimiter={"csv": ",", "tsv": "\t"}[suffix], quoting=quoting)
        writer.writerow(names)
        writer.writerows(values)
    assert [row for _, row in read(path)] == [dict(zip(names, row, strict=True)) for row in values]


@settings(deadline=None)  # the machine may be busy
@given(st.binary(), st.sampled_from(["csv", "tsv", "json", "jsonl", "csv.gz", "parquet", "arrow"]))
def test_any_bytes_are_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes.{suffix}"
    try:
        assert read(file(path, content))
    except DataError as error:
        assert path.name in str(error)


# ----------------------------------------------------------------------------------------------------- memory

COUNT = 15_000


def _big(number: int) -> dict[str, str]:
    return {"text": f"row {number} " + "x" * 4100, "emoji": "🙂"}


def _write_csv(path: Path) -> None:
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["text", "emoji"])
        writer.writerows(_big(number).values() for number in range(COUNT))


def _write_json(path: Path) -> None:
    with path.open("w") as out:
        out.write('{"version": 1, "rows": [')
        out.writelines((", " if number else "") + json.dumps(_big(number)) for number in range(COUNT))
        out.write("]}")


def _write_jsonl(path: Path) -> None:
    with path.open("w") as out:
        out.writelines(json.dumps(_big(number)) + "\n" for number in range(COUNT))


BIG: dict[str, Callable[[Path], None]] = {"csv": _write_csv, "json": _write_json, "jsonl": _write_jsonl}


@pytest.mark.parametrize("suffix", BIG)
def test_a_file_larger_than_memory_does_not_fill_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"big.{suffix}"
    BIG[suffix](path)
    assert path.stat().st_size > 60e6
    tracemalloc.start()
    count = sum(1 for _ in read_rows(source(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == COUNT
    assert peak < 8e6


def test_one_row_group_of_parquet_does_not_fill_memory(tmp_path: Path) -> None:
    values = pyarrow.array([os.urandom(500).hex() for _ in range(20_000)])
    pyarrow.parquet.write_table(pyarrow.table({"text": values}), tmp_path / "big.parquet", use_dictionary=False)
    held = pyarrow.total_allocated_bytes()
    peak = max(pyarrow.total_allocated_bytes() for _ in read_rows(source(tmp_path / "big.parquet")))
    assert peak - held < 8e6 < values.nbytes


def test_an_early_error_in_a_large_array_is_found_early() -> None:
    text = io.StringIO('[{"a": 1}, {"a": oops}, ' + '{"a": "b"}, ' * 100_000)
    with pytest.raises(DataError, match=r"x\.json:1: broken JSON \(expecting value at column 18\); mend it there"):
        list(json_rows(text, "x.json", chunk=64))
    assert text.tell() < 1000


# -------------------------------------------------------------------------------------------------------- Hub


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


def test_a_hub_data_set_streams() -> None:
    hub = Hub(ROWS)
    data = source("user/name", hub_config="en", hub_split="test", columns={"reply": "emoji"}, limit=1)
    assert list(read_rows(data, load_dataset=hub)) == [("user/name[1]", {"text": "hi, there", "reply": "👋"})]
    assert hub.calls == [(("user/name", "en"), {"split": "test", "streaming": True})]
    assert source_files(data) == []
    assert [w for w, _ in read_rows(source("squad", format="hub"), load_dataset=hub)] == ["squad[1]", "squad[2]"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError("Dataset 'user/name'\ndoesn't exist on the Hub"), ["doesn't exist", "`hf auth login`"]),
        (ConnectionError("Couldn't reach 'user/name' on the Hub"), ["Couldn't reach", "network"]),
        (TimeoutError(), ["TimeoutError", "network"]),
        (ValueError("Bad split: train. Available splits: ['test']"), ["['test']", "data.hub_split"]),
        (RuntimeError("Dataset scripts are no longer supported"), ["scripts", "never runs a data set's own code"]),
    ],
)
def test_what_goes_wrong_on_the_hub_is_one_line(error: Exception, said: list[str]) -> None:
    rows = read_rows(source("user/name"), load_dataset=Hub(ROWS, error))
    assert next(rows)[0] == "user/name[1]"
    with pytest.raises(DataError) as caught:
        list(rows)
    for words in ["Hub data set 'user/name' (default, train): ", *said]:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_split_without_rows() -> None:
    with pytest.raises(DataError, match=r"'user/name': no rows in its split 'train'; set data\.hub_split"):
        list(read_rows(source("user/name"), load_dataset=Hub([])))


def test_the_real_library_reads_through_the_same_path(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the hub extra is not installed")
    file(tmp_path / "train.parquet", as_parquet(ROWS))
    assert read(tmp_path, format="hub") == [(f"{tmp_path}[1]", ROWS[0]), (f"{tmp_path}[2]", ROWS[1])]
    said = refused(tmp_path, format="hub", hub_split="nope")
    assert "Available splits: ['train']" in said and "data.hub_split" in said
    assert "data.hub_config" in refused(tmp_path, format="hub", hub_config="nope")
    file(tmp_path / "script" / "script.py", "raise SystemExit('a data set script was run')")
    assert "never runs a data set's own code" in refused(tmp_path / "script", format="hub")


def test_pictures_of_a_hub_data_set_come_undecoded(tmp_path: Path) -> None:
    """Decoded by `datasets`, one that is damaged would end the stream."""
    datasets = pytest.importorskip("datasets", reason="the hub extra is not installed")
    features = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    rows = [{"text": str(number), "image": {"bytes": b"no picture", "path": "a.png"}} for number in range(2)]
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "train.parquet"))
    assert [row for _, row in read(tmp_path, format="hub")] == rows


def test_the_hub_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"the Hub data set user/name .*pip install 'gemtune\[hub\]'"):
        read("user/name")


# ---------------------------------------------------------------------------------------------- LLaMA-Factory


def info(folder: Path, entry: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> str:
    """Writes a dataset_info.json with the entry, and its rows to x.json; returns the source that names the entry."""
    if rows:
        file(folder / "x.json", json.dumps(rows))
    file(
        folder / "dataset_info.json", json.dumps({"mine": {"file_name": "x.json"} | entry, "other": {"file_name": "y"}})
    )
    return f"{folder}/dataset_info.json#mine"


def test_an_alpaca_entry_without_columns(tmp_path: Path) -> None:
    row = {"instruction": "hi", "input": "", "output": "{{name}}", "system": "unused, as there", "id": 7}
    path = info(tmp_path, {}, [row])
    assert read(path) == [("x.json[1]", {"instruction": "hi", "input": "", "output": "{{name}}", "id": 7})]
    assert source_files(source(path)) == [tmp_path / "dataset_info.json", tmp_path / "x.json"]
    assert read(f"{tmp_path}#mine") == read(path)


def test_an_alpaca_entry_with_columns(tmp_path: Path) -> None:
    columns = {"prompt": "q", "response": "a", "system": "s", "history": "h"}
    rows: list[dict[str, Any]] = [
        {"q": "how?", "a": "so", "s": "be brief", "h": [["hi", "ho"]], "input": "unused, as there", "topic": "x"},
        {"q": "why?", "a": "thus", "topic": "y"},
    ]
    found = [row for _, row in read(info(tmp_path, {"columns": columns}, rows))]
    assert found == [
        {"instruction": "how?", "output": "so", "system": "be brief", "history": [["hi", "ho"]], "topic": "x"},
        {"instruction": "why?", "output": "thus", "topic": "y"},
    ]
    renamed = read(info(tmp_path, {"columns": columns}, rows), columns={"question": "instruction", "sql": "output"})
    assert renamed[1][1] == {"question": "why?", "sql": "thus", "topic": "y"}


def test_a_sharegpt_entry_with_tags(tmp_path: Path) -> None:
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "bot"}
    turns = [("system", "s"), ("user", "u"), ("bot", "b"), ("observation", "o"), ("function_call", "f"), ("x", "y")]
    rows: list[dict[str, Any]] = [
        {"chat": [{"role": role, "content": text} for role, text in turns], "pics": ["a.jpg"]},
        {"chat": "?"},
    ]
    entry = {"formatting": "sharegpt", "columns": {"messages": "chat", "images": "pics"}, "tags": tags}
    found = [row for _, row in read(info(tmp_path, entry, rows))]
    roles = ["system", "human", "gpt", "observation", "function_call", "x"]
    assert found[0] == {
        "conversations": [{"from": role, "value": text} for role, (_, text) in zip(roles, turns, strict=True)],
        "images": ["a.jpg"],
    }
    assert found[1] == {"conversations": "?"}


def test_an_openai_entry(tmp_path: Path) -> None:
    turns = [{"who": "User", "says": "u"}, {"who": "AI", "says": "a", "tool_calls": []}, "?"]
    tags = {"role_tag": "who", "content_tag": "says", "user_tag": "User", "assistant_tag": "AI"}
    found = read(info(tmp_path, {"formatting": "openai", "tags": tags}, [{"messages": turns}]))[0][1]
    assert found == {
        "messages": [
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a", "tool_calls": []},
            "?",
        ]
    }


def test_a_hub_entry(tmp_path: Path) -> None:
    entry = {"hf_hub_url": "user/name", "subset": "en", "split": "test", "num_samples": 1, "columns": {}}
    hub = Hub([{"instruction": "a", "input": None, "output": "b"}] * 3)
    data = source(info(tmp_path, entry))
    assert len(list(read_rows(data, load_dataset=hub))) == 1
    assert hub.calls == [(("user/name", "en"), {"split": "test", "streaming": True})]
    assert source_files(data) == []


def test_an_entry_must_be_named(tmp_path: Path) -> None:
    info(tmp_path, {}, [{"instruction": "a", "output": "b"}])
    for path in (tmp_path / "dataset_info.json", tmp_path):
        said = refused(path)
        assert "dataset_info.json: holds several data sets; name one" in said and "#NAME, of mine, other" in said
    said = refused(f"{tmp_path}/dataset_info.json#mime")
    assert "dataset_info.json: no entry 'mime'; did you mean 'mine'? it holds mine, other" in said
    assert "no such file" in refused(f"{tmp_path}/nope/dataset_info.json#mine")
    assert "no such file" in refused(f"{tmp_path}/dataset_info.json#other")
    assert "no LLaMA-Factory entries" in refused(file(tmp_path / "not" / "dataset_info.json", '{"a": 1}'))
    assert "dataset_info.json:1: broken JSON" in refused(file(tmp_path / "bad" / "dataset_info.json", "{"))


def test_the_rows_of_an_entry_may_only_ask() -> None:
    entry = llamafactory.Entry("i#x", Path("i"), "alpaca", {"prompt": "q", "response": "a"}, frozenset("qa"), {})
    asked = [("x:1", {"q": "how?"})]
    assert list(llamafactory.standard_rows(iter(asked), entry, ("output",))) == [("x:1", {"instruction": "how?"})]
    with pytest.raises(DataError, match="column 'a', the response of i#x, is missing"):
        list(llamafactory.standard_rows(iter(asked), entry))


def test_an_entry_with_marked_answers(tmp_path: Path) -> None:
    columns = {"prompt": "q", "response": "a", "kto_tag": "label"}
    rows = [{"q": "how?", "a": "so", "label": True}, {"q": "why?", "a": "thus", "label": False}]
    read_rows = [row for _, row in read(info(tmp_path, {"columns": columns}, rows))]
    assert [row["kto_tag"] for row in read_rows] == [True, False]
    with pytest.raises(RowError, match="`kto_tag` is False"):
        to_messages(read_rows[1], "alpaca")


def test_what_an_entry_does_not_name_is_not_used_but_for_what_says_that_an_answer_is_wrong(tmp_path: Path) -> None:
    more = {"system_prompt": "s", "context": "c", "History": [["1", "2"]], "label": False, "rejected": "no", "id": 7}
    row = {"instruction": "hi", "output": "ho", **more}
    ((_, found),) = read(info(tmp_path, {}, [row]))
    assert found == {"instruction": "hi", "output": "ho", "label": False, "rejected": "no", "id": 7}


def test_an_entry_over_messages_in_text_and_roles_in_capitals(tmp_path: Path) -> None:
    tags = {"role_tag": "who", "content_tag": "says", "user_tag": "frage", "assistant_tag": "antwort"}
    messages = [{"who": "Frage", "says": "hi"}, {"who": "ANTWORT", "says": "ho", "weight": 1}]
    entry = {"formatting": "sharegpt", "columns": {"messages": "m"}, "tags": tags}
    ((_, row),) = read(info(tmp_path, entry, [{"m": json.dumps(messages)}]))
    assert [(m.role, m.text) for m in to_messages(row, "sharegpt")] == [("user", "hi"), ("assistant", "ho")]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"ranking": True}, "dataset_info.json#mine: ranking is set: it is preference data"),
        ({"columns": {"prompt": "p", "chosen": "c", "rejected": "r"}}, "preference data"),
        ({"columns": {"prompt": "text"}}, "`columns` names no response, only prompt"),
        ({"columns": {"prompt": "text", "respons": "a"}}, "only prompt, respons; did you mean 'respons'?"),
        ({"formatting": "chatml"}, "formatting 'chatml'; wanted alpaca, sharegpt, openai"),
        ({"file_name": None, "script_url": "x.py"}, "never runs a data set's own code"),
        ({"revision": "v2", "hf_hub_url": "a/b"}, "revision is set: download that revision"),
        ({"columns": ["prompt"]}, "columns is \"['prompt']\"; wanted an object of names"),
        ({"columns": {"prompt": 5}}, "columns is {'prompt': 5}; wanted an object of names"),
        ({"tags": "x"}, "tags is 'x'; wanted an object of names"),
        ({"formatting": {}}, "formatting is '{}'; wanted a name"),
        ({"num_samples": -1}, "num_samples is '-1'; wanted a whole number"),
        ({"num_samples": "9"}, "num_samples is '9'; wanted a whole number"),
        ({"file_name": None}, "only file_name; wanted file_name or hf_hub_url"),
        ({"file_name": None, "hf_hub_url": None}, "only file_name, hf_hub_url; wanted file_name or hf_hub_url"),
        ({"hf_hub_url": 5}, "hf_hub_url is '5'; wanted a name"),
        ({"hf_hub_url": ""}, "hf_hub_url is ''; wanted a name"),
        ({"hf_hub_url": "a/b", "split": []}, "split is '[]'; wanted a name"),
        ({"file_name": []}, "file_name is '[]'; wanted a name"),
        ({"file_name": "x" * 300}, "File name too long"),
        ({"file_name": "a\0b"}, "cannot be a path (a NUL byte)"),
        ({"columns": {"prompt": "q", "response": "a"}}, "x.json[1]: column 'q', the prompt of dataset_info.json#mine"),
        (
            {"columns": {"prompt": "instruction", "response": "output", "system": "sistem"}},
            "dataset_info.json#mine: column 'sistem' is in no row; found instruction, output, system; "
            "did you mean 'system'? mend `columns`",
        ),
    ],
)
def test_an_entry_that_cannot_be_used(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    assert said in refused(info(tmp_path, entry, [{"instruction": "a", "output": "b", "system": "c"}]))


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"mine": ' + "9" * 5000 + "}", '{"mine": 5}', "[]", "null", "{", b"\xff"]
)
def test_an_info_file_of_any_shape_is_one_line(tmp_path: Path, content: str | bytes) -> None:
    assert "dataset_info.json" in refused(f"{file(tmp_path / llamafactory.INFO, content)}#mine")


def test_an_entry_of_another_hub(tmp_path: Path) -> None:
    path = file(tmp_path / "dataset_info.json", '{"mine": {"ms_hub_url": "a/b"}}')
    assert "only ms_hub_url; wanted file_name or hf_hub_url" in refused(f"{path}#mine")
