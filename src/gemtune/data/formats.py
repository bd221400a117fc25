"""The file formats that rows come in: each reader yields (where, row), streams, and names the line that is broken.

`FORMATS`, at the end, is the only list of them: the recipe's `data.format`, suffixes and messages come from it.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from gemtune.data.json_stream import is_json_lines, json_rows, kind_of, reason
from gemtune.errors import DataError, listed
from gemtune.files import READING, os_errors

Row = dict[str, object]
Rows = Iterator[tuple[str, Row]]  # where the row is, for a human; the row


@dataclass(frozen=True)
class Format:
    """A file format: the suffixes that name it, and `read(path, name, encoding)`, which yields its rows.

    `name` is what the rows are called by: `emoji.csv` in `emoji.csv:12`.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path, str, str], Rows]


_MAX_FIELD = 2**31 - 1  # csv's own default stops at 131,072 characters; a C long holds no more on Windows
_PARQUET_ROWS = 256  # rows decoded at a time


def suffix_of(path: Path) -> str:
    """The suffix that names the format, in small letters, a `.gz` on top of it left off.

    >>> suffix_of(Path("Train.JSONL.gz"))
    '.jsonl'
    """
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def format_name(path: Path) -> str | None:
    """The name of the format that a path's suffix says, if it says one.

    >>> format_name(Path("rows.ndjson.gz")), format_name(Path("rows.txt"))
    ('jsonl', None)
    """
    return SUFFIXES.get(suffix_of(path))


def format_of(path: Path, name: str = "auto") -> Format:
    """The format of that name; with auto, the one that the path's suffix says."""
    known_name = format_name(path) if name == "auto" else name
    if known_name is None:
        suffix = suffix_of(path)
        move = CONVERSIONS.get(suffix, "set data.format to the one it is in")
        suffixes = f"{', '.join(SUFFIXES)} (text ones also with .gz)"
        raise DataError(f"{path}: unknown suffix {suffix!r}; wanted {suffixes}; {move}")
    return FORMATS[known_name]


@contextlib.contextmanager
def open_text(path: Path, encoding: str, newline: str) -> Iterator[IO[str]]:
    """Opens a text file, unpacking `.gz`; DataError names the byte that is not text in `encoding`."""
    try:
        # A byte order mark would otherwise become a part of the first column's name.
        encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
        io.TextIOWrapper(io.BytesIO(), encoding)
    except LookupError as error:
        raise DataError(f"data.encoding: {error}; wanted one Python knows, such as utf-8, utf-16 or cp1252") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(os_errors(path, READING))
        stack.enter_context(_gzip_errors(path))
        opener = cast("Callable[[Path], IO[bytes]]", gzip.open) if path.suffix.lower() == ".gz" else _open_plain
        binary = stack.enter_context(opener(path))
        text = stack.enter_context(io.TextIOWrapper(binary, encoding, newline=newline))
        try:
            yield text
        except UnicodeError as error:
            raise DataError(f"{path}: {_undecodable(error, binary, encoding)}") from error


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


@contextlib.contextmanager
def _gzip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split())
        move = "copy or download it again, or drop .gz from its name if it is plain"
        raise DataError(f"{path}: damaged or not gzip ({reason}); {move}") from error


def _undecodable(error: UnicodeError, binary: IO[bytes], encoding: str) -> str:
    if not isinstance(error, UnicodeDecodeError):
        return f"not {encoding} text ({error}); set data.encoding to the one it was written in"
    offset = binary.tell() - len(error.object) + error.start  # the decoder's bytes end where reading stopped
    binary.seek(0)
    is_utf_16 = binary.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    move = "utf-16, by its first two bytes" if is_utf_16 else "the one it was written in (cp1252 for Excel on Windows)"
    byte = error.object[error.start]
    return f"byte {offset} (0x{byte:02x}) is not {encoding} text; set data.encoding to {move}"


def read_csv(path: Path, name: str, encoding: str, delimiter: str | None = None) -> Rows:
    """Yields the rows of a CSV file, every value a string, each with the line it starts on."""
    csv.field_size_limit(_MAX_FIELD)
    with open_text(path, encoding, newline="") as text:
        lines = _without_nul(text, name)
        head: list[str] = []  # up to the header, for csv to count the blank lines above it
        for line in lines:
            head.append(line)
            if line.strip():
                break
        delimiter = delimiter or _delimiter("".join(head))
        reader = csv.reader(itertools.chain(head, lines), delimiter=delimiter, strict=True)
        header: list[str] = []
        while True:
            where = f"{name}:{reader.line_num + 1}"
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise DataError(f"{where}: {_broken_csv(error)}") from error
            if fields is None:
                return
            if not fields or (len(header) != 1 and len(fields) == 1 and not fields[0].strip()):
                continue  # a blank line
            if not header:
                header = _checked_header(fields, where)
            elif len(fields) != len(header):
                raise DataError(f"{where}: {_wrong_count(len(fields), header, delimiter)}")
            else:
                yield where, dict(zip(header, fields, strict=True))


