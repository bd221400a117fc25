"""What an error advises is done, and then the file is read, or something else is said."""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gemtune.data.columns import check_columns
from gemtune.data.sources import read_rows, source_for
from gemtune.errors import DataError
from gemtune.recipe.schema import DataSource, Recipe

CSV = "text,emoji\nhi,👋\n"
ROW = {"text": "hi", "emoji": "👋"}
LINE = json.dumps(ROW)
Input = tuple[str, str | bytes | None, dict[str, Any]]  # file name, content, keys of the source


def parquet() -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table({name: [value] for name, value in ROW.items()}), data)
    return data.getvalue()


# What is wrong -> the input, the words of the error that say what to do, and the input after that was done.
MOVES: dict[str, tuple[Input, str, Input]] = {
    "another name": (
        ("x.csv", "text,reaction\nhi,👋\n", {}),
        "set data.columns: {emoji: reaction}",
        ("x.csv", "text,reaction\nhi,👋\n", {"columns": {"emoji": "reaction"}}),
    ),
    "a name with blanks": (
        ("x.jsonl", '{"text": "hi", " emoji": "👋"}', {}),
        'set data.columns: {emoji: " emoji"}',
        ("x.jsonl", '{"text": "hi", " emoji": "👋"}', {"columns": {"emoji": " emoji"}}),
    ),
    "inside a cell": (
        ("x.jsonl", json.dumps({"text": "hi", "out": {"emoji": "👋"}}), {}),
        "set data.columns: {emoji: out.emoji}",
        ("x.jsonl", json.dumps({"text": "hi", "out": {"emoji": "👋"}}), {"columns": {"emoji": "out.emoji"}}),
    ),
    "no suffix": (("x.txt", CSV, {}), "set data.format to the one it is in", ("x.txt", CSV, {"format": "csv"})),
    "utf-16": (
        ("x.csv", CSV.encode("utf-16"), {}),
        "set data.encoding to utf-16",
        ("x.csv", CSV.encode("utf-16"), {"encoding": "utf-16"}),
    ),
    "utf-16 without its mark": (
        ("x.csv", CSV.encode("utf-16-le"), {}),
        "set data.encoding to utf-16-le",
        ("x.csv", CSV.encode("utf-16-le"), {"encoding": "utf-16-le"}),
    ),
    "a comma in a value": (
        ("x.csv", "text,emoji\nhi, ho,👋\n", {}),
        'put a value that holds a comma in double quotes, "like, this"',
        ("x.csv", 'text,emoji\n"hi, ho",👋\n', {}),
    ),
    "a missing comma": (("x.csv", "text,emoji\nhi\n", {}), "add the missing comma", ("x.csv", "text,emoji\nhi,\n", {})),
    "an open quote": (
        ("x.csv", f'{CSV}"hi,👋\n', {}),
        "data.bad_rows: drop",
        ("x.csv", f'{CSV}"hi,👋\n', {"bad_rows": "drop"}),
    ),
    "a broken line": (
        ("x.jsonl", f"{LINE}\n{LINE[:-1]}\n", {}),
        "data.bad_rows: drop",
        ("x.jsonl", f"{LINE}\n{LINE[:-1]}\n", {"bad_rows": "drop"}),
    ),
    "plain in gz": (("x.csv.gz", CSV, {}), "drop .gz from its name", ("x.csv", CSV, {})),
    "plain in xz": (("x.csv.xz", CSV, {}), "drop .xz from its name", ("x.csv", CSV, {})),
    "one object": (("x.json", LINE, {}), "put [ ] around it", ("x.json", f"[{LINE}]", {})),
    "commas": (
        ("x.jsonl", f"{LINE},\n{LINE}", {}),
        "put [ ] around all of them",
        ("x.jsonl", f"[{LINE},\n{LINE}]", {}),
    ),
    "the last comma": (("x.json", f"[{LINE},]", {}), "a comma before the closing ]", ("x.json", f"[{LINE}]", {})),
    "two arrays": (
        ("x.json", f'{{"train": [{LINE}], "test": [{LINE}]}}', {}),
        "write the one with the rows to a file of its own",
        ("x.json", f'{{"train": [{LINE}]}}', {}),
    ),
    "text after the rows": (
        ("x.json", f"[{LINE}]\n{LINE}", {}),
        "or cut it off",
        ("x.json", f"[{LINE}]", {}),
    ),
    "a first object larger than the head": (
        ("x.json", json.dumps({**ROW, "more": ["x" * 300_000]}) + "\n" + LINE, {}),
        "set data.format: jsonl",
        ("x.json", json.dumps({**ROW, "more": ["x" * 300_000]}) + "\n" + LINE, {"format": "jsonl"}),
    ),
    "a pattern that matches nothing": (("*.jsonl", "", {}), "matches no file", ("x.csv", CSV, {})),
    "a column twice": (
        ("x.csv", "text,emoji,emoji\nhi,👋,x\n", {}),
        "rename or mend it in the file",
        ("x.csv", "text,emoji,other\nhi,👋,x\n", {}),
    ),
}


