"""Text files: encodings, and lines."""

from __future__ import annotations

from pathlib import Path

from data.row_files import ROWS, as_csv, file, read, refused


def test_encodings(tmp_path: Path) -> None:
    text = "text,emoji\nhéllo,x\n"
    assert read(file(tmp_path / "a.csv", text.encode("cp1252")), encoding="cp1252")[0][1]["text"] == "héllo"
    assert read(file(tmp_path / "b.csv", text.encode("utf-16")), encoding="utf-16")[0][1]["text"] == "héllo"


def test_an_encoding_python_does_not_know(tmp_path: Path) -> None:
    path = file(tmp_path / "x.csv", as_csv(ROWS))
    assert "data.encoding: unknown encoding: utf-9" in refused(path, encoding="utf-9")
    assert "data.encoding: 'hex' is not a text encoding" in refused(path, encoding="hex")
    assert "not utf-16 text" in refused(path, encoding="utf-16")
