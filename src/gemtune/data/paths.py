"""Paths as people write them: separators of Windows, brackets in a name, letters composed in another way."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gemtune.errors import DataError


def composed(text: str) -> str:
    """Text in one Unicode form: macOS writes é as two characters, e and its accent.

    >>> composed("cafe\u0301") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text)


def at_home(name: str) -> Path:
    """The path with `~` written out; as it is where there is no such user.

    >>> at_home("~nobody-of-that-name/e.csv").as_posix()
    '~nobody-of-that-name/e.csv'
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def existing(path: Path) -> Path:
    """The path as the disk spells it, where its letters are only composed differently; itself where nothing is there.

    OSError and ValueError are those of `Path.exists`.
    """
    if path.exists() or path == path.parent:
        return path
    parent = existing(path.parent)
    if path.name.isascii() or not parent.is_dir():
        return parent / path.name
    return parent / _names(parent, parent.stat().st_mtime_ns).get(composed(path.name), path.name)


@lru_cache(maxsize=16)
def _names(folder: Path, changed: int) -> dict[str, str]:
    """The names in a folder by their composed form; kept until the folder has changed."""
    return {composed(name): name for name in sorted(os.listdir(folder))}


def refuse_special(path: Path) -> None:
    """DataError for a pipe or a device: it cannot be read twice, and may never end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path}: a pipe or a device; wanted a file: write what it gives to one, and name that")


def expanded(text: str, key: str) -> Path:
    """The path that a recipe's key writes, with `~` as the home folder; DataError where no file can be called so.

    >>> expanded("a\\0b.csv", "data.source")
    Traceback (most recent call last):
    gemtune.errors.DataError: data.source: 'a\\x00b.csv' cannot be a path (a NUL byte)
    """
    if "\0" in text:
        raise DataError(f"{key}: {text[:200]!r} cannot be a path (a NUL byte)")
    try:
        os.fsencode(text)
        return Path(text).expanduser()
    except (RuntimeError, UnicodeError) as error:
        raise DataError(f"{key}: {text[:200]!r} cannot be a path ({error})") from error


def is_there(path: Path) -> bool:
    """Whether something has this name; False also where nothing can have it."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, a NUL byte
        return False


def walk(folder: Path, *, follows: bool = False) -> Iterator[tuple[Path, list[str]]]:
    """Yields a folder and those below that are not hidden, each with the names of its files.

    `follows`: links to folders, too; each folder once, for links may lead in circles.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=follows):
        info = os.stat(place)
        if (info.st_dev, info.st_ino) in seen:
            folders.clear()
            continue
        seen.add((info.st_dev, info.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), names


def _raise(error: OSError) -> None:
    raise error


def matching(pattern: Path) -> tuple[Path, list[Path]]:
    """The folder that a pattern begins with, and the files that match it, by name.

    `**` is any number of folders. What is there as it is written is no pattern: `data[1]` may be a folder.
    """
    base, parts = Path(pattern.anchor), list(pattern.parts[1 if pattern.anchor else 0 :])
    while len(parts) > 1 and (not glob.has_magic(parts[0]) or is_there(base / parts[0])):
        base /= parts.pop(0)
    places = [base]
    for part in [*parts, "*"] if parts[-1:] == ["**"] else parts:
        places = [child for place in places for child in _children(place, part)]
    return base, sorted({place for place in places if place.is_file()})


def _children(place: Path, part: str) -> Iterator[Path]:
    if part == "**":
        yield from (folder for folder, _ in walk(place, follows=True))
    elif is_there(place / part):
        yield place / part
    elif glob.has_magic(part) and place.is_dir():
        names = fnmatch.filter(os.listdir(place), part)
        yield from (place / name for name in names if part.startswith(".") or not name.startswith("."))
