"""Packed text that asks for more memory than its size tells."""

from __future__ import annotations

import lzma
import zlib
from pathlib import Path

import pytest

from gemtune.data.sources import read_rows
from gemtune.data.xz import open_xz
from gemtune.errors import DataError
from gemtune.recipe.schema import DataSource

TEXT = b"text,emoji\n" + b"".join(b"good morning %d,\xe2\x98\x95\n" % number for number in range(300))
HEADER = 12  # bytes of a stream's, in front of its first block's
DICTIONARIES = {64 << 20: 28, 1536 << 20: 37}  # bytes: how a block's header says so


def with_dictionary(packed: bytes, size: int) -> bytes:
    """The same stream whose first block asks for a dictionary of that size."""
    length = (packed[HEADER] + 1) * 4
    block = bytearray(packed[HEADER : HEADER + length])
    block[block.index(b"\x21\x01") + 2] = DICTIONARIES[size]
    block[-4:] = zlib.crc32(block[:-4]).to_bytes(4, "little")
    return packed[:HEADER] + bytes(block) + packed[HEADER + length :]


def rows_of(path: Path) -> int:
    return len(list(read_rows(DataSource(source=str(path)))))


def test_streams_and_padding_are_one_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.xz"
    half = len(TEXT) // 2
    parts = (lzma.compress(TEXT[:half]), b"\0" * 131_072, lzma.compress(b""), lzma.compress(TEXT[half:]), b"\0" * 8)
    path.write_bytes(b"".join(parts))
    assert rows_of(path) == 300
    with open_xz(path) as stream:
        assert stream.read() == TEXT and stream.tell() == len(TEXT)
        stream.seek(0)
        assert stream.read(9) == TEXT[:9]


def test_what_xz_itself_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.xz"
    path.write_bytes(with_dictionary(lzma.compress(TEXT), 64 << 20))  # of `xz -9`
    assert rows_of(path) == 300


@pytest.mark.parametrize("first", [b"", lzma.compress(TEXT)], ids=["alone", "after another stream"])
def test_a_dictionary_that_fills_memory_is_refused(first: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.xz"
    path.write_bytes(first + with_dictionary(lzma.compress(TEXT), 1536 << 20))
    with pytest.raises(DataError, match=r"asks for more memory to unpack than 128 MB, .*; pack it again with xz"):
        rows_of(path)


@pytest.mark.parametrize("data", [lzma.compress(TEXT)[:-9], lzma.compress(TEXT) + b"more", b"", TEXT])
def test_a_damaged_file_is_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.xz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"rows\.csv\.xz: damaged or not xz \(.*copy or download it again"):
        rows_of(path)
