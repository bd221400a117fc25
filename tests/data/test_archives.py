"""Archives whose headers lie: read in pieces, counted while they are read, and never a traceback."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gemtune.data.archives import MOST_MEMBERS, members_of
from gemtune.errors import DataError, RowError

PICTURE = b"the bytes of a picture" * 20


def zip_of(path: Path, method: int, data: bytes, **changes: int) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", data)
    content = path.read_bytes()
    for field, value in changes.items():
        real = {"size": len(data), "crc": zipfile.crc32(data)}[field]
        content = content.replace(struct.pack("<I", real), struct.pack("<I", value))
    path.write_bytes(content)
    return path


def tar_header(name: str, size: int, kind: bytes = b"0") -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def refused(read: Callable[[], object]) -> str:
    with pytest.raises((RowError, DataError)) as error:
        read()
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    return str(error.value)


def test_what_is_plainly_packed_is_read(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert members_of(zip_of(tmp_path / "a.zip", method, PICTURE))["a.png"]() == PICTURE
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=kind) as archive:
            for name in ("short.png", "ö" * 60 + "/" + "x" * 40 + ".png"):
                member = tarfile.TarInfo(name)
                member.size = len(PICTURE)
                archive.addfile(member, io.BytesIO(PICTURE))
        assert [read() for read in members_of(tmp_path / "a.tar").values()] == [PICTURE] * 2


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_unpacks_everything_at_once_is_refused(tmp_path: Path, method: int) -> None:
    path = zip_of(tmp_path / "bomb.zip", method, bytes(100_000_000), size=1000)
    read = members_of(path)["a.png"]
    tracemalloc.start()
    said = refused(read)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"packed by method {method}" in said
    assert peak < 1e6


def test_a_size_that_lies_is_counted(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "lie.zip", zipfile.ZIP_DEFLATED, bytes(80_000_000), size=1000)
    assert "a.png" in refused(members_of(path)["a.png"])


def test_too_many_members_are_counted_before_they_are_listed(tmp_path: Path) -> None:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, *([0] * 4), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * (MOST_MEMBERS + 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)
    (tmp_path / "many.zip").write_bytes(directory + end)
    assert "too many members; at most 300000" in refused(lambda: members_of(tmp_path / "many.zip"))
    (tmp_path / "many.tar").write_bytes(tar_header("a", 0) * 101)
    assert "too many members; at most 100" in refused(lambda: members_of(tmp_path / "many.tar", most=100))


def test_a_tar_that_leads_backward_ends(tmp_path: Path) -> None:
    first, last = tar_header("a.png", 512) + bytes(512), tar_header("c.png", 0) + bytes(1024)
    backward = bytearray(tar_header("b.png", 0))
    backward[124:136] = b"\xff" * 8 + (-512).to_bytes(4, "big", signed=True)
    backward[148:156] = b" " * 8
    backward[148:156] = b"%06o\0 " % sum(backward)
    (tmp_path / "x.tar").write_bytes(first + backward + last)
    assert "a member of -512 bytes" in refused(lambda: members_of(tmp_path / "x.tar"))


@pytest.mark.parametrize("size", [b"-512", b"-1", b"9" * 4000, b"x"])
def test_a_size_in_a_pax_record_that_leads_nowhere_ends(tmp_path: Path, size: bytes) -> None:
    record = b"%d size=%s\n" % (len(size) + 10, size)
    record = b"%d size=%s\n" % (len(record), size)
    padded = record + bytes(-len(record) % 512)
    content = tar_header("pax", len(record), b"x") + padded + tar_header("a.png", 512) + bytes(512 + 1024)
    (tmp_path / "x.tar").write_bytes(content)
    try:
        for read in members_of(tmp_path / "x.tar").values():
            assert read() in (b"", bytes(512))
    except (DataError, RowError) as error:
        assert "x.tar" in str(error)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"S"])
def test_a_long_header_is_refused(tmp_path: Path, kind: bytes) -> None:
    content = tar_header("pax", 40_960, kind) + b"9" * 40_960 + tar_header("a.png", 0) + bytes(1024)
    (tmp_path / "x.tar").write_bytes(content)
    said = refused(lambda: members_of(tmp_path / "x.tar"))
    assert "a header of 40960 bytes" in said or "a sparse member" in said


def test_a_compressed_tar_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(30_000_000)))
    assert "a compressed tar cannot be read" in refused(lambda: members_of(tmp_path / "x.tar.gz"))


@pytest.mark.parametrize("name", ["", "a\0b", "/etc/passwd", "../up.png", "x" * 60_000, "dir/"])
def test_any_name_of_a_member_is_listed_or_left_out(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("b.png"), PICTURE)
        archive.writestr(zipfile.ZipInfo("c" * len(name.encode())), PICTURE)
    content = (tmp_path / "a.zip").read_bytes().replace(b"c" * len(name), name.encode()) if name else b""
    (tmp_path / "a.zip").write_bytes(content or (tmp_path / "a.zip").read_bytes())
    assert members_of(tmp_path / "a.zip")["b.png"]() == PICTURE


def test_a_member_that_is_cut_off_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_header("a.png", 512) + bytes(512) + tar_header("b.png", 5000) + bytes(100))
    try:
        members = members_of(tmp_path / "x.tar")
    except DataError as error:
        assert "x.tar: cannot be read as an archive" in str(error)
    else:
        assert members["a.png"]() == bytes(512)
        assert "ends too early" in refused(members["b.png"])