MOVES |= {
    "lines that are quoted whole": (("x.csv", '"text,emoji"\n"hi,👋"\n', {}), "take away the double quotes around whole lines", ("x.csv", CSV, {})),
    "a title above the header": (("x.csv", f"Export of May,\n{CSV}", {}), "delete the lines above the header", ("x.csv", CSV, {})),
    "rows that lie deeper": (("x.json", f'{{"status": "ok", "data": {{"rows": [{LINE}]}}}}', {}), "in data.rows; write that array to a file of its own", ("x.json", f"[{LINE}]", {})),
    "a NUL byte": (("x.csv", "text,emoji\nh\0i,👋\n", {}), "set data.encoding if the file is utf-16, or delete the byte", ("x.csv", CSV, {})),
    "a header of nothing": (("x.csv", ",,\nhi,👋,\n", {}), "name them in the file's first line", ("x.csv", CSV, {})),
    "a missing tab": (("x.tsv", "text\temoji\nhi\n", {}), "add the missing tab (an empty value needs one too) or delete the row", ("x.tsv", "text\temoji\nhi\t\n", {})),
    "a tab too many": (("x.tsv", "text\temoji\nh\ti\t👋\n", {}), "put a value that holds a tab in double quotes", ("x.tsv", 'text\temoji\n"h\ti"\t👋\n', {})),
    "a sheet": (("x.xlsx", b"PK", {}), "save the sheet as `CSV UTF-8`", ("x.csv", CSV, {})),
    "an archive of rows": (("x.zip", b"PK", {}), "unpack it first", ("x.csv", CSV, {})),
    "a pickle": (("x.pkl", b"x", {}), "write it as Parquet: a pickle runs code when it is read", ("x.parquet", parquet(), {})),
    "a cut Parquet file": (("x.parquet", parquet()[:-9], {}), "damaged or not Parquet", ("x.parquet", parquet(), {})),
    "a cut packed file": (("x.csv.gz", gzip.compress(CSV.encode())[:-9], {}), "copy or download it again, or drop .gz from its name", ("x.csv.gz", gzip.compress(CSV.encode()), {})),
    "a list on a line": (("x.jsonl", f'{LINE[:-1]}\n}}\n["hi", "👋"]', {}), "wanted an object with named values, {...}: name its values", ("x.jsonl", f"{LINE}\n{LINE}", {})),
    "a text on a line": (("x.jsonl", '"hi"', {}), "wanted an object with named values, {...}: give the value a name", ("x.jsonl", LINE, {})),
    "a text alone": (("x.json", '"hi"', {}), "wanted an array of objects, [{...}, {...}]", ("x.json", f"[{LINE}]", {})),
    "a text among rows": (("x.json", f'[{LINE}, "hi"]', {}), "x.json[2] is a string; wanted an object with named values", ("x.json", f"[{LINE}]", {})),
    "a row of another length": (("x.json", '{"columns": ["text", "emoji"], "data": [["hi", "👋", 1]]}', {}), "has 3 values, wanted 2 (text, emoji)", ("x.json", '{"columns": ["text", "emoji"], "data": [["hi", "👋"]]}', {})),
    "columns of other lengths": (("x.json", '{"text": ["hi", "ho"], "emoji": ["👋"]}', {}), 'wanted one of rows: write it as rows (pandas: orient="records")', ("x.json", f"[{LINE}]", {})),
    "a cut array": (("x.json", f"[{LINE}", {}), "the file ends too early: copy or download it again", ("x.json", f"[{LINE}]", {})),
    "broken JSON": (("x.json", f"[{LINE[:-1]}, x]", {}), "mend it there", ("x.json", f"[{LINE}]", {})),
    "no rows": (("x.csv", "text,emoji\n", {}), "wanted at least one row: check how the file was written", ("x.csv", CSV, {})),
    "no such encoding": (("x.csv", CSV, {"encoding": "utf-99"}), "wanted one Python knows, such as utf-8, utf-16 or cp1252", ("x.csv", CSV, {"encoding": "utf-8"})),
    "an old encoding": (("x.csv", "text,emoji\ncafé,👋\n".replace("👋", "x").encode("cp1252"), {}), "set data.encoding to the one it was written in (cp1252 for Excel on Windows)", ("x.csv", "text,emoji\ncafé,x\n".encode("cp1252"), {"encoding": "cp1252"})),
    "utf-16 without a mark": (("x.csv", CSV.encode("utf-16-le"), {"encoding": "utf-16"}), "); set data.encoding to the one it was written in", ("x.csv", CSV.encode("utf-16-le"), {"encoding": "utf-16-le"})),
    "a quote that is never closed": (("x.csv", f'{CSV}"hi,👋\n', {}), "is never closed; close it", ("x.csv", f'{CSV}"hi",👋\n', {})),
    "a name of too many letters": (("x" * 300 + ".csv", None, {}), "File name too long; check the path and the disk", ("x.csv", CSV, {})),
    "a renamed column that is not there": (("x.csv", CSV, {"columns": {"text": "texts"}}), "mend data.columns: {text: texts}", ("x.csv", CSV, {"columns": {"text": "text"}})),
    "a name that is a Hub's": (("x/y", None, {}), "set data.format: hub and give its id, user/name", ("x.csv", CSV, {})),
}  # fmt: skip


