"""Formats: the same rows from every one, with their places."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from data.row_files import ROWS, as_arrow, as_csv, as_jsonl, as_parquet, file, read, refused, source
from gemtune.data.formats import FORMATS, SUFFIXES, format_name
from gemtune.data.sources import source_files

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


def test_every_format_is_read_above_documented_and_taken_by_a_recipe() -> None:
    assert {format_name(Path(name)) for name in FILES} == set(FORMATS)
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    assert [suffix for suffix in SUFFIXES if f"`rows{suffix}`" not in page] == []
    assert [source("rows", format=name).format for name in FORMATS] == list(FORMATS)


def test_a_format_overrides_the_suffix(tmp_path: Path) -> None:
    path = file(tmp_path / "rows.txt", as_jsonl(ROWS))
    assert [row for _, row in read(path, format="jsonl")] == ROWS
    assert "tabs.csv:2" in read(file(tmp_path / "tabs.csv", "a,b\tc\n1\t2\n"), format="tsv")[0][0]
