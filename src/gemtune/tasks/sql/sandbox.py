"""Runs SQL that a model wrote in SQLite, in memory and within limits, and says whether two results agree.

The text is hostile: an authorizer lets through reads of the loaded tables and a list of ordinary functions, SQLite's
own limits bound every value, and a deadline is checked both while a statement is compiled and while it runs. What no
check of SQLite's bounds (a parser, one long function, the planner) is bounded by the child process that this runs in.
"""

import functools
import math
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

Cell = int | float | str | bytes | None

MAX_QUERY = 100_000  # characters; sqlglot, in Python, needs about a second for this much
MAX_SCRIPT = 4_000_000  # characters of schema or inserts
MAX_VALUE = 50_000  # bytes of a text, a blob or a row
MAX_CALLS = 200  # function calls in a query, its views and CTEs
MAX_RESULT = 16_000_000  # bytes of all cells of one result
MAX_PAGES = 2_000  # of 4 KiB: the largest database; 32 of them are cached
LOAD_SECONDS = 4.0
# SQLite's cap counts for the whole process. Without it, a sort of long strings takes 2 GB within two seconds.
HEAP_BYTES = 128 * 2**20

_PRAGMAS = (
    f"PRAGMA hard_heap_limit = {HEAP_BYTES}",
    f"PRAGMA max_page_count = {MAX_PAGES}",
    "PRAGMA temp_store = MEMORY",  # a large sort would otherwise write to the temporary folder
)
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MAX_SCRIPT,
    sqlite3.SQLITE_LIMIT_COLUMN: 500,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
