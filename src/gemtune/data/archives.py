"""Zip and tar archives of pictures, read in place, whatever their headers claim.

Nothing is unpacked: no path can escape, and a run that was stopped leaves nothing half-extracted. Links, and members
that expand beyond a picture's size or ratio, are refused.
"""

from __future__ import annotations

import contextlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from gemtune.data.images import MOST_BYTES
from gemtune.errors import DataError, RowError

MOST_MEMBERS = 300_000  # 0.3 GB of their names and places
MOST_RATIO = 200  # of a member's size to its compressed size; pictures are compressed already
MOST_HEADER = 8 << 10  # bytes of a long name or of PAX records in a tar; tarfile is slow on long ones
_MOST_DIRECTORY = 64 << 20  # bytes of a zip's list of members
_PIECE = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # bzip2 and LZMA unpack a whole piece at once: 576 bytes to 1 GB
_LINK = 0o120000  # of a zip member's Unix mode
_HEADERS = (b"x", b"g", b"X", b"L", b"K")  # of PAX records and GNU's long names, as types of members
_PACKED_TAR = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")

# What zipfile and tarfile raise on archives that are cut, damaged, encrypted or made to break them.
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, OSError, RuntimeError),
    *(ValueError, LookupError, ArithmeticError, TypeError, AttributeError),
)

ReadMember = Callable[[], bytes]


def members_of(path: Path, most: int = MOST_MEMBERS) -> dict[str, ReadMember]:
    """A reader for every member of an archive by its name; one that must not be read raises RowError when it is.

    DataError for a file that is no archive, that cannot be listed, or that has more than `most` members.
    """
    try:
        return _zip_members(path, most) if zipfile.is_zipfile(path) else _tar_members(path, most)
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read as an archive ({_said(error)}); download it again") from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def _row_errors(name: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise RowError("bad archive member", f"{name[:200]}: {_said(error)}") from error


class _Directory(io.BufferedReader):
    """A zip file that is not read further where its list of members is too long to be held."""

    most = MOST_MEMBERS

    def read(self, size: int | None = -1, /) -> bytes:
        data = b"" if size is not None and size > _MOST_DIRECTORY else super().read(size)
        if data.count(b"PK\1\2") > self.most or (size is not None and size > _MOST_DIRECTORY):
            raise DataError(_too_many(Path(self.name), self.most))
        return data


def _too_many(path: Path, most: int) -> str:
    return f"{path}: too many members; at most {most} are read: split it"


def _zip_members(path: Path, most: int) -> dict[str, ReadMember]:
    file = _Directory(io.FileIO(path))  # open as long as rows are read
    file.most = most
    archive = zipfile.ZipFile(file)

    def reader(member: zipfile.ZipInfo) -> ReadMember:
        def read() -> bytes:
            with _row_errors(member.filename):
                return _zip_member(path, archive, member)

        return read

    return {member.filename: reader(member) for member in archive.infolist() if member.filename[-1:] not in ("", "/")}


def _zip_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    name = f"{path.name}/{member.filename[:200]}"
    if (member.external_attr >> 16) & 0o170000 == _LINK:
        raise RowError("bad archive member", f"{name} is a link; wanted a picture")
    if member.compress_type not in _METHODS:
        raise RowError("bad archive member", f"{name} is packed by method {member.compress_type}; zip it with deflate")
    _check_size(name, member.file_size, member.compress_size)
    with archive.open(member) as stream:
        return read_up_to(name, stream)


def _check_size(name: str, size: int, compressed: int) -> None:
    if size > MOST_BYTES:
        raise RowError("image too large", f"{name}: {size / 1e6:.0f} MB")
    if size > MOST_RATIO * max(1, compressed):
        growth = f"grows {size // max(1, compressed)}-fold (a zip bomb?)"
        raise RowError("bad archive member", f"{name} {growth}; wanted at most {MOST_RATIO}-fold")


def read_up_to(name: str, stream: IO[bytes]) -> bytes:
    """All of a stream, whatever size its header claims; RowError where that is more than a picture has."""
    data = bytearray()
    while piece := stream.read(_PIECE):
        data += piece
        if len(data) > MOST_BYTES:
            raise RowError("image too large", f"{name}: over {MOST_BYTES / 1e6:.0f} MB")
    return bytes(data)


class _Member(tarfile.TarInfo):
    """A header of a tar that leads forward: older Pythons run in circles on others."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:
            raise tarfile.ReadError(f"a member of {member.size} bytes")
        if member.type in _HEADERS and member.size > MOST_HEADER:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse member")
        return member


def _tar_members(path: Path, most: int) -> dict[str, ReadMember]:
    with path.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(_PACKED_TAR):
        raise DataError(f"{path}: a compressed tar cannot be read member by member; unpack it, or zip it")
    try:
        archive = tarfile.open(path, "r:", tarinfo=_Member)  # noqa: SIM115 (`with` follows)
    except tarfile.ReadError as error:
        raise DataError(f"{path}: neither a folder nor a zip or tar archive ({_said(error)}); name one") from error
    places: dict[str, ReadMember] = {}
    with archive:
        for count, member in enumerate(_headers(archive)):
            if count >= most:
                raise DataError(_too_many(path, most))
            if not member.isdir():
                places[member.name] = _tar_reader(path, member)
    return places


def _headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    before = -1
    while member := archive.next():
        if member.size < 0 or archive.offset <= before:
            raise tarfile.ReadError(f"a member of {member.size} bytes")
        before = archive.offset
        archive.members.clear()  # type: ignore[attr-defined]  # the archive would keep them all
        yield member


def _tar_reader(path: Path, member: tarfile.TarInfo) -> ReadMember:
    name, at, size = f"{path.name}/{member.name[:200]}", member.offset_data, member.size
    is_whole = member.isreg() and not member.issparse()

    def read() -> bytes:
        if not is_whole:
            raise RowError("bad archive member", f"{name} is a link; wanted a picture")
        _check_size(name, size, size)
        with _row_errors(name), path.open("rb") as stream:
            stream.seek(at)
            data = stream.read(size)
        if len(data) < size:
            raise RowError("bad archive member", f"{name}: the archive ends too early; download it again")
        return data

    return read
