"""Parquet and Arrow: columns of typed values, read a few rows at a time, as plain Python values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.data.cells import Unreadable
from gemtune.data.paths import refuse_special
from gemtune.data.rows import FileRows, Row, row_maker
from gemtune.data.text_files import MOST_ROW, too_long
from gemtune.errors import DataError
from gemtune.files import READING, os_errors

if TYPE_CHECKING:
    import pyarrow

_ROWS = 256  # decoded at a time, ...
_PROBE = 16
_BYTES = (
    32 << 20
)  # ... fewer of them where they are large. 893 bytes of Parquet, a dictionary of one text, were 0.8 GB.


def read_parquet(path: Path, name: str, encoding: str) -> FileRows:
    """Yields the rows of a Parquet file, decoded a few at a time; `encoding` is not used."""
    import pyarrow.parquet

    with _errors(path, "Parquet"):
        if not path.stat().st_size:
            return
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            _check_sizes(file.metadata, path)
            probe = next(file.iter_batches(batch_size=_PROBE), None)
            size = min(_ROWS, 1 + _BYTES * _PROBE // max(1, probe.nbytes)) if probe else _ROWS
            yield from _named(file.iter_batches(batch_size=size), name)


def read_arrow(path: Path, name: str, encoding: str) -> FileRows:
    """Yields the rows of an Arrow file, as Feather and `Dataset.save_to_disk` write them; `encoding` is not used."""
    import pyarrow

    with _errors(path, "Arrow"):
        if not path.stat().st_size:
            return
        with pyarrow.OSFile(str(path)) as stream:
            is_file = stream.read(6) == b"ARROW1"
            stream.seek(0)
            yield from _named(
                map(_checked, _batches_of_file(stream) if is_file else pyarrow.ipc.open_stream(stream)), name
            )


def _batches_of_file(stream: pyarrow.NativeFile) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow

    file = pyarrow.ipc.open_file(stream)
    return (file.get_batch(number) for number in range(file.num_record_batches))


def _checked(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
    """The batch; ArrowInvalid where its offsets lead out of it: unlike Parquet's, they are the file's as they stand."""
    batch.validate(full=True)
    return batch


@contextlib.contextmanager
def _errors(path: Path, kind: str) -> Iterator[None]:
    """Turns what pyarrow says of a file into one line."""
    import pyarrow

    try:
        with os_errors(path, READING):
            refuse_special(path)
            try:
                yield
            except OSError as error:
                if error.errno is not None:
                    raise
                raise pyarrow.ArrowInvalid(str(error)) from error
    except (pyarrow.ArrowException, UnicodeDecodeError, MemoryError) as error:
        problem = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise DataError(f"{path}: damaged or not {kind} ({problem}); copy or download it again") from error


def _check_sizes(metadata: pyarrow.parquet.FileMetaData, path: Path) -> None:
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.total_byte_size > MOST_ROW * max(1, group.num_rows):
            raise DataError(too_long(str(path)))


def _named(batches: Iterable[pyarrow.RecordBatch], name: str) -> FileRows:
    number = 0
    for batch in batches:
        for row in plain_rows(batch):
            number += 1
            yield f"{name}[{number}]", row


def has_times(kind: pyarrow.DataType) -> bool:
    """Whether values of a type are times, or hold some."""
    from pyarrow import types

    return types.is_temporal(kind) or any(has_times(kind.field(number).type) for number in range(kind.num_fields))


def plain_rows(batch: pyarrow.RecordBatch | pyarrow.Table) -> Iterable[Row]:
    """The rows of a batch: what Python has no value for is text, or is told to those alone who ask for its column.

    >>> import pyarrow
    >>> days = pyarrow.array([3_000_000, 1], pyarrow.date32())
    >>> [str(row["day"]) for row in plain_rows(pyarrow.record_batch({"day": days}))]
    ['10183-09-21', '1970-01-02']
    """
    if batch.num_rows > _ROWS:
        starts = range(0, batch.num_rows, _ROWS)
        return (row for start in starts for row in plain_rows(batch.slice(start, _ROWS)))
    names = batch.schema.names
    if len(set(names)) == len(names):
        with contextlib.suppress(*_no_values()):
            rows: list[Row] = batch.to_pylist()
            return rows
    return map(row_maker(names), zip(*map(_values, batch.columns), strict=True))


def _no_values() -> tuple[type[Exception], ...]:
    """What pyarrow raises on a value that Python has none for."""
    import pyarrow

    return (pyarrow.ArrowException, ValueError, OverflowError, LookupError, ImportError)


def _values(array: pyarrow.Array | pyarrow.ChunkedArray) -> Sequence[object]:
    import pyarrow
    from pyarrow import types

    with contextlib.suppress(*_no_values()):
        values: list[object] = array.to_pylist()
        return values
    if isinstance(array, pyarrow.ChunkedArray):
        return [value for chunk in array.chunks for value in _values(chunk)]
    if types.is_struct(array.type):
        return _structs(array)
    if types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type):
        return [_values(scalar.values) if scalar.is_valid else None for scalar in array]
    return [_value(scalar) for scalar in array]


def _structs(array: pyarrow.StructArray) -> list[object]:
    make = row_maker([field.name for field in array.type])
    rows = zip(*map(_values, array.flatten()), strict=True)
    return [make(row) if is_there else None for row, is_there in zip(rows, array.is_valid().to_pylist(), strict=True)]


def _value(scalar: pyarrow.Scalar) -> object:
    """A value that may be out of Python's range, such as a day after the year 9999, as Arrow writes it."""
    import pyarrow

    with contextlib.suppress(*_no_values()):
        value: object = scalar.as_py()
        return value
    with contextlib.suppress(*_no_values()):
        return str(scalar.cast(pyarrow.string()))
    return Unreadable(f"of type {scalar.type}, and not to be read")
