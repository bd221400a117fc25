"""CSV: strings stay strings, fields have any size, and what csv wrote is read back."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.row_files import TEXT, file, read


def test_csv_keeps_strings_and_empty_values(tmp_path: Path) -> None:
    path = file(tmp_path / "x.csv", "\ufefftext,n\n,007\nNA,1.50\n")
    assert [row for _, row in read(path)] == [{"text": "", "n": "007"}, {"text": "NA", "n": "1.50"}]
    assert read(path, encoding="utf-8")[0][1]["text"] == ""  # the byte order mark is no part of the first name


def test_csv_takes_a_field_of_any_size(tmp_path: Path) -> None:
    path = file(tmp_path / "x.csv", f"text\n{'a' * 300_000}\n")
    assert len(read(path)[0][1]["text"]) == 300_000


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
