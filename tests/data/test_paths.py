"""Files, folders and globs: found in order, and what is not there is named with the nearest name."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.row_files import ROWS, as_csv, as_jsonl, file, read, refused, source
from gemtune.data.sources import source_files


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
