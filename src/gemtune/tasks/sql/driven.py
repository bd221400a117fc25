"""A database behind a driver: every row has a scratch one, and every statement is taken back."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import sqlglot
from sqlglot import exp

from gemtune.tasks.sql.engines import Image, Outcome, Table
from gemtune.tasks.sql.sandbox import MAX_QUERY, MAX_SCRIPT, Cell, Result, SqlError, check_text
from gemtune.tasks.sql.text import UNREADABLE, parsed

SECONDS = 2.0  # for one statement
MAX_ROWS = 10_000
LOADED = 4  # scratch databases that are held at once

Connection = Any  # of duckdb, psycopg or pymysql, none of which need be installed
_MAY_FAIL = "-- may fail\n"
SAVEPOINT = "SAVEPOINT gemtune"  # in place of a transaction, where one has begun with the connection


@dataclass(frozen=True)
class Server:
    """What differs between the databases that are asked through a driver."""

    dialect: str
    connect: Callable[[], Connection]  # to a database that holds nothing and that nothing else uses
    error: type[Exception]  # what its driver raises
    close: Callable[[Connection], None] = lambda connection: connection.close()
    begin: str = "START TRANSACTION"  # before each statement, so that what it changes can be taken back
    back: str = "ROLLBACK"
    quote: str = '"'
    interrupt: Callable[[Connection], None] | None = None  # where the database has no limit of time of its own


class Driven:
    """A database behind a driver: every row has a scratch one, and every statement is taken back."""

    def __init__(self, server: Server):
        self.server, self.dialect = server, server.dialect
        self._open: OrderedDict[Image, Connection | SqlError] = OrderedDict()

    def load(self, *scripts: str) -> Image:
        image = tuple(script for script in scripts if script.strip())
        self._connection(image)
        return image

    def outcome(self, sql: str, image: Image, changes: bool) -> Outcome:
        check_text(sql, MAX_QUERY)
        tree = parsed(sql, self.dialect)
        allowed = exp.DML if changes else exp.Query | exp.Values
        if not isinstance(tree, allowed) or (not changes and tree.find(exp.DML, exp.Into)):
            raise SqlError("not a query" if not changes else "not one INSERT, UPDATE or DELETE")
        if any(table.args.get("db") for table in tree.find_all(exp.Table)):
            raise SqlError("it names a table of another schema")
        connection = self._connection(image)
        with self._taken_back(connection) as cursor:
            result = self._rows(cursor, sql)
            if not changes:
                return (result,)
            return tuple(self._rows(cursor, self._all_of(name)) for name in sorted(_created(image, self.dialect)))

    def tables(self, image: Image) -> list[Table]:
        connection, created = self._connection(image), _created(image, self.dialect)
        with self._taken_back(connection) as cursor:
            contents = {name: self._rows(cursor, self._all_of(name)) for name in sorted(created)}
        return [
            Table(name, content.columns, created[name].keys, content.rows, created[name].refers)
            for name, content in contents.items()
        ]

    def grown(self, image: Image, rows: Mapping[str, Sequence[tuple[Cell, ...]]]) -> Image:
        more = [(table, row) for table, added in rows.items() for row in added]
        literals = (
            f"INSERT INTO {self._quoted(table)} VALUES ({', '.join(_literal(cell) for cell in row)})"  # noqa: S608
            for table, row in more
        )
        return (*(str(script) for script in image), *(f"{_MAY_FAIL}{literal}" for literal in literals))

    def _all_of(self, table: str) -> str:
        return f"SELECT * FROM {self._quoted(table)}"  # noqa: S608

    def _quoted(self, name: str) -> str:
        return f"{self.server.quote}{name}{self.server.quote}"

    def _connection(self, image: Image) -> Connection:
        """The scratch database of an image, made when it is first asked for; the oldest makes room."""
        if image not in self._open:
            while len(self._open) >= LOADED:
                _, oldest = self._open.popitem(last=False)
                if not isinstance(oldest, SqlError):
                    self.server.close(oldest)
            self._open[image] = self._made(image)
        self._open.move_to_end(image)
        connection = self._open[image]
        if isinstance(connection, SqlError):
            raise SqlError(f"the schema or its rows do not load: {connection}")
        return connection

    def _made(self, image: Image) -> Connection | SqlError:
        connection = self.server.connect()
        try:
            for script in image:
                self._fill(connection, str(script))
        except SqlError as error:
            self.server.close(connection)
            return error
        return connection

    def _fill(self, connection: Connection, script: str) -> None:
        with closing(connection.cursor()) as cursor:
            if script.startswith(_MAY_FAIL):
                self._try(cursor, script.removeprefix(_MAY_FAIL))
                return
            for statement in _statements(script, self.dialect):
                with self._told(cursor):
                    cursor.execute(statement)

    def _try(self, cursor: Any, statement: str) -> None:
        """Runs a statement, of which nothing stays when it fails."""
        in_transaction = self.server.begin == SAVEPOINT
        if in_transaction:
            cursor.execute(SAVEPOINT)
        try:
            with self._told(cursor):
                cursor.execute(statement)
        except SqlError:
            if in_transaction:
                cursor.execute(self.server.back)

    @contextmanager
    def _taken_back(self, connection: Connection) -> Iterator[Any]:
        """A cursor whose changes are undone."""
        with closing(connection.cursor()) as cursor:
            cursor.execute(self.server.begin)
            try:
                with self._told(cursor):
                    yield cursor
            finally:
                cursor.execute(self.server.back)

    @contextmanager
    def _told(self, cursor: Any) -> Iterator[None]:
        """What the driver raises becomes a SqlError of one line, also when the statement takes too long."""
        interrupt = self.server.interrupt
        clock = threading.Timer(SECONDS, interrupt, (cursor,)) if interrupt else None
        if clock:
            clock.start()
        try:
            yield
        except self.server.error as error:
            raise SqlError(" ".join(str(error).split())[:300] or type(error).__name__) from None
        finally:
            if clock:
                clock.cancel()

    def _rows(self, cursor: Any, sql: str) -> Result:
        cursor.execute(sql)
        if not cursor.description:
            return Result((), ())
        rows = cursor.fetchmany(MAX_ROWS + 1)
        if len(rows) > MAX_ROWS:
            raise SqlError(f"it returns more than {MAX_ROWS:,} rows")
        return Result(tuple(column[0] for column in cursor.description), tuple(tuple(map(_cell, row)) for row in rows))


def _cell(value: object) -> Cell:
    """A driver's value as one of SQLite's kinds, which results are compared by."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and value.is_finite() else float(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    return bytes(value) if isinstance(value, bytearray | memoryview) else str(value)


