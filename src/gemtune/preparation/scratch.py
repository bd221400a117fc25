"""Scratch files for what prepare holds of every row: texts and numbers, and the rows that share a number.

Nothing of a row stays in memory: numbers are read a piece of the file at a time, and beyond some millions of rows
DuckDB sorts them on disk.
"""

from __future__ import annotations

import contextlib
import tempfile
from array import array
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemtune.files import os_errors

PIECE = 1 << 19  # rows that are looked at together
IN_MEMORY = 2_000_000  # rows up to which numpy sorts, in 48 bytes a row; more by DuckDB, in MEMORY at most
MEMORY = "600MB"
_WRITTEN = 1 << 16  # numbers at once

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]  # of all rows: those that are meant
Of = Callable[[slice], Hashes]  # a number of each row of a piece


class NumberFile:
    """Numbers in a scratch file; `values` are an array over it, whose pages the system takes back when it likes."""

    def __init__(self, folder: Path, kind: str):
        self._folder, self._pending = folder, array(kind)
        self._count, self._dtype = 0, np.dtype(kind if kind != "Q" else np.uint64)
        with os_errors(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (`close` closes it)

    def append(self, number: int) -> None:
        self._pending.append(number)
        if len(self._pending) == _WRITTEN:
            self._write()

    def __len__(self) -> int:
        return self._count + len(self._pending)

    @property
    def values(self) -> NDArray[Any]:
        self._write()
        return np.memmap(self._file, self._dtype, "r+", shape=self._count) if self._count else np.empty(0, self._dtype)

    def _write(self) -> None:
        if self._pending:
            with os_errors(self._folder):
                self._file.seek(0, 2)
                self._file.write(self._pending.tobytes())
                self._file.flush()
            self._count, self._pending = self._count + len(self._pending), array(self._pending.typecode)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # as TextFile
            self._file.close()


class TextFile:
    """Texts in a scratch file, read by number."""

    def __init__(self, folder: Path):
        self._folder, self._size = folder, 0
        self._starts = NumberFile(folder, "Q")
        self._read: NDArray[Any] = np.empty(0, np.uint64)  # the starts as far as they have been asked for
        with os_errors(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (`close` closes it)

    def append(self, text: str) -> None:
        data = text.encode("utf-8")
        self._starts.append(self._size)
        with os_errors(self._folder):
            self._file.write(data)
        self._size += len(data)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(number)
        if len(self._read) != len(self):
            self._read = self._starts.values
        start = int(self._read[number])
        end = int(self._read[number + 1]) if number + 1 < len(self) else self._size
        with os_errors(self._folder):
            self._file.seek(start)
            return self._file.read(end - start).decode("utf-8")

    def close(self) -> None:
        self._starts.close()
        with contextlib.suppress(OSError):  # on a full disk closing writes once more; the text is not needed any more
            self._file.close()


def pieces(mask: Mask) -> Iterator[tuple[slice, Numbers]]:
    """Yields some rows piece by piece: where the piece lies among all rows, and their numbers."""
    for start in range(0, len(mask), PIECE):
        part = slice(start, start + PIECE)
        yield part, np.flatnonzero(mask[part]) + start


def numbers_of(mask: Mask) -> Iterator[int]:
    """Yields the numbers of some rows.

    >>> list(numbers_of(np.array([True, False, True])))
    [0, 2]
    """
    return (row for _, rows in pieces(mask) for row in rows.tolist())


def together(of: Of, rows: Mask, folder: Path | None = None) -> Iterator[tuple[Hashes, Numbers]]:
    """Yields, of some rows, those that share their number with another: numbers and rows, sorted by number and row.

    Rows of one number come in one piece. `folder` is where DuckDB may write; None: where it likes.

    >>> values = np.array([7, 5, 7, 6, 5], np.uint64)
    >>> [(numbers.tolist(), rows.tolist()) for numbers, rows in together(lambda part: values[part], values > 0)]
    [([5, 5, 7, 7], [1, 4, 0, 2])]
    """
    found = ((of(part)[numbers - part.start], numbers) for part, numbers in pieces(rows))
    if np.count_nonzero(rows) > IN_MEMORY and find_spec("duckdb"):
        yield from _by_duckdb(found, folder)
        return
    values, numbers = np.empty(0, np.uint64), np.empty(0, np.int64)
    if everything := list(found):
        values, numbers = (np.concatenate(arrays) for arrays in zip(*everything, strict=True))
    del everything
    order = np.argsort(values, kind="stable")
    yield _shared(values[order], numbers[order])


def _by_duckdb(found: Iterator[tuple[Hashes, Numbers]], folder: Path | None) -> Iterator[tuple[Hashes, Numbers]]:
    import duckdb
    import pyarrow as pa

    schema = pa.schema([("number", pa.uint64()), ("row", pa.int64())])
    batches = (pa.record_batch([pa.array(values), pa.array(rows)], schema=schema) for values, rows in found)
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    settings = {"memory_limit": MEMORY, **({"temp_directory": str(folder)} if folder else {})}
    with duckdb.connect(config=settings) as database:
        database.register("found", reader)
        answer = database.sql("SELECT number, row FROM found ORDER BY number, row")
        values, numbers = np.empty(0, np.uint64), np.empty(0, np.int64)
        for batch in answer.to_arrow_reader(PIECE):
            values = np.concatenate([values, batch["number"].to_numpy()])
            numbers = np.concatenate([numbers, batch["row"].to_numpy()])
            end = int(np.searchsorted(values, values[-1]))  # what has the last number may go on
            yield _shared(values[:end], numbers[:end])
            values, numbers = values[end:], numbers[end:]
        yield _shared(values, numbers)


def _shared(values: Hashes, rows: Numbers) -> tuple[Hashes, Numbers]:
    """Of sorted values those that occur more than once."""
    is_equal = values[1:] == values[:-1]
    is_shared = np.zeros(len(values), bool)
    is_shared[1:] |= is_equal
    is_shared[:-1] |= is_equal
    return values[is_shared], rows[is_shared]


def repeats(of: Of, rows: Mask, folder: Path | None = None) -> tuple[Numbers, Numbers]:
    """Of some rows those with the number of an earlier one, and for each of them the first such row.

    >>> values = np.array([7, 5, 7, 6, 5, 5], np.uint64)
    >>> [found.tolist() for found in repeats(lambda part: values[part], values > 0)]
    [[2, 4, 5], [0, 1, 1]]
    """
    pairs = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    for values, numbers in together(of, rows, folder):
        begins = np.flatnonzero(np.diff(values, prepend=~values[:1]))
        firsts = np.repeat(numbers[begins], np.diff(begins, append=len(values)))
        is_later = numbers != firsts
        pairs.append((numbers[is_later], firsts[is_later]))
    later, first = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    order = np.argsort(later)
    return later[order], first[order]


def without(rows: Mask, dropped: Numbers) -> Mask:
    """Some rows but those that are dropped."""
    kept = rows.copy()
    kept[dropped] = False
    return kept
