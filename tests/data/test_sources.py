"""Rows: what each format yields, and what is said, with file and line, of each way a file can be wrong."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.row_files import ROWS, Hub, as_csv, as_jsonl, as_parquet, file, read, refused, source
from gemtune.data.sources import read_rows, source_files, source_for
from gemtune.errors import DataError, MissingExtra
from gemtune.recipe.schema import DataSource, Recipe


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = file(tmp_path / "x.jsonl", as_jsonl(ROWS) + "broken")
    assert len(read(path, limit=2)) == 2
    folder = tmp_path / "many"
    for name in "ab":
        file(folder / f"{name}.jsonl", as_jsonl(ROWS))
    assert [where for where, _ in read(folder, limit=3)] == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1"]


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


@settings(deadline=None)  # the machine may be busy
@given(st.binary(), st.sampled_from(["csv", "tsv", "json", "jsonl", "csv.gz", "parquet", "arrow"]))
def test_any_bytes_are_rows_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"bytes.{suffix}"
    try:
        assert read(file(path, content))
    except DataError as error:
        assert path.name in str(error)


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
