"""Where the images that rows name are looked up: folders, zip and tar archives and, if the recipe says so, the network.

Nothing is unpacked: a member is read in place, so no path can escape, and a run that was stopped leaves nothing
half-extracted. Links, and members that expand beyond a picture's size or ratio, are refused.
"""

from __future__ import annotations

import http.client
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from gemtune.data.images import MOST_BYTES, ReadImage
from gemtune.errors import DataError, RowError
from gemtune.files import cache_folder, sha256_of_text, write_bytes

DOWNLOAD_SECONDS = 30  # until the server must have answered
MOST_MEMBERS = 1_000_000
MOST_RATIO = 200  # of a member's size to its compressed size; pictures are compressed already
_LINK = 0o120000  # of a zip member's Unix mode
# A member that is truncated, damaged, encrypted (RuntimeError) or compressed in a way that Python cannot read.
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError)

ReadMember = Callable[[], bytes]


class ImageSources:
    """The folders and archives of a source's images, in the order in which they are searched."""

    def __init__(self, base: Path, names: list[str], download: ReadImage | None = None):
        self._folders: list[Path] = []
        self._members: dict[str, ReadMember] = {}
        self._download = download
        for name in names or ["."]:
            path = base / Path(name).expanduser()
            if path.is_dir():
                self._folders.append(path.resolve())
            elif path.is_file():
                self._members |= {key: read for key, read in _index(path).items() if key not in self._members}
            else:
                raise DataError(f"data.images: {path}: no such folder or archive")

    def read(self, name: str) -> bytes:
        """The bytes that a name stands for: a URL, a member of an archive, or a file in one of the folders."""
        if name.startswith(("http://", "https://")):
            if self._download is None:
                raise RowError("image not here", f"{name[:100]} is on the network; set data.download_images: true")
            return self._download(name)
        if read := self._members.get(_normal(name)):
            try:
                return read()
            except _BROKEN as error:
                raise RowError("bad archive member", f"{name}: {error}") from error
        for folder in self._folders:
            path = (folder / name).resolve()
            if not path.is_relative_to(folder):
                raise RowError("image outside", f"{name!r} leads out of {folder}; list its folder in data.images")
            if path.is_file():
                if path.stat().st_size > MOST_BYTES:
                    raise RowError("image too large", f"{name}: {path.stat().st_size / 1e6:.0f} MB")
                return path.read_bytes()
        raise RowError("missing image", f"{name!r} is in none of data.images")


def _normal(name: str) -> str:
    """
    >>> _normal("./a//b/cup.png"), _normal("a\\\\cup.png")
    ('a/b/cup.png', 'a/cup.png')
    """
    return "/".join(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in (".", "/"))


def _index(path: Path) -> dict[str, ReadMember]:
    """A reader for every member of an archive; one that must not be read raises RowError when it is."""
    try:
        if zipfile.is_zipfile(path):
            return _zip_index(path)
        if tarfile.is_tarfile(path):
            return _tar_index(path)
    except (zipfile.BadZipFile, tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: cannot be read as an archive ({error}); download it again") from error
    raise DataError(f"{path}: neither a folder nor a zip or tar archive; name one in data.images")


def _zip_index(path: Path) -> dict[str, ReadMember]:
    archive = zipfile.ZipFile(path)
    members = archive.infolist()
    _check_count(path, len(members))

    def reader(member: zipfile.ZipInfo) -> ReadMember:
        def read() -> bytes:
            if (member.external_attr >> 16) & 0o170000 == _LINK:
                raise RowError("bad archive member", f"{path.name}/{member.filename} is a link; wanted a picture")
            _check_size(path, member.filename, member.file_size, member.compress_size)
            with archive.open(member) as stream:
                return _read_up_to(path, member.filename, stream)

        return read

    return {_normal(member.filename): reader(member) for member in members if not member.is_dir()}


def _tar_index(path: Path) -> dict[str, ReadMember]:
    try:
        archive = tarfile.open(path, "r:")  # noqa: SIM115 (open as long as rows are read)
    except tarfile.ReadError as error:
        raise DataError(f"{path}: a compressed tar cannot be read member by member; unpack it, or zip it") from error
    members = archive.getmembers()
    _check_count(path, len(members))

    def reader(member: tarfile.TarInfo) -> ReadMember:
        def read() -> bytes:
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None:
                raise RowError("bad archive member", f"{path.name}/{member.name} is a link; wanted a picture")
            _check_size(path, member.name, member.size, member.size)
            return _read_up_to(path, member.name, stream)

        return read

    return {_normal(member.name): reader(member) for member in members if not member.isdir()}


def _check_count(path: Path, count: int) -> None:
    if count > MOST_MEMBERS:
        raise DataError(f"{path}: {count} members; at most {MOST_MEMBERS} are read")


def _check_size(path: Path, name: str, size: int, compressed: int) -> None:
    if size > MOST_BYTES:
        raise RowError("image too large", f"{path.name}/{name}: {size / 1e6:.0f} MB")
    if size > MOST_RATIO * max(1, compressed):
        detail = (
            f"{path.name}/{name} grows {size // max(1, compressed)}-fold (a zip bomb?); wanted at most {MOST_RATIO}"
        )
        raise RowError("bad archive member", detail)


def _read_up_to(path: Path, name: str, stream: IO[bytes]) -> bytes:
    """All of a member, whatever size its header claims."""
    data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise RowError("image too large", f"{path.name}/{name}: over {MOST_BYTES / 1e6:.0f} MB")
    return data


def download(url: str) -> bytes:
    """The image at an http(s) URL, kept in the user's cache; RowError when it cannot be had or is too large."""
    cached = cache_folder() / "downloads" / sha256_of_text(url)
    if cached.is_file():
        return cached.read_bytes()
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_SECONDS) as response:  # noqa: S310 (http and https only, see `ImageSources.read`; urllib follows no redirect to a file)
            data: bytes = response.read(MOST_BYTES + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise RowError("image not here", f"{url[:100]}: {error}") from error
    if len(data) > MOST_BYTES:
        raise RowError("image too large", f"{url[:100]}: over {MOST_BYTES / 1e6:.0f} MB")
    write_bytes(cached, data)
    return data
