"""A row as its file has it: a plain dict, made of the values under a header."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gemtune.data.cells import Unreadable
from gemtune.errors import DataError

Row = dict[str, object]
Rows = Iterator[tuple[str, Row]]  # where the row is, for a human; the row
FileRows = Iterator[tuple[str, Row | DataError]]  # an error in place of a broken row, behind which reading can go on

TWICE = Unreadable("in two columns of that name")


def row_maker(header: Sequence[str]) -> Callable[[Sequence[object]], Row]:
    """What makes a row of values: those without a name left out, those with the name of another not readable.

    >>> row_maker(["a", "", "b"])([1, 2, 3]), row_maker(["a", "n", "n"])([1, 2, 3])["n"].why
    ({'a': 1, 'b': 3}, 'in two columns of that name')
    """
    if all(header) and len(set(header)) == len(header):
        return lambda values: dict(zip(header, values, strict=True))
    columns = [(number, name) for number, name in enumerate(header) if name]
    unclear: Row = {name: TWICE for name in header if header.count(name) > 1}
    return lambda values: {name: values[number] for number, name in columns} | unclear