_LOADING = _READING | {
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_REINDEX,  # part of CREATE INDEX
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_READ,
}
_CHANGING = _READING | {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
_ONLY = {
    _READING: "only reading is allowed",
    _LOADING: "only CREATE TABLE, INDEX or VIEW and INSERT are allowed",
    _CHANGING: "only reading, INSERT, UPDATE and DELETE are allowed",
}
_FUNCTIONS = frozenset(
    name
    for family in (
        "abs char coalesce concat concat_ws format glob hex if ifnull iif instr length like likelihood likely lower",
        "ltrim max min nullif octet_length printf quote random replace round rtrim sign soundex substr substring trim",
        "typeof unhex unicode unlikely upper avg count group_concat median percentile string_agg sum total",
        "cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number",
        "current_date current_time current_timestamp date datetime julianday strftime time timediff unixepoch",
        "acos asin atan atan2 ceil ceiling cos degrees exp floor ln log log10 log2 mod pi pow power radians sin sqrt",
        "tan trunc -> ->> json json_array json_array_length json_extract json_group_array json_group_object",
        "json_object json_quote json_type json_valid",
    )
    for name in family.split()
)
_RANK = {type(None): 0, bool: 1, int: 1, float: 1, str: 2, bytes: 3}  # as SQLite sorts values of several types
_QUERY = re.compile(r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*+(?:SELECT|WITH|VALUES)\b", re.IGNORECASE | re.DOTALL)
_WIDE = re.compile(r"%[^a-zA-Z%]*(?:\*|\d{4})")
# A dump turns foreign keys off, and lists tables that SQLite makes by itself and refuses to have made (120 of Spider's
# 1,034 schemas). Only at the start of a statement: searched for everywhere, 176 KB took 3.8 s.
_OF_A_DUMP = re.compile(
    r"""(?:\A|(?<=;))\s*+
    (?:PRAGMA\s++foreign_keys\b | (?:CREATE\s++TABLE|INSERT\s++INTO|DELETE\s++FROM)\s++["'`\[]?sqlite_\w)
    [^;]*+(?:;|\Z)""",
    re.IGNORECASE | re.VERBOSE,
)


class SqlError(Exception):
    """A statement that was refused, failed or went over a limit; its text is one line."""


@dataclass(frozen=True)
class Result:
    """What a query returned: column names, and rows in the order in which SQLite gave them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def execute(sql: str, schema: str, inserts: str = "", *, seconds: float = 2.0, max_rows: int = 10_000) -> Result:
    """The result of one query on a fresh database made from `schema` and `inserts`; anything else raises SqlError.

    >>> execute("SELECT name FROM pet", "CREATE TABLE pet (name, age)", "INSERT INTO pet VALUES ('Mia', 3)")
    Result(columns=('name',), rows=(('Mia',),))
    >>> execute("DROP TABLE pet", "CREATE TABLE pet (name, age)")
    Traceback (most recent call last):
    gemtune.tasks.sql.sandbox.SqlError: not a query: it does not begin with SELECT, WITH or VALUES
    """
    return query(sql, load(schema, inserts), seconds=seconds, max_rows=max_rows)


def query(sql: str, image: bytes, *, seconds: float = 2.0, max_rows: int = 10_000) -> Result:
    """The result of one query on a copy of the database `image`."""
    check_text(sql, MAX_QUERY)
    if not _QUERY.match(sql):
        raise SqlError("not a query: it does not begin with SELECT, WITH or VALUES")
    with _open(image, seconds, _READING) as connection:
        return _rows(connection.execute(sql), max_rows)


def change(sql: str, image: bytes, *, seconds: float = 2.0, max_rows: int = 10_000) -> tuple[Result, ...]:
    """Every table of a copy of the database `image`, by name, after one INSERT, UPDATE or DELETE.

    >>> image = load("CREATE TABLE pet (name, age)", "INSERT INTO pet VALUES ('Mia', 3), ('Rex', 5)")
    >>> change("DELETE FROM pet WHERE age > 4", image)
    (Result(columns=('name', 'age'), rows=(('Mia', 3),)),)
    """
    check_text(sql, MAX_QUERY)
    with _open(image, seconds, _CHANGING) as connection:
        connection.execute(sql).fetchall()  # the rows of RETURNING
        connection.set_authorizer(None)
        contents = [connection.execute(f"SELECT * FROM {quoted(name)}") for name in _tables(connection)]  # noqa: S608
        return tuple(_rows(cursor, max_rows) for cursor in contents)


def _tables(connection: sqlite3.Connection) -> list[str]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [name for (name,) in names if not name.startswith("sqlite_")]


def quoted(name: str) -> str:
    """
    >>> quoted('order')
    '"order"'
    """
    return '"' + name.replace('"', '""') + '"'


def _rows(cursor: sqlite3.Cursor, max_rows: int) -> Result:
    rows: list[tuple[Cell, ...]] = []
    size = 0
    for row in cursor:
        size += sum(len(cell) if isinstance(cell, str | bytes) else 8 for cell in row)
        if len(rows) == max_rows:
            raise SqlError(f"it returns more than {max_rows:,} rows")
        if size > MAX_RESULT:
            raise SqlError(f"it returns more than {MAX_RESULT:,} bytes")
        rows.append(row)
    return Result(tuple(column[0] for column in cursor.description), tuple(rows))


def load(*scripts: str) -> bytes:
    """The database that scripts of CREATE and INSERT make, serialized; SqlError when they do not load."""
    image = _loaded(scripts)
    if isinstance(image, SqlError):
        raise SqlError(f"the schema or its rows do not load: {image}")
    return image


@functools.lru_cache(maxsize=16)
def _loaded(scripts: tuple[str, ...]) -> bytes | SqlError:
    """Scoring opens a database several times for every row, and one that does not load must fail only once."""
    try:
        with _open(b"", LOAD_SECONDS, _LOADING) as connection:
            for script in scripts:
                check_text(script, MAX_SCRIPT)
                connection.executescript(_OF_A_DUMP.sub("", script))
            connection.set_authorizer(None)  # the scripts are done
            _check_keys(connection)
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            return connection.serialize() if tables else b""  # SQLite cannot serialize a database without pages
    except SqlError as error:
        return error


def _check_keys(connection: sqlite3.Connection) -> None:
    """SqlError where a key has no value: SQLite takes any word for a type, and fills a SERIAL key with NULL."""
    for table in _tables(connection):
        for _, column, kind, _, _, key in connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall():
            empty = f"SELECT 1 FROM {quoted(table)} WHERE {quoted(column)} IS NULL LIMIT 1"  # noqa: S608
            if (key or kind.upper().endswith("SERIAL")) and connection.execute(empty).fetchone():
                raise SqlError(f"the key {column} of table {table} has no value")


def check_text(sql: str, most: int) -> None:
    """Raises SqlError for a text that no statement should be made of: too long, or not text."""
    if len(sql) > most:
        raise SqlError(f"it is longer than {most:,} characters")
    if "\0" in sql:
        raise SqlError("it contains a NUL character")
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise SqlError("it contains half of a surrogate pair") from None


@contextmanager
def _open(image: bytes, seconds: float, actions: frozenset[int]) -> Iterator[sqlite3.Connection]:
    """A guarded connection to a private copy of `image`; SQLite's errors leave the block as SqlError."""
    guard = _Guard(seconds, actions)
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            for pragma in _PRAGMAS:
                connection.execute(pragma).fetchall()
            if image:
                connection.deserialize(image)
            guard.watch(connection)
            yield connection
    except MemoryError:
        raise SqlError(f"it needs more than {HEAP_BYTES // 2**20} MiB of memory") from None
    except (sqlite3.Error, sqlite3.Warning) as error:  # two statements are a Warning in Python 3.11
        raise SqlError(guard.reason or " ".join(str(error).split())) from None


class _Guard:
    """Decides what one connection may do and until when, and keeps the reason of its first refusal."""

    def __init__(self, seconds: float, actions: frozenset[int]) -> None:
        self.reason = ""
        self._actions = actions
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._tables: set[str] = set()
        self._calls = 0

    def watch(self, connection: sqlite3.Connection) -> None:
        """Guards `connection` from here on."""
        self._tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        for name in ("printf", "format"):
            connection.create_function(name, -1, self._printf, deterministic=True)
        for name, strip in (("trim", str.strip), ("ltrim", str.lstrip), ("rtrim", str.rstrip)):
            connection.create_function(name, 2, functools.partial(self._strip, strip), deterministic=True)
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.set_authorizer(self._authorize)
        connection.set_progress_handler(self._is_late, 20)

    def _is_late(self) -> bool:
        if time.monotonic() < self._deadline:
            return False
        self.reason = self.reason or f"it takes longer than {self._seconds:g} s"
        return True

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        # Nested CTEs can take a compiler exponential time; SQLite below 3.41 checks for progress only while running.
        if self._is_late():
            return sqlite3.SQLITE_DENY
        reason = _ONLY[self._actions]
        if action in self._actions:
            reason = ""
        elif action == sqlite3.SQLITE_FUNCTION:
            self._calls += 1
            reason = "" if str(second).lower() in _FUNCTIONS else f"the function {second} is not allowed"
            if self._calls > MAX_CALLS and self._actions is not _LOADING:
                reason = f"it calls more than {MAX_CALLS} functions"
        elif action == sqlite3.SQLITE_READ:  # an empty column stands for a table of which no column is read
            reason = "" if not second or first in self._tables else f"the table {first} is not part of the schema"
        elif action == sqlite3.SQLITE_UPDATE and self._actions is _LOADING and first == "sqlite_master":
            reason = ""  # part of CREATE TABLE; SQLite itself refuses a statement that names this table
        self.reason = self.reason or reason
        return sqlite3.SQLITE_DENY if reason else sqlite3.SQLITE_OK

    def _printf(self, *arguments: Cell) -> Cell:
        """SQLite's own printf, for widths up to 999: it loops for 6 s over '%.*c' of 10**9 whatever the limits."""
        if arguments and _WIDE.search(str(arguments[0])):
            self.reason = self.reason or "a printf width is above 999 or is an argument"
            raise ValueError(self.reason)
        # One placeholder an argument: nothing of the arguments is in the statement.
        answer: Cell = _plain().execute(f"SELECT printf({','.join('?' * len(arguments))})", arguments).fetchone()[0]
        return answer

    def _strip(self, strip: Callable[[str, str], str], text: Cell, characters: Cell) -> Cell:
        """SQLite's trim(text, characters), whose own loop takes len(text) x len(characters) steps: 12 s at 50,000."""
        if text is None or characters is None:
            return None
        if self._is_late():
            raise ValueError(self.reason)
        return strip(_text(text), _text(characters))


@functools.cache
def _plain() -> sqlite3.Connection:
    """An empty database that formats for the guarded ones."""
    connection = sqlite3.connect(":memory:")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
    return connection


def _text(cell: Cell) -> str:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)


def same_result(a: Result, b: Result, *, ordered: bool) -> bool:
    """Whether two results hold the same rows: in the same order if `ordered`, else each as often in both.

    Column names do not count, the order of columns does. Two integers, texts, blobs or NULLs must be equal; a float
    agrees with a number within 1e-6 of it (relative, or 1e-9 absolute). Without `ordered`, rows that are not equal
    outright are sorted, columns without floats first and floats by six digits, and compared pair by pair; so True
    always means that the rows can be paired off.

    >>> pets = Result(("name", "weight"), (("Mia", 4.0), ("Rex", 0.1 + 0.2)))
    >>> same_result(pets, Result(("a", "b"), (("Rex", 0.3), ("Mia", 4))), ordered=False)
    True
    >>> same_result(pets, Result(("a", "b"), (("Rex", 0.3), ("Mia", 4))), ordered=True)
    False
    """
    if len(a.columns) != len(b.columns) or len(a.rows) != len(b.rows):
        return False
    left, right = list(a.rows), list(b.rows)
    if not ordered:
        counts_a, counts_b = Counter(left), Counter(right)
        left, right = list((counts_a - counts_b).elements()), list((counts_b - counts_a).elements())
        floats = {i for row in left + right for i, cell in enumerate(row) if isinstance(cell, float)}
        key = functools.partial(_sort_key, floats)
        left, right = sorted(left, key=key), sorted(right, key=key)
    return all(_agree(x, y) for row, other in zip(left, right, strict=True) for x, y in zip(row, other, strict=True))


def _agree(x: Cell, y: Cell) -> bool:
    if isinstance(x, int | float) and isinstance(y, int | float) and not (isinstance(x, int) and isinstance(y, int)):
        return math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9)
    return x == y


def _sort_key(floats: set[int], row: tuple[Cell, ...]) -> list[tuple[int, Cell]]:
    places: list[tuple[int, Cell]] = []
    for i in sorted(range(len(row)), key=lambda i: i in floats):
        cell = row[i]
        if i in floats and isinstance(cell, int | float):
            cell = float(f"{cell:.6g}")
        places.append((_RANK[type(cell)], 0 if cell is None else cell))
    return places
