"""The file formats that rows come in: each reader yields (where, row), streams, and names the line that is broken.

`FORMATS`, at the end, is the only list of them: the recipe's `data.format`, suffixes and messages come from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gemtune.data.columnar import read_arrow, read_parquet
from gemtune.data.delimited import read_csv, read_tsv
from gemtune.data.json_rows import read_json, read_jsonl
from gemtune.data.rows import FileRows, Row, Rows
from gemtune.data.text_files import PACKERS
from gemtune.errors import DataError

__all__ = ["CONVERSIONS", "FORMATS", "SUFFIXES", "Format", "Row", "Rows", "format_name", "format_of", "suffix_of"]


@dataclass(frozen=True)
class Format:
    """A file format: the suffixes that name it, and `read(path, name, encoding)`, which yields its rows.

    `name` is what the rows are called by: `emoji.csv` in `emoji.csv:12`.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path, str, str], FileRows]


def suffix_of(path: Path) -> str:
    """The suffix that names the format, in small letters, a `.gz`, `.bz2` or `.xz` on top of it left off.

    >>> suffix_of(Path("Train.JSONL.gz"))
    '.jsonl'
    """
    return Path(path.stem if path.suffix.lower() in PACKERS else path.name).suffix.lower()


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
        suffixes = f"{', '.join(SUFFIXES)} (text ones also with {', '.join(PACKERS)})"
        raise DataError(f"{path}: unknown suffix {suffix!r}; wanted {suffixes}; {move}")
    return FORMATS[known_name]


FORMATS: dict[str, Format] = {
    "csv": Format((".csv",), read_csv),
    "tsv": Format((".tsv",), read_tsv),
    "json": Format((".json",), read_json),
    "jsonl": Format((".jsonl", ".ndjson"), read_jsonl),
    "parquet": Format((".parquet",), read_parquet),
    "arrow": Format((".arrow", ".feather"), read_arrow),
}
SUFFIXES = {suffix: name for name, format in FORMATS.items() for suffix in format.suffixes}

# Suffixes of what people have and gemtune does not read -> the next move.
CONVERSIONS = {
    ".xlsx": "save the sheet as `CSV UTF-8`",
    ".xls": "save the sheet as `CSV UTF-8`",
    ".zip": "unpack it first",
    ".tar": "unpack it first",
    ".zst": "unpack it first",
    ".pkl": "write it as Parquet: a pickle runs code when it is read",
}
