"""Examples on disk: a part's rows as memory-mapped Arrow shards, with an index that says what is in them."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gemtune.errors import RunError
from gemtune.files import READING_BACK, os_errors, sha256_of, write_json
from gemtune.rendering.renderer import Example
from gemtune.run_files import Lengths, Shard, TableIndex, WeightedRows
from gemtune.runs import PARTS, VERSIONS, Run, table_index

SHARD_ROWS = 100_000  # at most; a shard is one record batch, so that a row is two offsets away
SHARD_TOKENS = 1 << 24  # from which on it is full: 64 MB are held while it is written
_OPEN = 1024  # shards of a table that stay mapped, which costs addresses and no memory

SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("spans", pa.list_(pa.int32())),  # start, end, start, end, ...
        ("labelled", pa.int32()),
        ("line", pa.int64()),  # of the part's jsonl file, from 0
        ("images", pa.list_(pa.string())),  # paths in the data directory
        ("image_spans", pa.list_(pa.int32())),  # as spans: where their features go
    ]
)


class ExampleTable:
    """The examples of one part, by the file of its index: a row is read where it lies, and nothing else."""

    def __init__(self, path: Path):
        index = table_index(path)
        self.longest = max((shard.longest for shard in index.shards), default=0)  # tokens of a row
        self.tokens = sum(shard.tokens for shard in index.shards)
        self.labelled_tokens = sum(shard.labelled for shard in index.shards)
        self.weighted = index.weights
        self.lengths = Column(self, lambda shard, rows: shard.ids.lengths(rows))
        self.labelled = Column(self, lambda shard, rows: shard.labelled[rows])
        self.lines = Column(self, lambda shard, rows: shard.lines[rows])
        self._starts = [0, *np.cumsum([shard.rows for shard in index.shards], dtype=np.int64).tolist()]
        self._shards = index.shards
        self._opened = lru_cache(_OPEN)(lambda number: _Opened(path.parent, self._shards[number]))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Example:
        shard, place = self._found(row)
        images = tuple(shard.images[place].as_py())
        image_spans = _pairs(shard.image_spans[place]) if images else ()
        return Example(shard.ids[place].tolist(), _pairs(shard.spans[place]), images, image_spans)

    @property
    def weights(self) -> tuple[tuple[float, int], ...]:
        """(weight, rows), as the table has them one after another."""
        return tuple((group.weight, group.rows) for group in self.weighted)

    def images(self) -> Iterator[list[str]]:
        """Yields the images of every row that has any."""
        shards = map(self._opened, range(len(self._shards)))
        return (images for shard in shards if shard.has_images for row in shard.images if (images := row.as_py()))

    def _found(self, row: int) -> tuple[_Opened, int]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        number = bisect_right(self._starts, row) - 1
        return self._opened(number), row - self._starts[number]

    def read(self, rows: np.ndarray, of: Callable[[_Opened, np.ndarray], np.ndarray]) -> np.ndarray:
        """What shards have of some rows, in the order of the rows."""
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"row {rows.max()} of {len(self)}")
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        values = np.empty(rows.shape, np.int64)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            values[here] = of(self._opened(number), rows[here] - self._starts[number])
        return values


class Column:
    """A number of every row, read where it lies: `column[rows]` are those of some rows, `column[:]` of all."""

    def __init__(self, table: ExampleTable, of: Callable[[_Opened, np.ndarray], np.ndarray]):
        self._table, self._of = table, of

    def __getitem__(self, rows: Any) -> np.ndarray:
        numbers = np.arange(*rows.indices(len(self._table))) if isinstance(rows, slice) else np.asarray(rows, np.int64)
        return self._table.read(numbers, self._of)


class _Lists:
    """A column of lists as two arrays: their values one after another, and where each begins."""

    def __init__(self, column: pa.ListArray):
        self._values: np.ndarray = column.values.to_numpy()
        self._edges: np.ndarray = column.offsets.to_numpy()

    def __getitem__(self, place: int) -> np.ndarray:
        return self._values[self._edges[place] : self._edges[place + 1]]

    def lengths(self, places: np.ndarray) -> np.ndarray:
        return self._edges[places + 1] - self._edges[places]


class _Opened:
    """A shard, mapped into memory."""

    def __init__(self, folder: Path, shard: Shard):
        path = folder / shard.name
        try:
            with os_errors(path, READING_BACK), pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source)
                batch = table.get_batch(0)
        except (pa.ArrowInvalid, ValueError) as error:
            raise RunError(f"{path}: damaged or no token table ({error}); run `gemtune prepare` again") from error
        if batch.schema != SCHEMA or batch.num_rows != shard.rows or table.num_record_batches != 1:
            raise RunError(f"{path}: not the columns of a token table; run `gemtune prepare` again")
        self.ids, self.spans, self.image_spans = (_Lists(batch[name]) for name in ("input_ids", "spans", "image_spans"))
        self.labelled: np.ndarray = batch["labelled"].to_numpy()
        self.lines: np.ndarray = batch["line"].to_numpy()
        self.images = batch["images"]
        self.has_images = len(self.images.flatten()) > 0


def _pairs(edges: np.ndarray) -> tuple[tuple[int, int], ...]:
    flat = edges.tolist()
    return tuple(zip(flat[::2], flat[1::2], strict=True))


class TableWriter:
    """Writes the examples of a part, shard after shard, under temporary names until `put` gives them theirs."""

    def __init__(self, run: Run, part: str):
        self._run, self._part = run, part
        self._shards: list[Shard] = []
        self._weights: list[WeightedRows] = []
        self._rows = _Rows()

    def add(self, example: Example, weight: float, line: int) -> None:
        """Adds a row; `line` is that of the part's jsonl file, from 0."""
        self._rows.add(example, line)
        length, before = len(example.input_ids), self._weights[-1:]
        if before and before[0].weight == weight:
            self._weights[-1] = WeightedRows(weight, before[0].rows + 1, before[0].tokens + length)
        else:
            self._weights.append(WeightedRows(weight, 1, length))
        if len(self._rows) == SHARD_ROWS or self._rows.tokens >= SHARD_TOKENS:
            self._write()

    def finish(self) -> None:
        """Writes the shard that is not full yet."""
        if len(self._rows):
            self._write()

    def put(self) -> str:
        """Puts shards and index in the place of older ones; returns the SHA-256 of the index file."""
        for shard in self._shards:
            path = self._run.data / shard.name
            _temporary(path).replace(path)
        names = {shard.name for shard in self._shards}
        for path in self._run.data.glob(f"{self._part}*.arrow"):
            if path.name not in names:
                path.unlink()
        path = self._run.table(self._part)
        write_json(path, TableIndex(version=VERSIONS["tokens"], shards=self._shards, weights=self._weights).to_json())
        return sha256_of(path)

    def discard(self) -> None:
        """Removes what has not been put in place."""
        for number in range(len(self._shards) + 1):
            _temporary(self._run.shard(self._part, number)).unlink(missing_ok=True)

    def _write(self) -> None:
        path = self._run.shard(self._part, len(self._shards))
        target = _temporary(path)
        batch = self._rows.batch()
        with os_errors(target), pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            writer.write(batch)
        longest, labelled = int(self._rows.lengths().max()), int(batch["labelled"].to_numpy().sum())
        size = {"rows": len(self._rows), "tokens": self._rows.tokens, "labelled": labelled, "longest": longest}
        self._shards.append(Shard(name=path.name, **size, sha256=sha256_of(target)))
        self._rows = _Rows()


