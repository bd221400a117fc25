"""CSV and TSV: rows of text under a header, read as people and programs write them."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterator
from pathlib import Path

from gemtune.data.rows import FileRows, row_maker
from gemtune.data.text_files import MOST_ROW, Lines, open_text
from gemtune.errors import DataError, listed

Fields = list[str]
Records = Iterator[tuple[int, Fields | csv.Error]]  # the line a record starts on, its fields

MARKS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}  # what may stand between fields, the usual first

_NUL = csv.Error("NUL")
_INSIDE = re.compile(r'[^"]*+(?:""[^"]*+)*+')  # of a quoted value, up to the quote that ends it
_BEFORE = re.compile("^[\\s\ufeff]+")  # a name
_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"')


def read_csv(path: Path, name: str, encoding: str, delimiter: str | None = None) -> FileRows:
    """Yields the rows of a CSV file, every value a string, each with the line it starts on; DataError for a broken one.

    A column without a name, as pandas writes its index, is left out.
    """
    with open_text(path, encoding, newline="") as text:
        lines = Lines(text, name)
        delimiter = delimiter or _delimiter(lines)
        header: Fields = []
        as_row = row_maker(header)
        csv.field_size_limit(MOST_ROW)
        records = _tab_records(lines, header) if delimiter == "\t" else _csv_records(lines, delimiter)
        for number, fields in records:
            where = f"{name}:{number}"
            if isinstance(fields, csv.Error):
                error = DataError(f"{where}: {_broken(fields)}")
                if not header:
                    raise error
                yield where, error
            elif header and len(fields) == len(header):
                yield where, as_row(fields)
            elif header and len(fields) > len(header) and not any(map(str.strip, fields[len(header) :])):
                yield where, as_row(fields[: len(header)])  # Excel fills its widest row's width
            elif not fields or (len(header) != 1 and len(fields) == 1 and not fields[0].strip()):
                continue  # a blank line
            elif not header:
                header += _named(fields, where)
                as_row = row_maker(header)
            else:
                yield where, DataError(f"{where}: {_wrong_count(len(fields), header, delimiter)}")


def read_tsv(path: Path, name: str, encoding: str) -> FileRows:
    """Like read_csv, with a tab between fields whatever the header holds."""
    return read_csv(path, name, encoding, "\t")


def _delimiter(lines: Lines) -> str:
    """What stands between the fields: the mark in the header that the first row has as often.

    >>> import io
    >>> texts = "a;b\\n1,5;2", "a (x, y)|b\\n1|2", "a,b;c", "sep=;\\na;b"
    >>> [_delimiter(Lines(io.StringIO(text), "")) for text in texts]
    [';', '|', ',', ';']
    """
    lines.begin()
    reader = iter(lines)
    head = next((line for line in reader if line.strip()), "")
    if told := re.fullmatch(r'"?sep=(.)"?\s*', head.lstrip("\ufeff")):  # as Excel reads it
        return told[1]
    header, first = _unquoted(head), _unquoted(next(reader, ""))
    marks = [mark for mark in MARKS if mark in header] or [","]
    lines.give_back(but=0)
    return next((mark for mark in marks if header.count(mark) == first.count(mark)), marks[0])


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"?', "", line)


def _csv_records(lines: Lines, delimiter: str) -> Records:
    reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    while True:
        number = lines.begin()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield number, error
            lines.give_back()
            reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
            continue
        if fields is None:
            return
        yield number, _NUL if lines.has_nul else fields


def _tab_records(lines: Lines, header: Fields) -> Records:
    """A field between tabs is quoted where the quote that ends it ends the field, too.

    Otherwise a quote is a character like others, as in what corpora and databases export. Where a quote is open, lines
    that each have as many fields as the header are rows of their own, unless a doubled quote says that CSV wrote them.
    """
    number = lines.begin()
    while True:
        reader = iter(lines)
        for line in reader:
            text = line.rstrip("\r\n")
            quoted = '"' in text
            fields = (
                _with_quotes(line, text, reader, lines, len(header)) if quoted else text.split("\t") if text else []
            )
            yield number, _NUL if lines.has_nul else fields
            number = lines.begin()
        if not lines.are_given_back:
            return


def _with_quotes(line: str, text: str, reader: Iterator[str], lines: Lines, columns: int) -> Fields:
    with contextlib.suppress(csv.Error):
        return next(csv.reader((text,), delimiter="\t", strict=True))
    quoted = _quoted_fields(line, reader)
    are_rows = columns > 1 and all(row.count("\t") + 1 == columns for row in lines.row)
    if quoted is not None and (not are_rows or any('""' in row for row in lines.row)):
        return quoted
    lines.give_back()
    fields = text.split("\t")
    return [match[1].replace('""', '"') if (match := _QUOTED.fullmatch(field)) else field for field in fields]


def _quoted_fields(line: str, lines: Iterator[str]) -> Fields | None:
    """The fields of a record by the rules of CSV, to its last line; None where a quote in it does not follow them."""
    fields: Fields = []
    at = 0
    while True:
        if line.startswith('"', at):
            pieces: list[str] = []
            at += 1
            while (end := _INSIDE.match(line, at).end()) == len(line):  # type: ignore[union-attr]  # matches anything
                pieces.append(line[at:])
                line, at = next(lines, ""), 0
                if not line:
                    return None
            pieces.append(line[at:end])
            fields.append("".join(pieces).replace('""', '"'))
            at = end + 1
        else:
            end = line.find("\t", at)
            fields.append(line[at:].rstrip("\r\n") if end < 0 else line[at:end])
            at = len(line) if end < 0 else end
        rest = line[at : at + 1]
        if rest != "\t":
            return fields if rest in ("", "\r", "\n") else None
        at += 1


def _named(names: Fields, where: str) -> Fields:
    """The names of the columns without white space and byte order marks around them; "" for none."""
    stripped = [_BEFORE.sub("", name).strip() for name in names]
    if not any(stripped):
        raise DataError(f"{where}: no column of the header has a name; name them in the file's first line")
    return [_unquote(name) if "\ufeff" in written else name for name, written in zip(stripped, names, strict=True)]


def _unquote(name: str) -> str:
    """A byte order mark in front of a name hides from csv that it is quoted."""
    return match[1].replace('""', '"').strip() if (match := _QUOTED.fullmatch(name)) else name


def _wrong_count(count: int, header: Fields, delimiter: str) -> str:
    mark = MARKS.get(delimiter, repr(delimiter))
    move = (
        f'put a value that holds a {mark} in double quotes, "like{delimiter} this"'.replace("\t", " ")
        if count > len(header)
        else f"add the missing {mark} (an empty value needs one too) or delete the row"
    )
    fields = "1 field" if count == 1 else f"{count} fields"
    return f"{fields}, wanted {len(header)} as in the header ({listed(header)}); {move}"


def _broken(error: csv.Error) -> str:
    words = str(error)
    if words == "NUL":
        return "a NUL byte; set data.encoding if the file is utf-16, or delete the byte"
    if "unexpected end of data" in words:
        return "a double quote in this row is never closed; close it"
    if "field larger" in words:
        return f"a value of over {MOST_ROW / 1e6:.0f} million characters; is a double quote before it never closed?"
    return f'broken CSV ({words}); a double quote inside a quoted value is written twice, "like ""this"""'
