"""Where the images that rows name are looked up: folders, archives and, if the recipe says so, the network."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from gemtune.data.archives import ReadMember, members_of, read_up_to
from gemtune.data.images import MOST_BYTES, ReadImage
from gemtune.data.paths import composed, existing, expanded
from gemtune.errors import DataError, RowError


class ImageSources:
    """The folders and archives of a source's images, in the order in which they are searched."""

    def __init__(self, base: Path, names: list[str], download: ReadImage | None = None, hub: ReadImage | None = None):
        self._folders: list[Path] = []
        self._members: dict[str, ReadMember] = {}
        self._download, self._hub = download, hub
        for name in names or ["."]:
            path = existing(base / expanded(name, "data.images"))
            if path.is_dir():
                self._folders.append(path.resolve())
            elif path.is_file():
                members = {_normal(member): read for member, read in members_of(path).items()}
                self._members = members | self._members
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
            return read()
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


def hub_images(source: str) -> ReadImage:
    """Reads the pictures that a Hub data set names by path, as `hf://datasets/user/name@main/a.png`: only its own."""

    def read(name: str) -> bytes:
        if not name.split("::")[-1].startswith((f"hf://datasets/{source}@", f"hf://datasets/{source}/")):
            raise RowError("image outside", f"{name[:200]!r} is no file of the Hub data set {source}")
        try:
            import fsspec

            with fsspec.open(name, "rb") as stream:
                return read_up_to(name[:200], stream)
        except (ImportError, OSError, ValueError) as error:
            raise RowError("image not here", f"{name[:200]}: {error}") from error

    return read
