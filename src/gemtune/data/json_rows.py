"""The rows in JSON text: objects one after another, an array of them, and other forms in which tables are written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from gemtune.data.cells import kind_of
from gemtune.data.json_stream import KINDS, Window
from gemtune.data.rows import FileRows, Row, row_maker
from gemtune.data.text_files import MOST_ROW, open_text, too_long
from gemtune.errors import DataError, listed

_DECODER = json.JSONDecoder()
_HEAD = 1 << 18  # characters in which a first JSON Lines row must end to be recognised
_MOST_HELD = 1000  # objects under keys, before it is clear whether they are rows or columns
_AS_ROWS = 'write it as rows (pandas: orient="records")'


def read_jsonl(path: Path, name: str, encoding: str) -> FileRows:
    """Yields the objects of a file, each on a line or over several, with its first line; DataError for a broken one."""
    with open_text(path, encoding, newline="") as text:
        readline, number = text.readline, 0
        while line := readline(MOST_ROW):
            number += 1
            if len(line) == MOST_ROW:
                raise DataError(too_long(f"{name}:{number}"))
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):  # an object over several lines, several on one line, or broken
                row = []
            if isinstance(row, list):
                yield from _objects(Window(text, name, buffer=line, line=number))
                return
            where = f"{name}:{number}"
            yield where, row if isinstance(row, dict) else _no_object(row, where)


def _objects(window: Window) -> FileRows:
    """The objects that follow; behind a broken one, those from the next line that begins with one."""
    if window.peek() == "[":
        yield from ((f"{window.name}[{number}]", row) for number, row in _all_of(window))
        return
    while window.peek():
        where = window.where()
        if window.peek() == ",":
            raise DataError(f"{where}: a comma between objects; delete such commas, or put [ ] around all of them")
        try:
            row = window.value()
        except DataError as error:
            is_elsewhere = not str(error).startswith(f"{where}: ")
            yield where, DataError(f"{where}: the object that begins here: {error}") if is_elsewhere else error
            window.skip()
        else:
            yield where, row if isinstance(row, dict) else _no_object(row, where)


def _no_object(value: object, where: str) -> DataError:
    move = "name its values" if isinstance(value, list) else "give the value a name"
    return DataError(f"{where}: {kind_of(value)}; wanted an object with named values, {{...}}: {move}")


def read_json(path: Path, name: str, encoding: str) -> FileRows:
    """Yields the rows of an array, of a table in one object, or of JSON Lines that are called .json."""
    with open_text(path, encoding, newline="") as text:
        is_lines = _are_objects(text.read(_HEAD))
    if is_lines:
        yield from read_jsonl(path, name, encoding)
        return
    with open_text(path, encoding, newline="") as text:
        for number, row in json_rows(text, name):
            yield f"{name}[{number}]", row


def _are_objects(head: str) -> bool:
    """Whether an object follows another one: many data sets are JSON Lines in a file called .json.

    >>> _are_objects('{"a": 1}\\n{"a": 2}'), _are_objects('{"a": [{}]}')
    (True, False)
    """
    head = head.lstrip()
    if not head.startswith("{"):
        return False
    try:
        _, end = _DECODER.raw_decode(head)
    except (ValueError, RecursionError):  # broken, or longer than the head: json_rows says which, and where
        return False
    return head[end:].lstrip()[:1] in ("{", ",")


def json_rows(text: IO[str], name: str, *, chunk: int = 1 << 16) -> Iterator[tuple[int, Row]]:
    """Yields (number from 1, row) of an array of objects, or of an object that holds a table.

    >>> import io
    >>> forms = '[{"a": 1}]', '{"n": 1, "rows": [{"a": 1}]}', '{"a": [1]}', '{"a": {"0": 1}}', '{"0": {"a": 1}}'
    >>> [list(json_rows(io.StringIO(form), "x.json")) for form in forms] == [[(1, {"a": 1})]] * 5
    True
    """
    return _all_of(Window(text, name, chunk=chunk))


def _all_of(window: Window) -> Iterator[tuple[int, Row]]:
    opening = window.peek()
    if opening not in ("[", "{"):
        raise DataError(f"{window.where()}: found {window.kind()}; wanted an array of objects, [{{...}}, {{...}}]")
    yield from enumerate(_arrays(window) if opening == "[" else _table(window), 1)
    if window.peek():
        kind = "array" if opening == "[" else "object"
        raise DataError(
            f"{window.where()}: more text after the end of the {kind}; "
            "set data.format: jsonl if every line is an object of its own, or cut it off"
        )


def _arrays(window: Window) -> Iterator[Row]:
    while window.peek() == "[":
        yield from _array(window)


def _array(window: Window, columns: list[str] | None = None) -> Iterator[Row]:
    """The objects of an array, or its arrays of values under the names of `columns`, under their numbers if None.

    >>> import io
    >>> list(_array(Window(io.StringIO('[["hi", 1], ["ho", 2]]'), "x.json")))
    [{'0': 'hi', '1': 1}, {'0': 'ho', '1': 2}]
    """
    for number, opening in enumerate(window.elements(), 1):
        if opening == "{":
            yield window.value()
            continue
        where, place = window.where(), f"{window.name}[{number}]"
        if opening not in KINDS:
            raise window.broken(f"expecting an object, found {window.kind()}")
        if opening != "[":
            raise DataError(f"{where}: {place} is {window.kind()}; wanted an object with named values")
        value = window.value()
        columns = [str(index) for index in range(len(value))] if columns is None else columns
        if len(value) != len(columns):
            raise DataError(f"{where}: {place} has {len(value)} values, wanted {len(columns)} ({listed(columns)})")
        yield row_maker(columns)(value)


def _table(window: Window) -> Iterator[Row]:
    """The rows of a table in one object: one array of objects, rows under their keys, columns, or columns and data."""
    columns: dict[str, list[object]] = {}
    objects: dict[str, Row] = {}
    others: list[str] = []
    rows_in = ""
    streams = False  # the objects are rows, too many to be columns
    for key in window.names():
        opening, inside = window.peek(), window.peek_inside()
        if opening == "[" and (inside == "{" or (inside == "[" and "columns" in columns)):
            if rows_in:
                raise DataError(_two_arrays(window.where(), rows_in, key))
            rows_in = key
            names = [str(name) for name in columns["columns"]] if inside == "[" else None
            yield from _array(window, names)
        elif opening == "[":
            columns[key] = window.value()
        elif opening == "{":
            objects[key] = window.value()
            streams = streams or (not others and not columns and not rows_in and _too_many(objects))
            if streams:
                yield from objects.values()
                objects.clear()
        else:
            others.append(key)
            window.value()
    if not rows_in and not streams:
        yield from _held(window, columns, objects, others)


def _held(
    window: Window, columns: dict[str, list[object]], objects: dict[str, Row], others: list[str]
) -> Iterator[Row]:
    """The rows of an object that has been read whole."""
    if columns:
        lengths = {key: len(values) for key, values in columns.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{key} {length}" for key, length in list(lengths.items())[:20])
            raise DataError(f"{window.where()}: arrays of different lengths ({counts}); wanted one of rows: {_AS_ROWS}")
        yield from (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    elif objects and not others:
        yield from objects.values() if _are_rows(objects) else _transposed(objects)
    else:
        keys = listed([*objects, *others]) if objects or others else "none"
        places = (f"{key}.{name}" for key, value in objects.items() for name in value if _is_rows(value[name]))
        if inner := next(places, ""):
            raise DataError(f"{window.where()}: the rows lie deeper, in {inner}; write that array to a file of its own")
        raise DataError(
            f"{window.where()}: one object without an array (keys: {keys}); "
            "wanted an array of objects, [{...}, {...}]: put [ ] around it if it is the only row"
        )


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _too_many(objects: Mapping[str, Row]) -> bool:
    """Whether so many objects are rows for certain: a table has fewer columns than rows."""
    first = next(iter(objects.values()))
    return len(objects) > max(_MOST_HELD, len(first))


def _are_rows(objects: Mapping[str, Row]) -> bool:
    """Whether objects under keys are rows under their index, as in orient="index", and not columns.

    pandas numbers the rows; where they have names, a table has more rows than columns.

    >>> _are_rows({"0": {"a": 1, "b": 2}}), _are_rows({"a": {"0": 1}, "b": {"0": 2}})
    (True, False)
    >>> _are_rows({"a": {"x": 1, "y": 1, "z": 1}, "b": {"x": 1, "y": 1, "z": 1}}), _are_rows({"x": {"a": 1}})
    (False, True)
    """
    first = next(iter(objects.values()))
    if any(value.keys() != first.keys() for value in objects.values()):
        return True
    outer, inner = (all(key.isdecimal() for key in keys) for keys in (objects, first))
    return outer if outer != inner else len(first) <= len(objects)


def _transposed(objects: Mapping[str, Row]) -> Iterator[Row]:
    rows = next(iter(objects.values()))
    return ({column: values[row] for column, values in objects.items()} for row in rows)


def _two_arrays(where: str, first: str, second: str) -> str:
    return (
        f"{where}: two arrays, {first!r} and {second!r}; wanted one array of objects: "
        "write the one with the rows to a file of its own"
    )
