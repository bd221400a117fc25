"""Columns under the user's names; one that is missing is named with its likely name."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.row_files import file, read, refused
from gemtune.data.columns import check_columns
from gemtune.errors import DataError


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
