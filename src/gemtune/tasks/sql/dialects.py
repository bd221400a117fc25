"""SQL of one dialect in the words of another: what sqlglot can do exactly, and a schema of bare columns for SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from gemtune.tasks.sql.sandbox import MAX_QUERY, MAX_SCRIPT, SqlError, check_text, quoted
from gemtune.tasks.sql.text import UNREADABLE, parsed

DIALECTS = ("sqlite", "postgres", "mysql", "tsql", "duckdb", "bigquery", "snowflake", "oracle")

_TYPE = exp.DataType.Type
_NUMBERS = {*exp.DataType.INTEGER_TYPES, _TYPE.BOOLEAN, _TYPE.SERIAL, _TYPE.BIGSERIAL, _TYPE.SMALLSERIAL}
_COUNTERS = {_TYPE.SERIAL, _TYPE.BIGSERIAL, _TYPE.SMALLSERIAL}
_COUNTING = (exp.AutoIncrementColumnConstraint, exp.GeneratedAsIdentityColumnConstraint)
_TEXTS = {*exp.DataType.TEXT_TYPES, _TYPE.ENUM, _TYPE.UUID}
# Of a column only these reach SQLite: indexes, engines, comments and collations are other databases'.
_KEPT = (exp.NotNullColumnConstraint, exp.PrimaryKeyColumnConstraint, exp.UniqueColumnConstraint)
_CONSTANT = (exp.Literal, exp.Boolean, exp.Null, exp.Neg, exp.CurrentDate, exp.CurrentTimestamp)
_PARTS = {"YEAR": "%Y", "MONTH": "%m", "DAY": "%d", "HOUR": "%H", "MINUTE": "%M", "SECOND": "%S", "DOW": "%w"}


def readings(dialect: str) -> tuple[str, ...]:
    """The dialects a row may be written in, the recipe's first.

    >>> readings("mysql")[:3]
    ('mysql', 'sqlite', 'postgres')
    """
    return (dialect, *(other for other in DIALECTS if other != dialect))


def query_for(engine: str, sql: str, dialect: str, schema: str) -> str:
    """One statement in an engine's dialect; SqlError where sqlglot cannot say the same there.

    >>> query_for("sqlite", "SELECT IF(a > 1, 1, 0) FROM `t`", "mysql", "CREATE TABLE t (a INT)")
    'SELECT IIF(a > 1, 1, 0) FROM "t"'
    >>> query_for("sqlite", "SELECT a + ', ' + b FROM t", "tsql", "CREATE TABLE t (a NVARCHAR(9), b TEXT)")
    "SELECT a || ', ' || b FROM t"
    """
    if dialect == engine:
        return sql
    check_text(sql, MAX_QUERY)
    tree = parsed(sql, dialect)
    if tree is None:
        raise SqlError(f"it cannot be read as {dialect}")
    try:
        tree = tree.copy()
        if dialect == "tsql":
            _join_texts(tree, text_columns(schema, dialect))
        if engine == "sqlite":
            tree = tree.transform(_of_sqlite)
        text: str = tree.sql(engine, unsupported_level=ErrorLevel.RAISE)
        return text
    except UNREADABLE as error:
        raise SqlError(f"it cannot be said in {engine}: {_first_line(error)}") from None


def script_for(engine: str, script: str, dialect: str) -> str:
    """A script of CREATE and INSERT statements in an engine's dialect; SqlError where it cannot be read.

    >>> script_for("sqlite", "CREATE TABLE t (id SERIAL, n ENUM('a', 'b'), PRIMARY KEY (id), KEY (n))", "mysql")
    'CREATE TABLE "t" ("id" INTEGER PRIMARY KEY, "n" TEXT)'
    """
    if dialect == engine:
        return script
    check_text(script, MAX_SCRIPT)
    try:
        trees = [tree for tree in sqlglot.parse(script, read=dialect) if tree]
        return ";\n".join(filter(None, (_in_script(engine, tree) for tree in trees)))
    except UNREADABLE as error:
        raise SqlError(f"it cannot be read as {dialect}: {_first_line(error)}") from None


def _in_script(engine: str, tree: exp.Expression) -> str:
    """The statement, or nothing for one that neither makes a table nor fills it (SET, USE, CREATE TYPE, COMMIT)."""
    if (
        engine == "sqlite"
        and isinstance(tree, exp.Create)
        and tree.kind == "TABLE"
        and isinstance(tree.this, exp.Schema)
    ):
        return _bare_table(tree.this)
    if isinstance(tree, exp.Insert) or (isinstance(tree, exp.Create) and tree.kind in ("TABLE", "VIEW", "INDEX")):
        text: str = tree.transform(_of_sqlite).sql(engine) if engine == "sqlite" else tree.sql(engine)
        return text
    return ""


def _bare_table(schema: exp.Schema) -> str:
    columns = [part for part in schema.expressions if isinstance(part, exp.ColumnDef)]
    others = [part for part in schema.expressions if not isinstance(part, exp.ColumnDef)]
    keys = [_names(key) for part in others for key in part.find_all(exp.PrimaryKey)]
    keys += [
        _names(part) for part in others if part.find(exp.PrimaryKeyColumnConstraint)
    ]  # T-SQL's PRIMARY KEY CLUSTERED
    counter = next((column.name for column in columns if _counts(column)), None)
    is_key = keys == [[counter]]
    parts = [_bare_column(column, counter if is_key else None) for column in columns]
    parts += [] if is_key else [f"PRIMARY KEY ({_listed(key)})" for key in keys]
    for part in others:
        parts += [f"UNIQUE ({_listed(_names(key.this))})" for key in part.find_all(exp.UniqueColumnConstraint)]
        foreign = [key for key in part.find_all(exp.ForeignKey) if key.args.get("reference")]
        parts += [f"FOREIGN KEY ({_listed(_names(key))}) {_reference(key.args['reference'])}" for key in foreign]
    return f"CREATE TABLE {quoted(schema.this.name)} ({', '.join(parts)})"


def _names(node: exp.Expression) -> list[str]:
    parts = [node for part in node.expressions for node in (part.this if isinstance(part.this, list) else [part])]
    return [name.name for part in parts if (name := part.find(exp.Identifier))]


def _listed(names: list[str]) -> str:
    return ", ".join(map(quoted, names))


def _reference(reference: exp.Reference) -> str:
    """Without what happens on a change, which nothing here does."""
    return f"REFERENCES {reference.this.sql('sqlite', identify=True)}"


def _bare_column(column: exp.ColumnDef, key: str | None) -> str:
    if _counts(column):
        if column.name != key and not column.find(exp.PrimaryKeyColumnConstraint):
            raise SqlglotError(f"column {column.name} counts by itself and is no key")
        return f"{quoted(column.name)} INTEGER PRIMARY KEY"
    kept = [constraint.kind for constraint in column.constraints]
    if any(isinstance(part, exp.ComputedColumnConstraint | exp.GeneratedAsRowColumnConstraint) for part in kept):
        raise SqlglotError(f"column {column.name} is computed")
    parts = [quoted(column.name), _affinity(column)]
    parts += [part.sql("sqlite") for part in kept if isinstance(part, _KEPT)]
    parts += [
        f"DEFAULT ({part.this.sql('sqlite')})"
        for part in kept
        if isinstance(part, exp.DefaultColumnConstraint) and isinstance(part.this, _CONSTANT)
    ]
    parts += [_reference(part) for part in kept if isinstance(part, exp.Reference)]
    return " ".join(filter(None, parts))


def _counts(column: exp.ColumnDef) -> bool:
    """Whether the database numbers this column's rows by itself."""
    kind = column.args.get("kind")
    return (kind is not None and kind.this in _COUNTERS) or any(
        isinstance(p.kind, _COUNTING) for p in column.constraints
    )


