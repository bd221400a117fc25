"""Files of rows: huge, endless, circular, of another shape, and texts that act on a terminal."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from benchmarks.hostile.place import DROPPED, REFUSED, ROWS, USUAL, Command, Kind, Place, prepare

BLOCK = b"a" * 4_000_000
ENTRY = {"a": {"file_name": "rows.jsonl", "columns": {"prompt": "text", "response": "emoji"}}}
ENTRIES: list[dict[str, Any]] = [
    {"formatting": {}},
    {"num_samples": -1},
    {"hf_hub_url": 5, "file_name": None},
    {"hf_hub_url": "", "file_name": None},
    {"file_name": []},
    {"file_name": "x" * 300},
    {"columns": [["prompt"]]},
]
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
CHATS: list[Any] = [
    {},
    {"messages": None},
    {"messages": [{}]},
    {"messages": [{"role": 5, "content": 1}]},
    {"messages": "[" * 500},
]


def one_row(path: Path) -> None:
    """A row of 400 MB in 0.4 MB."""
    with gzip.open(path, "wb", 6) as out:
        out.write(b'{"emoji": "x", "text": "')
        for _ in range(100):
            out.write(BLOCK)
        out.write(b'"}\n')


def unclosed(path: Path) -> None:
    """A quote that never closes, 300 MB of it."""
    with path.open("wb") as out:
        out.write(b'text,emoji\n"')
        for _ in range(75):
            out.write(BLOCK)


def repeated(path: Path) -> None:
    """A text of 10,000 characters, 20,000 times, which a dictionary holds once."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["a" * 10_000]))
    emoji = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["☕"]))
    pa.parquet.write_table(pa.table({"text": text, "emoji": emoji}), path)


def source(name: str, make: Callable[[Path], object]) -> Callable[[Place], Iterator[Command]]:
    """Rows in one file, or where a pattern finds them."""

    def commands(place: Place) -> Iterator[Command]:
        make(place / name.partition("/")[0])
        place.recipe(source=name)
        yield prepare()

    return commands


def circular(folder: Path) -> None:
    folder.mkdir()
    for name in "ab":
        (folder / name).symlink_to(folder)
    (folder / "x.csv").write_text("text,emoji\nhi,☕\n")


def entries(place: Place) -> Iterator[Command]:
    place.jsonl([{"text": f"good morning {n}", "emoji": "x"} for n in range(ROWS)])
    for entry in ENTRIES:
        place.write("dataset_info.json", json.dumps({"a": {**ENTRY["a"], **entry}}))
        place.recipe("messages", "dataset_info.json#a")
        yield prepare()


def nested(place: Place) -> Iterator[Command]:
    place.write("dataset_info.json", '{"a": ' + "[" * 100_000)
    place.recipe("messages", "dataset_info.json#a")
    yield prepare()
    place.write("deep.jsonl", '{"text": ' + "[" * 100_000 + "\n")
    place.recipe(source="deep.jsonl")
    yield prepare()
    place.write("digits.jsonl", '{"text": "a", "emoji": ' + "9" * 5000 + "}\n")
    place.recipe(source="digits.jsonl")
    yield prepare()


def dated(place: Place) -> Iterator[Command]:
    """Dates that Python has no value for."""
    far = pa.array([2**62] * ROWS, pa.timestamp("us"))
    texts = pa.array([f"good morning {n}" for n in range(ROWS)])
    pa.parquet.write_table(pa.table({"text": texts, "emoji": ["☕"] * ROWS, "when": far}), place / "rows.parquet")
    place.recipe(source="rows.parquet")
    yield prepare()


def questions(place: Place) -> Iterator[Command]:
    """Rows to answer that are no conversations, for a run that was prepared well."""
    rows = [{"messages": [{"role": "user", "content": f"question {n} of many"}, TURNS[1]]} for n in range(ROWS)]
    place.jsonl(rows)
    place.recipe("messages", "rows.jsonl")
    yield prepare()
    for row in CHATS:
        place.jsonl([row], "asked.jsonl")
        yield ("generate", "runs/t", "--base", "--input", "asked.jsonl", "--output", "replies.jsonl")


ESCAPES = "\x1b]0;owned\x07\x1b[31m\u202e"


def escapes(place: Place) -> Iterator[Command]:
    """What would set the title of a window, its colours and the direction of text: as a column, in rows, as a name."""
    place.write("rows.csv", f"text{ESCAPES},emoji\nhi,x\n")
    place.recipe()
    yield prepare()
    yield prepare(f"train.epochs={ESCAPES}")
    place.emoji(f"{ESCAPES} hi,x\n", name="d[b]\u202e.csv")
    place.recipe(source="d[b]\u202e.csv")
    yield ("show", "t.yaml")


def kinds() -> Iterator[Kind]:
    either = f"{REFUSED} or {DROPPED} or {USUAL}"
    for what, commands, wanted, then in (
        ("one of 400 MB in a .gz of 0.4 MB", source("rows.jsonl.gz", one_row), REFUSED, "1,800 MB"),
        ("a quote in a CSV that closes after 300 MB", source("rows.csv", unclosed), REFUSED, "2,600 MB"),
        ("Parquet: 200 MB of text in some KB", source("rows.parquet", repeated), either, "770 MB in 893 bytes"),
        ("/dev/zero as a CSV", source("rows.csv", lambda path: path.symlink_to("/dev/zero")), REFUSED, "no end"),
        ("a pipe that nobody writes to", source("rows.csv", os.mkfifo), REFUSED, "no end"),
        ("** over two links to their own folder", source("d/**/*.csv", circular), REFUSED, "over 40 s"),
        ("100,000 brackets, 5,000 digits in JSON", nested, REFUSED, "tracebacks"),
        (f"dataset_info.json: {len(ENTRIES)} entries of another shape", entries, either, "tracebacks"),
        ("Parquet: a date after the year 9999", dated, USUAL, "traceback"),
        ("to be answered, that are no conversations", questions, either, "KeyError, AttributeError, TypeError"),
        (
            "escape sequences in a header, an override, rows, a name",
            escapes,
            f"{REFUSED} or {USUAL}",
            "reached the terminal",
        ),
    ):
        yield Kind(f"rows: {what}", commands, wanted, then)
