"""Nothing is ever half-written, and what an operating system says becomes one line with the next move."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.errors import DataError, GemtuneError, RunError
from gemtune.files import (
    os_errors,
    read_json,
    read_jsonl,
    replacing,
    sha256_of_text,
    write_json,
    write_jsonl,
    write_text,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with pytest.raises(KeyError), replacing(path) as out:
        out.write("half")
        raise KeyError
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_generator_that_fails_leaves_the_old_lines(tmp_path: Path) -> None:
    def lines() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise DataError("row 2")

    write_jsonl(tmp_path / "a.jsonl", iter([{"old": 1}]))
    with pytest.raises(DataError, match="row 2"):
        write_jsonl(tmp_path / "a.jsonl", lines())
    assert list(read_jsonl(tmp_path / "a.jsonl")) == [{"old": 1}]
    assert len(list(tmp_path.iterdir())) == 1


@given(VALUES)
def test_json_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    """Also half a surrogate pair, which JSON can spell and UTF-8 cannot."""
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value
    write_jsonl(path, iter([{"value": value}]))
    assert list(read_jsonl(path)) == [{"value": value}]


def test_half_a_surrogate_pair_is_an_escape_on_disk(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"detail": "cut \ud83d", "emoji": "🏖"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert '"cut \\ud83d"' in text and "🏖" in text


def test_a_file_is_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_folders_are_made_on_the_way(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


IN_THE_WAY = {
    "a file for a folder": ("file/x.txt", "a file is where a folder should be"),
    "a folder for the file": ("folder", "a folder is where the file should be: remove it, or give another name"),
    "too long a name": ("x" * 300, "File name too long"),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_is_in_the_way_is_one_line(what: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    name, wanted = IN_THE_WAY[what]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(GemtuneError, match=wanted) as error:
        write_text(tmp_path / name, "x")
    assert "\n" not in str(error.value) and str(tmp_path / name) in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_says_so(code: int) -> None:
    with pytest.raises(GemtuneError, match="free some space, or choose another folder"), os_errors(Path("x")):
        raise OSError(code, os.strerror(code))


def test_a_device_that_is_full(tmp_path: Path) -> None:
    """/dev/full takes a file name and no byte."""
    full = Path("/dev/full")
    with pytest.raises(GemtuneError, match="No space left on device; free some space"), os_errors(full):
        full.write_text("x")


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1,\n "b": }')
    with pytest.raises(RunError, match=r"a\.json:2: broken JSON \(.*\); run the stage that wrote it again"):
        read_json(path)
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(RunError, match=r"a\.json:2: broken JSON"):
        list(read_jsonl(path))


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"a": "\xe9"}\n')
    for read in (read_json, lambda path: list(read_jsonl(path))):
        with pytest.raises(RunError, match="No such file or directory; run the stage"):
            read(tmp_path / "none")
        with pytest.raises(RunError, match="cannot be read as UTF-8 text"):
            read(tmp_path / "latin")
        with pytest.raises(RunError, match="Is a directory"):
            read(tmp_path)


@given(st.lists(st.text(st.characters())), st.lists(st.text(st.characters())))
def test_a_hash_of_texts_knows_where_one_ends(a: list[str], b: list[str]) -> None:
    assert (sha256_of_text(*a) == sha256_of_text(*b)) == (a == b)


def test_the_hash_is_sha256() -> None:
    assert sha256_of_text("ab", "c") != sha256_of_text("a", "bc")
    assert json.dumps("\ud83d") == '"\\ud83d"' and len(sha256_of_text("\ud83d")) == 64