def rows_of(folder: Path, given: Input) -> list[dict[str, object]]:
    name, content, keys = given
    if "*" not in name and content is not None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    source = DataSource(source=str(folder / name), **keys)
    rows = list(read_rows(source, refuse=lambda where, error: None))
    check_columns(rows[0][1], ["text", "emoji"], rows[0][0])
    return [row for _, row in rows]


@pytest.mark.parametrize("what", MOVES)
def test_the_advice_of_an_error_works(tmp_path: Path, what: str) -> None:
    before, move, after = MOVES[what]
    with pytest.raises(DataError) as error:
        rows_of(tmp_path, before)
    assert move in str(error.value) and "\n" not in str(error.value), str(error.value)
    assert rows_of(tmp_path, after)


ALPACA = {"instruction": "q", "output": "a"}
# an entry of dataset_info.json -> words of the error -> the entry after that was done
ENTRIES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "a type that is none": ({"file_name": 5}, "file_name is '5'; wanted a name", {"file_name": "a.json"}),
    "a script": ({"script_url": "s"}, "write its rows to JSONL and name that as file_name", {"file_name": "a.json"}),
    "a file in a cloud": ({"cloud_file_name": "s"}, "download the file and name it as file_name", {"file_name": "a.json"}),
    "a folder of the Hub": ({"hf_hub_url": "u/n", "folder": "s"}, "download that folder and name it as file_name", {"file_name": "a.json"}),
    "a revision": ({"hf_hub_url": "u/n", "revision": "s"}, "download that revision and name its files as file_name", {"file_name": "a.json"}),
    "another hub alone": ({"ms_hub_url": "u/n"}, "wanted file_name or hf_hub_url: download it and name the file", {"file_name": "a.json"}),
    "formatting": ({"file_name": "a.json", "formatting": "chatml"}, "formatting 'chatml'; wanted alpaca", {"file_name": "a.json", "formatting": "alpaca"}),
    "columns that are a list": ({"file_name": "a.json", "columns": {"prompt": ["q"]}}, "; wanted an object of names", {"file_name": "a.json", "columns": {"prompt": "instruction", "response": "output"}}),
    "a column that is not there": ({"file_name": "a.json", "columns": {"prompt": "q", "response": "output"}}, "mend `columns` in", {"file_name": "a.json", "columns": {"prompt": "instruction", "response": "output"}}),
}  # fmt: skip


def entry_rows(folder: Path, entry: object, name: str = "#e") -> list[object]:
    (folder / "a.json").write_text(json.dumps([ALPACA]))
    (folder / "dataset_info.json").write_text(entry if isinstance(entry, str) else json.dumps({"e": entry}))
    return list(read_rows(DataSource(source=f"{folder}{name}")))


@pytest.mark.parametrize("what", ENTRIES)
def test_the_advice_about_an_entry_works(tmp_path: Path, what: str) -> None:
    before, move, after = ENTRIES[what]
    with pytest.raises(DataError) as error:
        entry_rows(tmp_path, before)
    assert move in str(error.value), str(error.value)
    assert entry_rows(tmp_path, after)


