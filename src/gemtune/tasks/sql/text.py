"""SQL as text: whether it parses, its canonical spelling, other dialects, and the SQL in a model's reply."""

from __future__ import annotations

import logging
import re
from collections import Counter

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from gemtune.tasks.sql.sandbox import MAX_QUERY, MAX_SCRIPT, SqlError, check_text

_FENCE = re.compile(r"```(?:\w*sql\w*|postgres)?(.*?)(?:```|\Z)", re.IGNORECASE | re.DOTALL)
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")

# An unknown statement makes sqlglot warn on stderr; here that is an ordinary wrong answer.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


def _parse(sql: str, dialect: str) -> exp.Expression | None:
    """The one statement in `sql`, or None where there is none, more than one or something else."""
    if len(sql) > MAX_QUERY:
        return None
    try:
        trees = sqlglot.parse(sql, read=dialect)
    except (SqlglotError, RecursionError):  # sqlglot descends once per parenthesis and does not count
        return None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query | exp.Values | exp.DML | exp.DDL | exp.Drop | exp.Alter):
        return None
    empty = isinstance(trees[0], exp.Select) and not trees[0].expressions and not trees[0].find(exp.From)
    return None if empty else trees[0]


def parses(sql: str, dialect: str) -> bool:
    """Whether `sql` is one statement of a sqlglot dialect, such as "sqlite" or "mysql".

    >>> parses("SELECT name FROM pet", "sqlite"), parses("SELECT name FRO pet WHERE", "sqlite"), parses("ok", "sqlite")
    (True, False, False)
    """
    return _parse(sql, dialect) is not None


def orders(sql: str, dialect: str) -> bool:
    """Whether the outermost query has an ORDER BY; False for what does not parse.

    >>> orders("SELECT name FROM pet ORDER BY age", "sqlite")
    True
    >>> orders("SELECT name FROM (SELECT name FROM pet ORDER BY age)", "sqlite")
    False
    """
    tree = _parse(sql, dialect)
    while isinstance(tree, exp.Subquery) and not tree.args.get("order"):
        tree = tree.this
    return tree is not None and bool(tree.args.get("order"))


def canonical(sql: str, dialect: str) -> str | None:
    """One spelling for statements that differ in case, white space, quotes or needless aliases; None if not SQL.

    >>> canonical("select T1.Name as n from Pet as T1 where T1.age <> 3", "sqlite")
    'SELECT "name" FROM "pet" WHERE "age" <> 3'
    """
    tree = _parse(sql, dialect)
    if tree is None:
        return None
    try:
        rules = sqlglot.Dialect.get_or_raise(dialect)
        for name in tree.find_all(exp.Identifier):
            if not name.quoted:
                rules.normalize_identifier(name)
        if isinstance(tree, exp.Query):
            _drop_aliases(tree)
        for join in tree.find_all(exp.Join):
            if join.kind == "INNER" or (join.side and join.kind == "OUTER"):
                join.set("kind", None)
        for ordered in tree.find_all(exp.Ordered):
            ordered.set("desc", ordered.args.get("desc") or None)
        text: str = tree.sql(dialect=dialect, identify=True, comments=False)
        return text
    except (SqlglotError, RecursionError):
        return None


def _drop_aliases(tree: exp.Query) -> None:
    """Removes, in place, the aliases whose removal cannot change what any name in the whole statement refers to."""
    tables = list(tree.find_all(exp.Table))
    columns = list(tree.find_all(exp.Column))
    names = Counter(table.name for table in tables)
    aliases = Counter(node.alias for node in tree.find_all(exp.Table, exp.Subquery, exp.CTE, exp.UDTF) if node.alias)
    table_of = {}  # an alias that is removed -> its table
    for table in tables:
        plain = table.alias and not table.db and not table.args["alias"].columns
        if plain and names[table.name] == aliases[table.alias] == 1 and not (aliases[table.name] or names[table.alias]):
            table_of[table.alias] = table.name
            table.set("alias", None)
    for column in columns:
        if column.table in table_of:
            column.set("table", exp.to_identifier(table_of[column.table]))
    if len(tables) == 1 and len(list(tree.find_all(exp.Query, exp.UDTF))) == 1:
        for column in columns:
            if column.table == tables[0].alias_or_name:
                column.set("table", None)
    if isinstance(tree, exp.Select):
        used = {column.name for column in columns if not column.table}
        for alias in [selected for selected in tree.expressions if isinstance(selected, exp.Alias)]:
            if alias.alias not in used or (isinstance(alias.this, exp.Column) and alias.this.name == alias.alias):
                alias.replace(alias.this)


def to_sqlite(sql: str, dialect: str) -> str:
    """The statements of another dialect in SQLite's; SqlError where sqlglot cannot read them.

    >>> to_sqlite("SELECT IF(a > 1, 1, 0) FROM `t`", "mysql")
    'SELECT IIF(a > 1, 1, 0) FROM "t"'
    """
    if dialect == "sqlite":
        return sql
    check_text(sql, MAX_SCRIPT)
    try:
        trees = sqlglot.parse(sql, read=dialect)
        return ";\n".join(tree.sql("sqlite", unsupported_level=ErrorLevel.IGNORE) for tree in trees if tree)
    except (SqlglotError, RecursionError) as error:
        raise SqlError(f"it cannot be read as {dialect}: {(str(error).splitlines() or [''])[0]}") from None


def first_statement(reply: str) -> str:
    r"""The SQL in a model's reply: the first fenced block, else the text up to a blank line; no closing semicolon.

    >>> first_statement("Here you are:\n```sql\nSELECT name\n\nFROM pet;\n```\nIt lists the pets.")
    'SELECT name\n\nFROM pet'
    >>> first_statement("SELECT name FROM pet;\n\nIt lists the pets.")
    'SELECT name FROM pet'
    """
    fence = _FENCE.search(reply)
    statement = fence[1] if fence else _BLANK_LINE.split(reply.strip(), maxsplit=1)[0]
    return statement.strip().rstrip("; \t\r\n")