class _Rows:
    """The rows of a shard that is being written, as the buffers of its columns."""

    def __init__(self) -> None:
        self._ids, self._spans, self._image_spans = ((array("i"), array("i", [0])) for _ in range(3))
        self._labelled, self._lines = array("i"), array("q")
        self._images: list[tuple[str, ...]] = []

    def __len__(self) -> int:
        return len(self._images)

    @property
    def tokens(self) -> int:
        return len(self._ids[0])

    def lengths(self) -> np.ndarray:
        return np.diff(np.asarray(self._ids[1]))

    def add(self, example: Example, line: int) -> None:
        for (values, edges), flat in (
            (self._ids, example.input_ids),
            (self._spans, [edge for span in example.spans for edge in span]),
            (self._image_spans, [edge for span in example.image_spans for edge in span]),
        ):
            values.extend(flat)
            edges.append(len(values))
        self._labelled.append(sum(end - start for start, end in example.spans))
        self._lines.append(line)
        self._images.append(example.images)

    def batch(self) -> pa.RecordBatch:
        lists = (self._ids, self._spans, self._image_spans)
        ids, spans, image_spans = (pa.ListArray.from_arrays(*map(_array, (edges, values))) for values, edges in lists)
        images = pa.array(self._images, SCHEMA.field("images").type)
        columns = (ids, spans, _array(self._labelled), _array(self._lines), images, image_spans)
        return pa.RecordBatch.from_arrays([*columns], schema=SCHEMA)


def _array(values: Sequence[int]) -> pa.Array:
    return pa.array(np.asarray(values))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def tables_are_whole(run: Run, lengths: Lengths) -> bool:
    """Whether the tables are what was written; those of a manifest without digests, what their indexes say."""
    tables = lengths.tables
    return all(_is_whole(run.table(part), None if tables is None else tables.get(part, "")) for part in PARTS)


def _is_whole(index: Path, digest: str | None) -> bool:
    if not index.is_file() or (digest is not None and sha256_of(index) != digest):
        return False
    shards = ((index.parent / shard.name, shard.sha256) for shard in table_index(index).shards)
    return all(path.is_file() and sha256_of(path) == shard_digest for path, shard_digest in shards)