# a dataset_info.json as a source -> words of the error -> what then works: the file's text, and the name of the entry
WHOLE: dict[str, tuple[str, str, str, str]] = {
    "broken": ('{"e": {', "broken JSON", '{"e": {"file_name": "a.json"}}', "#e"),
    "several": ('{"e": {"file_name": "a.json"}, "f": {"file_name": "b.json"}}', "holds several data sets; name one, data.source: ", '{"e": {"file_name": "a.json"}}', "#e"),
    "another program's": ("{}", "wanted {name: {file_name: ...}, ...}", '{"e": {"file_name": "a.json"}}', "#e"),
}  # fmt: skip


@pytest.mark.parametrize("what", WHOLE)
def test_the_advice_about_a_dataset_info_works(tmp_path: Path, what: str) -> None:
    before, move, after, name = WHOLE[what]
    with pytest.raises(DataError) as error:
        entry_rows(tmp_path, before, "/dataset_info.json")
    assert move in str(error.value), str(error.value)
    assert entry_rows(tmp_path, after, f"/dataset_info.json{name}")


def hub(*args: str | None, split: str, **options: object) -> list[dict[str, object]]:
    """A Hub of one data set, u/n, whose only configuration has rows in `train` alone."""
    name, config = args
    if name != "u/n":
        raise FileNotFoundError(f"no data set {name}")
    if config not in (None, "plain"):
        raise ValueError(f"BuilderConfig {config} not found")
    return [ROW] if split == "train" else []


def away(name: str, *args: str | None, **options: object) -> list[dict[str, object]]:
    raise RuntimeError("Dataset scripts are no longer supported") if "code" in name else ConnectionError("no route")


HUB: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "no rows in a split": ({"source": "u/n", "hub_split": "dev"}, "; set data.hub_split", {"source": "u/n"}),
    "no such configuration": ({"source": "u/n", "hub_config": "x"}, "set data.hub_config and data.hub_split to ones it has", {"source": "u/n", "hub_config": "plain"}),
    "no network": ({"source": "away/rows"}, "download its files and name their folder as data.source", {"source": "FOLDER"}),
    "a program": ({"source": "away/code"}, "download its files, or its Parquet version, and name them", {"source": "FOLDER"}),
    "no such data set": ({"source": "u/m"}, "check the id (huggingface.co/datasets/", {"source": "u/n"}),
}  # fmt: skip


@pytest.mark.parametrize("what", HUB)
def test_the_advice_about_a_hub_data_set_works(tmp_path: Path, what: str) -> None:
    before, move, after = HUB[what]
    with pytest.raises(DataError) as error:
        list(read_rows(DataSource(**before, format="hub"), load_dataset=away if "away" in before["source"] else hub))
    assert move in str(error.value), str(error.value)
    (tmp_path / "x.csv").write_text(CSV)
    local = {"source": str(tmp_path), "format": "auto"} if after["source"] == "FOLDER" else {}
    assert list(read_rows(DataSource(**{"format": "hub", **after, **local}), load_dataset=hub))


def test_a_pipe_is_written_to_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(DataError, match="wanted a file: write what it gives to one, and name that"):
        list(read_rows(DataSource(source=str(tmp_path / "x.csv"))))
    (tmp_path / "y.csv").write_text(CSV)
    assert list(read_rows(DataSource(source=str(tmp_path / "y.csv"))))


def test_a_file_of_one_of_the_sources_is_read_as_that_source() -> None:
    data = [{"source": "mails.csv", "columns": {"text": "body"}}, {"source": "chats.csv"}]
    recipe = Recipe.model_validate({"name": "t", "task": "emoji", "data": data})
    with pytest.raises(DataError, match="wanted one of these sources, or sources that agree"):
        source_for(recipe, "new.csv")
    assert source_for(recipe, "mails.csv").columns == {"text": "body"}


def test_a_file_is_made_readable() -> None:
    folder = Path(tempfile.mkdtemp())
    path = folder / "x.csv"
    path.write_text(CSV)
    folder.chmod(0o755)
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # which reads everything
            os.seteuid(65534)
        with pytest.raises(DataError, match=r"make it readable for you \(chmod u\+r, or ask its owner\)"):
            list(read_rows(DataSource(source=str(path))))
        os.seteuid(user)
        path.chmod(0o644)
        if user == 0:
            os.seteuid(65534)
        assert list(read_rows(DataSource(source=str(path))))
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)