def _affinity(column: exp.ColumnDef) -> str:
    kind = column.args.get("kind")
    if kind is None or kind.this in exp.DataType.REAL_TYPES or kind.this in (_TYPE.MONEY, _TYPE.SMALLMONEY):
        return "" if kind is None else "NUMERIC"
    return "INTEGER" if kind.this in _NUMBERS else "TEXT"


def _of_sqlite(node: exp.Expression) -> exp.Expression:
    """What sqlglot leaves as it is and SQLite reads in another way, or not at all."""
    if isinstance(node, exp.Table) and node.args.get("db"):  # dbo.pet, public.pet
        node.set("db", None)
        node.set("catalog", None)
    if isinstance(node, exp.National):
        return exp.Literal.string(node.name)
    if isinstance(node, exp.Extract) and (form := _PARTS.get(node.name.upper())):
        return exp.cast(exp.func("STRFTIME", exp.Literal.string(form), node.expression), "INTEGER")
    if isinstance(node, exp.Year | exp.Month | exp.Day) and (form := _PARTS.get(type(node).__name__.upper())):
        return exp.cast(exp.func("STRFTIME", exp.Literal.string(form), node.this), "INTEGER")
    if isinstance(node, exp.Cast) and node.to.this in exp.DataType.TEMPORAL_TYPES:  # SQLite's CAST AS DATE is a number
        return exp.Anonymous(this="DATE" if node.to.this == _TYPE.DATE else "DATETIME", expressions=[node.this])
    return node


def text_columns(schema: str, dialect: str) -> set[str]:
    """The names, in lower case, of the columns that are texts in every table that has them."""
    text, other = set[str](), set[str]()
    for column in _columns(schema, dialect):
        kind = column.args.get("kind")
        (text if kind is not None and kind.this in _TEXTS else other).add(column.name.lower())
    return text - other


def _columns(schema: str, dialect: str) -> Iterator[exp.ColumnDef]:
    for tree in sqlglot.parse(schema, read=dialect):
        if isinstance(tree, exp.Create):
            yield from tree.find_all(exp.ColumnDef)


def _join_texts(tree: exp.Expression, names: Iterable[str]) -> None:
    """T-SQL joins texts with +, in place; in SQLite that is 0 whatever the texts."""
    texts = set(names)
    for add in reversed(list(tree.find_all(exp.Add))):
        if _is_text(add.this, texts) or _is_text(add.expression, texts):
            add.replace(exp.DPipe(this=add.this, expression=add.expression, safe=True))


def _is_text(node: exp.Expression, texts: set[str]) -> bool:
    if isinstance(node, exp.Column):
        return node.name.lower() in texts
    if isinstance(node, exp.Cast):
        return node.to.this in _TEXTS
    return isinstance(node, exp.DPipe | exp.National | exp.Upper | exp.Lower) or (
        isinstance(node, exp.Literal) and node.is_string
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