def read_tsv(path: Path, name: str, encoding: str) -> Rows:
    """Like read_csv, with a tab between fields whatever the header holds."""
    return read_csv(path, name, encoding, "\t")


def _without_nul(text: IO[str], name: str) -> Iterator[str]:
    for number, line in enumerate(text, 1):
        if "\0" in line:
            raise DataError(f"{name}:{number}: a NUL byte; set data.encoding if the file is utf-16, or delete the byte")
        yield line


def _delimiter(header: str) -> str:
    """
    >>> _delimiter("text;emoji"), _delimiter("text,a;b"), _delimiter("text")
    (';', ',', ',')
    """
    return "," if "," in header else max(",;\t", key=header.count)


def _duplicate(names: list[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


def _checked_header(names: list[str], where: str) -> list[str]:
    empty = [str(number) for number, name in enumerate(names, 1) if not name.strip()]
    if empty:
        raise DataError(
            f"{where}: column {', '.join(empty)} of the header has no name (found {listed(map(repr, names))}); "
            "name it, or write the file without its index column (pandas: index=False)"
        )
    if duplicate := _duplicate(names):
        raise DataError(f"{where}: column {duplicate!r} stands twice in the header; rename one of them")
    return names


def _wrong_count(count: int, header: list[str], delimiter: str) -> str:
    mark = {",": "comma", ";": "semicolon", "\t": "tab"}[delimiter]
    move = (
        f'put a value that holds a {mark} in double quotes, "like{delimiter} this"'.replace("\t", " ")
        if count > len(header)
        else f"add the missing {mark} (an empty value needs one too) or delete the row"
    )
    fields = "1 field" if count == 1 else f"{count} fields"
    return f"{fields}, wanted {len(header)} as in the header ({listed(header)}); {move}"


def _broken_csv(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a double quote in this row is never closed; close it"
    return f'broken CSV ({error}); a double quote inside a quoted value is written twice, "like ""this"""'


def read_jsonl(path: Path, name: str, encoding: str) -> Rows:
    """Yields the object on every line that is not blank."""
    with open_text(path, encoding, newline="\n") as text:  # other line ends may stand inside a JSON string
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            where = f"{name}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                column = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
                raise DataError(
                    f"{where}: broken JSON ({reason(error)}{column}); wanted one object per line: mend or delete it, "
                    "or set data.format: json if the file is one array"
                ) from error
            if not isinstance(row, dict):
                move = "set data.format: json" if isinstance(row, list) else "give the value a name"
                raise DataError(f"{where}: {kind_of(row)}; wanted an object with named values, {{...}}: {move}")
            yield where, row


def read_json(path: Path, name: str, encoding: str) -> Rows:
    """Yields the objects of an array, of an object that holds one array, or of JSON Lines that are called .json."""
    with open_text(path, encoding, newline="") as text:
        is_lines = is_json_lines(text)
    if is_lines:
        yield from read_jsonl(path, name, encoding)
        return
    with open_text(path, encoding, newline="") as text:
        for number, row in json_rows(text, name):
            yield f"{name}[{number}]", row


def read_parquet(path: Path, name: str, encoding: str) -> Rows:
    """Yields the rows of a Parquet file, decoded a few at a time; `encoding` is not used."""
    import pyarrow
    import pyarrow.parquet

    with os_errors(path, READING):
        if not path.stat().st_size:
            return
    try:
        with os_errors(path, READING), pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            names = file.schema_arrow.names
            if duplicate := _duplicate(names):
                raise DataError(f"{path}: column {duplicate!r} stands twice; rename one of them")
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{name}[{number}]", row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        problem = str(error).splitlines()[0]
        raise DataError(f"{path}: damaged or not Parquet ({problem}); copy or download it again") from error


FORMATS: dict[str, Format] = {
    "csv": Format((".csv",), read_csv),
    "tsv": Format((".tsv",), read_tsv),
    "json": Format((".json",), read_json),
    "jsonl": Format((".jsonl", ".ndjson"), read_jsonl),
    "parquet": Format((".parquet",), read_parquet),
}
SUFFIXES = {suffix: name for name, format in FORMATS.items() for suffix in format.suffixes}

# Suffixes of what people have and gemtune does not read -> the next move.
CONVERSIONS = {
    ".xlsx": "save the sheet as `CSV UTF-8`",
    ".xls": "save the sheet as `CSV UTF-8`",
    ".arrow": "write it with Dataset.to_parquet",
    ".zip": "unpack it first",
    ".tar": "unpack it first",
    ".zst": "unpack it first",
    ".bz2": "unpack it first",
    ".xz": "unpack it first",
}
