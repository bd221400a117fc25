"""The columns that a task wants and a recipe names, in rows as their file has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from gemtune.data.cells import Unreadable, unpacked
from gemtune.data.rows import Row, Rows
from gemtune.errors import DataError, did_you_mean, listed, nearest

_YAML_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")  # which YAML takes for something else


def check_columns(row: Row, columns: Sequence[str], where: str) -> None:
    """DataError when a column the task wants is not in the row.

    >>> check_columns({"text": "hi", "label": "👋"}, ["text", "emoji"], "emoji.csv:2")
    Traceback (most recent call last):
    gemtune.errors.DataError: emoji.csv:2: column 'emoji' is missing; found text, label; did you mean 'label'? \
set data.columns: {emoji: label}
    """
    missing = next((name for name in columns if name not in row), None)
    if missing is None:
        for name in columns:
            _refuse_unreadable(row[name], name, where)
        return
    unused = [name for name in row if name not in columns]
    is_last = sum(name not in row for name in columns) == 1
    near = nearest(missing, unused) or (unused[0] if len(unused) == 1 and is_last else None)
    if move := _of_the_header(row, missing):
        raise DataError(f"{where}: column {missing!r} is missing; found {listed(row)}; {move}")
    inside = next((f"{name}.{missing}" for name in unused if missing in _object_in(row[name])), None)
    guess = f"{inside!r} is there; " if inside else f"did you mean {near!r}? " if near else ""
    likely = inside or near
    move = f"set data.columns: {{{missing}: {_in_yaml(likely) if likely else '<its name in the file>'}}}"
    raise DataError(f"{where}: column {missing!r} is missing; found {listed(row)}; {guess}{move}")


def _of_the_header(row: Row, missing: str) -> str:
    """The move where the file's first line is no header, or one that is quoted as a whole; "" where it is one.

    >>> _of_the_header({"text,emoji": "hi,👋"}, "emoji"), _of_the_header({"Export of May": "text"}, "text")
    ('take away the double quotes around whole lines', 'delete the lines above the header')
    """
    names = list(row)
    if len(names) == 1 and missing in re.split(r"[,;|\t]", names[0]):
        return "take away the double quotes around whole lines"
    return "delete the lines above the header" if missing in row.values() else ""


def _refuse_unreadable(value: object, name: str, where: str) -> None:
    if isinstance(value, Unreadable):
        raise DataError(f"{where}: column {name!r} is {value.why}; rename or mend it in the file")


def _object_in(value: object) -> Row:
    value = unpacked(value)
    return value if isinstance(value, dict) else {}


def _in_yaml(name: str) -> str:
    """
    >>> _in_yaml("label"), _in_yaml("0"), _in_yaml("no"), _in_yaml("a: b")
    ('label', '"0"', '"no"', '"a: b"')
    """
    is_plain = re.fullmatch(r"[^\W\d][\w.-]*( [\w.-]+)*", name) and name.lower() not in _YAML_WORDS
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def renamed_rows(rows: Rows, columns: Mapping[str, str], several: bool) -> Rows:
    """The rows with the columns renamed; in `several` files, a file may have some under the task's own names."""
    absent = set(columns.values()) if several else set()
    for where, row in rows:
        here = columns
        if several:
            absent -= row.keys()
            here = {name: column for name, column in columns.items() if name not in row or _is_there(row, column)}
        yield where, _renamed(row, here, where) if here else row
    if several and any(map(str.isidentifier, absent)):
        raise DataError(f"data.columns: no file has a column {listed(sorted(absent))}; mend or delete it")


def renamed_as_there(rows: Rows, columns: Mapping[str, str], optional: Iterable[str] = ()) -> Rows:
    """The rows with the columns renamed; a row may have some under the task's own names, and be without optional ones.

    >>> rows = [("x.csv:2", {"body": "hi"}), ("x.csv:3", {"text": "hi"})]
    >>> list(renamed_as_there(iter(rows), {"text": "body", "emoji": "label"}, optional=["emoji"]))
    [('x.csv:2', {'text': 'hi'}), ('x.csv:3', {'text': 'hi'})]
    """
    needed = columns.keys() - set(optional)
    for where, row in rows:
        there = {name for name, column in columns.items() if _is_there(row, column)}
        here = {name: columns[name] for name in columns if name in there or (name in needed and name not in row)}
        yield where, _renamed(row, here, where)


def _is_there(row: Row, column: str) -> bool:
    return column in row or column.strip() in row or column.split(".")[0] in row


def _renamed(row: Row, columns: Mapping[str, str], where: str) -> Row:
    """
    >>> _renamed({"q": "How many?", "a": "3", "sql": "-"}, {"question": "q", "sql": "a"}, "x.csv:2")
    {'question': 'How many?', 'sql': '3'}
    >>> _renamed({"data": '{"text": ["hi"]}'}, {"text": "data.text.0"}, "x.csv:2")["text"]
    'hi'
    """
    if not columns:
        return row
    values = {name: _value_of(row, column, name, where) for name, column in columns.items()}
    return {key: value for key, value in row.items() if key not in columns and key not in columns.values()} | values


def _value_of(row: Row, column: str, name: str, where: str) -> object:
    """The value of a column, or of a place inside it as in `data.text`, where it holds an object or its JSON text."""
    for key in (column, column.strip()):
        if key in row:
            _refuse_unreadable(row[key], key, where)
            return row[key]
    head, *path = column.split(".")
    value: object = row
    for key in (head, *path):
        value = unpacked(value)
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif value is None or (isinstance(value, list) and key.isdecimal()):
            value = value[int(key)] if value and int(key) < len(value) else None
        else:
            break
    else:
        return value
    move = f"mend data.columns: {{{name}: {_in_yaml(column)}}}"
    raise DataError(f"{where}: column {column!r} is missing; found {listed(row)}{did_you_mean(column, row, move)}")
