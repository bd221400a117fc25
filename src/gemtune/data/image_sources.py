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
from gemtune.data.paths import composed, existing
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

    def __init__(self, base: Path, names: list[str], download: ReadImage | None = None, hub: ReadImage | None = None):
        self._folders: list[Path] = []
        self._members: dict[str, ReadMember] = {}
        self._download, self._hub = download, hub
        for name in names or ["."]:
            path = existing(base / Path(name).expanduser())
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
        if "://" in name and self._hub is not None:
            return self._hub(name)
        if read := self._members.get(_normal(name)):
            try:
                return read()
            except _BROKEN as error:
                raise RowError("bad archive member", f"{name}: {error}") from error
        for folder in self._folders:
            if (path := _within(folder, name)) is not None:
                return _bytes_of(path, name)
        raise RowError("missing image", f"{name[:200]!r} is in none of data.images")


def _within(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, however the name is spelt; RowError when it leads out of the folder."""
    for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
        try:
            path = existing(folder / spelling).resolve()
            if not path.is_relative_to(folder):
                raise RowError("image outside", f"{name!r} leads out of {folder}; list its folder in data.images")
            if path.is_file():
                return path
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL byte, a link to itself
            raise RowError("missing image", f"{name[:200]!r} cannot be a file ({error})") from error
    return None


def _bytes_of(path: Path, name: str) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RowError("image too large", f"{name}: {path.stat().st_size / 1e6:.0f} MB")
        return path.read_bytes()
    except OSError as error:
        raise RowError("missing image", f"{name!r} cannot be read ({error.strerror})") from error


def _normal(name: str) -> str:
    """
    >>> _normal("./a//b/cup.png"), _normal("a\\\\cup.png"), _normal("cafe\u0301.png") == "caf\u00e9.png"
    ('a/b/cup.png', 'a/cup.png', True)
    """
    parts = PurePosixPath(composed(name).replace("\\", "/")).parts
    return "/".join(part for part in parts if part not in (".", "/"))


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


def hub_images(source: str) -> ReadImage:
    """Reads the pictures that a Hub data set names by path, as `hf://datasets/user/name@main/a.png`: only its own."""

    def read(name: str) -> bytes:
        if not name.split("::")[-1].startswith((f"hf://datasets/{source}@", f"hf://datasets/{source}/")):
            raise RowError("image outside", f"{name[:200]!r} is no file of the Hub data set {source}")
        try:
            import fsspec

            with fsspec.open(name, "rb") as stream:
                return _read_up_to(Path(source), name, stream)
        except (ImportError, OSError, ValueError) as error:
            raise RowError("image not here", f"{name[:200]}: {error}") from error

    return read
