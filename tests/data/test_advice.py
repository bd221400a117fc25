"""What an error advises is done, and then the file is read, or something else is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemtune.data.columns import check_columns
from gemtune.data.sources import read_rows
from gemtune.errors import DataError
from gemtune.recipe.schema import DataSource

CSV = "text,emoji\nhi,👋\n"
ROW = {"text": "hi", "emoji": "👋"}
LINE = json.dumps(ROW)
Input = tuple[str, str | bytes, dict[str, Any]]  # file name, content, keys of the source

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
    "no suffix": (("x.txt", CSV, {}), "set data.format", ("x.txt", CSV, {"format": "csv"})),
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


def rows_of(folder: Path, given: Input) -> list[dict[str, object]]:
    name, content, keys = given
    if "*" not in name:
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
