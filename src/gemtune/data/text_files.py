"""Text files, plain or packed: opened only where they are files, and read in lines that cannot fill memory."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from gemtune.data.paths import refuse_special
from gemtune.data.xz import MOST_MEMORY, open_xz
from gemtune.errors import DataError
from gemtune.files import READING, os_errors

MOST_ROW = 100_000_000  # characters of a row: 0.1 to 0.4 GB as a string, of which reading it takes a few

# What a packed file's name ends in -> what that is, and what opens it. Each unpacks while it is read.
PACKERS: dict[str, tuple[str, Callable[[Path], IO[bytes]]]] = {
    ".gz": ("gzip", cast("Callable[[Path], IO[bytes]]", gzip.open)),
    ".bz2": ("bzip2", bz2.open),
    ".xz": ("xz", open_xz),
}


@contextlib.contextmanager
def open_text(path: Path, encoding: str, newline: str) -> Iterator[IO[str]]:
    """Opens a text file, unpacking it; DataError names the byte that is not text in `encoding`."""
    try:
        # A byte order mark would otherwise become a part of the first column's name.
        encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        io.TextIOWrapper(io.BytesIO(), encoding)
    except (LookupError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"data.encoding: {error}; wanted one Python knows, such as utf-8, utf-16 or cp1252") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(os_errors(path, READING))
        stack.enter_context(_packing_errors(path))
        refuse_special(path)
        _, opener = PACKERS.get(path.suffix.lower(), ("", _open_plain))
        binary = stack.enter_context(opener(path))
        text = stack.enter_context(io.TextIOWrapper(binary, encoding, newline=newline))
        try:
            yield text
        except UnicodeError as error:
            raise DataError(f"{path}: {_undecodable(error, binary, encoding)}") from error


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


@contextlib.contextmanager
def _packing_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        suffix = path.suffix.lower()
        if suffix not in PACKERS or (
            isinstance(error, OSError) and error.errno is not None
        ):  # the disk's; gzip's and bz2's have none
            raise
        reason = " ".join(str(error).split())
        if "Memory usage limit" in reason:  # liblzma's words
            most = f"{MOST_MEMORY >> 20} MB, twice what `xz -9` needs"
            raise DataError(f"{path}: asks for more memory to unpack than {most}; pack it again with xz") from error
        move = f"copy or download it again, or drop {suffix} from its name if it is plain"
        raise DataError(f"{path}: damaged or not {PACKERS[suffix][0]} ({reason}); {move}") from error


def _undecodable(error: UnicodeError, binary: IO[bytes], encoding: str) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return f"not {encoding} text ({error}); set data.encoding to the one it was written in"
    offset = binary.tell() - len(error.object) + error.start  # the decoder's bytes end where reading stopped
    binary.seek(0)
    known = _unicode_by(binary.read(64))
    move = f"{known}, by its first bytes" if known else "the one it was written in (cp1252 for Excel on Windows)"
    byte = error.object[error.start]
    return f"byte {offset} (0x{byte:02x}) is not {encoding} text; set data.encoding to {move}"


def _unicode_by(head: bytes) -> str:
    """
    >>> [_unicode_by("text".encode(name)) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-8")]
    ['utf-16', 'utf-16-le', 'utf-16-be', '']
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    halves = head[1::2].count(0), head[::2].count(0)  # Latin letters have a NUL as their high byte
    return "utf-16-le" if halves[0] * 3 > len(head) else "utf-16-be" if halves[1] * 3 > len(head) else ""


class Lines:
    """The lines of a text, each with its end; those of the present row can be given back, to be read once more.

    >>> lines = Lines(io.StringIO("a\\nb\\nc"), "x.csv")
    >>> reader = iter(lines)
    >>> lines.begin(), next(reader), next(reader), lines.number
    (1, 'a\\n', 'b\\n', 2)
    >>> lines.give_back()
    >>> lines.begin(), list(lines)
    (2, ['b\\n', 'c'])
    """

    def __init__(self, text: IO[str], name: str):
        self._readline, self._name = text.readline, name
        self._again: list[str] = []  # the last of them first
        self._more = 0  # characters of the row behind its first line
        self.row: list[str] = []
        self.number = 0  # of the line that was read last
        self.has_nul = False  # the row

    def __iter__(self) -> Iterator[str]:
        row, again, readline = self.row, self._again, self._readline
        while line := again.pop() if again else readline(MOST_ROW):
            self.number += 1
            if row:
                self._more += len(line)
            if len(line) == MOST_ROW or self._more > MOST_ROW:
                raise DataError(too_long(f"{self._name}:{self.number}"))
            row.append(line)
            if "\0" in line:
                self.has_nul = True
            yield line

    @property
    def are_given_back(self) -> bool:
        """Whether there are lines to be read once more: an iterator that has come to the end yields them no more."""
        return bool(self._again)

    def begin(self) -> int:
        """Begins a row, and returns the number of its first line."""
        self.row.clear()
        self._more, self.has_nul = 0, False
        return self.number + 1

    def give_back(self, but: int = 1) -> None:
        """Gives back all lines of the row but the first `but`, to be read again."""
        self._again += reversed(self.row[but:])
        self.number -= len(self.row) - but
        del self.row[but:]


def too_long(where: str) -> str:
    """What is said of a row that is larger than any."""
    return f"{where}: a row of over {MOST_ROW / 1e6:.0f} million characters; is it one value? name pictures by path"