def _literal(cell: Cell) -> str:
    if cell is None or isinstance(cell, bool):
        return "NULL" if cell is None else str(cell).upper()
    if isinstance(cell, bytes):
        return f"'{cell.hex()}'"
    return repr(cell) if isinstance(cell, int | float) else "'" + cell.replace("'", "''") + "'"


def _statements(script: str, dialect: str) -> list[str]:
    """The statements of a script that make or fill a table."""
    check_text(script, MAX_SCRIPT)
    kept = []
    for tree in _trees(script, dialect):
        if isinstance(tree, exp.Insert) or (
            isinstance(tree, exp.Create) and tree.kind in ("TABLE", "VIEW", "INDEX", "TYPE")
        ):
            for table in tree.find_all(exp.Table):
                table.set("db", None)
                table.set("catalog", None)
            kept.append(tree.sql(dialect))
    return kept


def _trees(script: str, dialect: str) -> list[exp.Expression]:
    try:
        return [tree for tree in sqlglot.parse(script, read=dialect) if tree]
    except UNREADABLE as error:
        raise SqlError(f"it cannot be read as {dialect}: {(str(error).splitlines() or [''])[0]}") from None


@dataclass(frozen=True)
class _Created:
    keys: frozenset[str]
    refers: Mapping[str, tuple[str, str]]


def _created(image: Image, dialect: str) -> dict[str, _Created]:
    """The tables that scripts make, as they are called, with the column that is the key and those that refer."""
    scripts = [str(script) for script in image if not str(script).startswith(_MAY_FAIL)]
    tables: dict[str, _Created] = {}
    for tree in (tree for script in scripts for tree in _trees(script, dialect)):
        if isinstance(tree, exp.Create) and tree.kind == "TABLE" and isinstance(tree.this, exp.Schema):
            name = tree.this.this.this
            columns = list(tree.find_all(exp.ColumnDef))
            keys = [c.name for c in columns if c.find(exp.PrimaryKeyColumnConstraint)]
            keys += [part.name for key in tree.find_all(exp.PrimaryKey) for part in key.expressions]
            refers = {c.name.lower(): _referred(r) for c in columns if (r := c.find(exp.Reference))}
            for key in tree.find_all(exp.ForeignKey):
                if len(key.expressions) == 1 and key.args.get("reference"):
                    refers[key.expressions[0].name.lower()] = _referred(key.args["reference"])
            folded = name.name if name.quoted or dialect != "postgres" else name.name.lower()
            tables[folded] = _Created(frozenset(keys if len(keys) == 1 else ()), refers)
    return tables


def _referred(reference: exp.Reference) -> tuple[str, str]:
    table = reference.find(exp.Table)
    column = next((part.name for part in reference.this.expressions), "")
    return (table.name.lower() if table else "", column.lower())
