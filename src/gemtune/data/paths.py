"""Paths as people write them: separators of Windows, brackets in a name, letters composed in another way."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path


def composed(text: str) -> str:
    """Text in one Unicode form: macOS writes é as two characters, e and its accent.

    >>> composed("cafe\u0301") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text)


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
