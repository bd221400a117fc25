"""Where SQL is run, as the rest of the child sees it; SQLite in memory, guarded statement by statement."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from gemtune.tasks.sql import sandbox
from gemtune.tasks.sql.sandbox import Cell, Result, quoted

Outcome = tuple[Result, ...]  # what a query returned, or every table after a change
Image = bytes | tuple[str, ...]  # a database: SQLite's serialized, of the others the scripts that make it


@dataclass(frozen=True)
class Table:
    """A table's columns, key and rows."""

    name: str
    columns: tuple[str, ...]
    keys: frozenset[str]  # the column that is the key alone
    rows: tuple[tuple[Cell, ...], ...]
    refers: Mapping[str, tuple[str, str]]  # column -> table and column it refers to

    def values(self, column: str) -> list[Cell]:
        place = next(place for place, name in enumerate(self.columns) if name.lower() == column.lower())
        return [row[place] for row in self.rows]


class Engine(Protocol):
    """A database that is made from scripts, asked, and left as it was."""

    dialect: str  # sqlglot's name

    def load(self, *scripts: str) -> Image:
        """The database that scripts of CREATE and INSERT make; SqlError when they do not load."""

    def outcome(self, sql: str, image: Image, changes: bool) -> Outcome:
        """What one query returns, or every table after one INSERT, UPDATE or DELETE."""

    def tables(self, image: Image) -> list[Table]:
        """The tables, by name."""

    def grown(self, image: Image, rows: Mapping[str, Sequence[tuple[Cell, ...]]]) -> Image:
        """The database with more rows; one that breaks a rule of its table is left out."""


class Sqlite:
    """In memory, and guarded statement by statement."""

    dialect = "sqlite"

    def load(self, *scripts: str) -> Image:
        return sandbox.load(*scripts)

    def outcome(self, sql: str, image: Image, changes: bool) -> Outcome:
        data = image if isinstance(image, bytes) else b""
        return sandbox.change(sql, data) if changes else (sandbox.query(sql, data),)

    @functools.lru_cache(maxsize=16)  # noqa: B019  # one engine for as long as the process is there
    def tables(self, image: Image) -> list[Table]:
        with closing(_opened(image)) as connection:
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
            return [_table_of(connection, name) for (name,) in names if not name.startswith("sqlite_")]

    def grown(self, image: Image, rows: Mapping[str, Sequence[tuple[Cell, ...]]]) -> Image:
        with closing(_opened(image)) as connection:
            for table, more in rows.items():
                places = ", ".join("?" * len(more[0]))
                connection.executemany(f"INSERT OR IGNORE INTO {quoted(table)} VALUES ({places})", more)  # noqa: S608
            return connection.serialize()


def _opened(image: Image) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if image and isinstance(image, bytes):
        connection.deserialize(image)
    return connection


def _table_of(connection: sqlite3.Connection, name: str) -> Table:
    info = connection.execute(f"PRAGMA table_info({quoted(name)})").fetchall()
    keys = [column for _, column, _, _, _, key in info if key]
    refers = {
        start.lower(): (table.lower(), (end or "").lower())
        for _, _, table, start, end, *_ in connection.execute(f"PRAGMA foreign_key_list({quoted(name)})")
    }
    rows = connection.execute(f"SELECT * FROM {quoted(name)} LIMIT 1000").fetchall()  # noqa: S608
    columns = tuple(column for _, column, *_ in info)
    return Table(name, columns, frozenset(keys if len(keys) == 1 else ()), tuple(rows), refers)
