"""SQL as text: whether it parses, its canonical spelling, and the SQL in a model's reply.

sqlglot bounds neither time nor memory, so what was written by a model or found in a row is parsed in a child process.
"""

from __future__ import annotations

import functools
import logging
import re
from collections import Counter

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.parser import Parser
from sqlglot.tokens import Tokenizer

from gemtune.tasks.sql.sandbox import MAX_QUERY

# sqlglot reads DATE(...) first as a type and then again as a call, so nested ones double its time: 0.2 s for 10 levels.
MAX_TYPE_DEPTH = 6
# What sqlglot raises over text that it cannot read: it descends once per parenthesis and does not count, and {:} is a
# fault of its own.
UNREADABLE = (SqlglotError, RecursionError, AttributeError)
MOST_PARAGRAPHS = 8  # of a reply that are tried as one statement

_FENCE = re.compile(r"```(?:\w*sql\w*|postgres)?(.*?)(?:```|\Z)", re.IGNORECASE | re.DOTALL)
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n\s*")
_PIECE = re.compile(r"""'[^']*+'?|"[^"]*+"?|\w++|[()]""")
_CLAUSE = re.compile(
    r"(?:FROM|WHERE|GROUP|HAVING|ORDER|LIMIT|OFFSET|FETCH|WINDOW|QUALIFY|UNION|INTERSECT|EXCEPT|SELECT|VALUES|RETURNING"
    r"|JOIN|LEFT|RIGHT|INNER|FULL|CROSS|NATURAL|AND|OR|ON|SET)\b|[(),]|--|/\*",
    re.IGNORECASE,
)
_TYPES = {word for word, token in Tokenizer.KEYWORDS.items() if token in Parser.TYPE_TOKENS}

# An unknown statement makes sqlglot warn on stderr; here that is an ordinary wrong answer.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


@functools.lru_cache(maxsize=64)
def parsed(sql: str, dialect: str) -> exp.Expression | None:
    """The one statement in `sql`, or None where there is none, more than one or something else; not to be changed."""
    if len(sql) > MAX_QUERY or is_too_deep(sql):
        return None
    try:
        trees = sqlglot.parse(sql, read=dialect)
    except UNREADABLE:
        return None
    kinds = exp.Query | exp.Values | exp.DML | exp.DDL | exp.Drop | exp.Alter | exp.Merge
    if len(trees) != 1 or not isinstance(trees[0], kinds):
        return None
    empty = isinstance(trees[0], exp.Select) and not trees[0].expressions and not trees[0].find(exp.From)
    return None if empty else trees[0]


def is_too_deep(sql: str) -> bool:
    """Whether it would take for ever to parse."""
    return _type_depth(sql) > MAX_TYPE_DEPTH


def _type_depth(sql: str) -> int:
    """How many calls of a type's name are open at once.

    >>> _type_depth("SELECT DATE(DATE(DATE(a))), DATE(b) FROM t"), _type_depth("SELECT REPLACE(REPLACE(a, 1, 2), 3, 4)")
    (3, 0)
    """
    opened: list[bool] = []
    depth = deepest = 0
    before = ""
    for piece in _PIECE.findall(sql):
        if piece == "(":
            opened.append(before.upper() in _TYPES)
            depth += opened[-1]
            deepest = max(deepest, depth)
        elif piece == ")" and opened:
            depth -= opened.pop()
        before = piece
    return deepest


def parses(sql: str, dialect: str) -> bool:
    """Whether `sql` is one statement of a sqlglot dialect, such as "sqlite" or "mysql".

    >>> parses("SELECT name FROM pet", "sqlite"), parses("SELECT name FRO pet WHERE", "sqlite"), parses("ok", "sqlite")
    (True, False, False)
    """
    return parsed(sql, dialect) is not None


def orders(sql: str, dialect: str) -> bool:
    """Whether the outermost query has an ORDER BY; False for what does not parse.

    >>> orders("SELECT name FROM pet ORDER BY age", "sqlite")
    True
    >>> orders("SELECT name FROM (SELECT name FROM pet ORDER BY age)", "sqlite")
    False
    """
    tree = parsed(sql, dialect)
    while isinstance(tree, exp.Subquery) and not tree.args.get("order"):
        tree = tree.this
    return tree is not None and bool(tree.args.get("order"))


def canonical(sql: str, dialect: str) -> str | None:
    """One spelling for statements that differ in case, white space, quotes or needless aliases; None if not SQL.

    >>> canonical("select T1.Name as n from Pet as T1 where T1.age <> 3", "sqlite")
    'SELECT "name" FROM "pet" WHERE "age" <> 3'
    """
    original = parsed(sql, dialect)
    if original is None:
        return None
    try:
        tree = original.copy()
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
    except UNREADABLE:
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


def first_statement(reply: str, dialect: str = "sqlite") -> str:
    r"""The SQL in a model's reply, without a closing semicolon: the first fenced block, else the first paragraphs.

    A blank line ends the statement only where what follows is no clause of it.

    >>> first_statement("Here you are:\n```sql\nSELECT name\n\nFROM pet;\n```\nIt lists the pets.")
    'SELECT name\n\nFROM pet'
    >>> first_statement("SELECT name\n\nFROM pet\n\nIt lists the pets.")
    'SELECT name\n\nFROM pet'
    """
    fence = _FENCE.search(reply)
    if fence:
        return _without_end(fence[1])
    text = reply.strip()
    blanks = list(_BLANK_LINE.finditer(text))[: MOST_PARAGRAPHS - 1]
    ends = [*(blank.start() for blank in blanks), len(text)]
    whole = next((place for place, end in enumerate(ends) if parses(_without_end(text[:end]), dialect)), None)
    if whole is None:
        return _without_end(text[: ends[0]])
    # Only a clause continues a statement: a word alone would be read as an alias.
    while whole < len(blanks) and (_CLAUSE.match(text, blanks[whole].end()) or text[: ends[whole]].endswith(",")):
        places = range(whole + 1, len(ends))
        longer = next((place for place in places if parses(_without_end(text[: ends[place]]), dialect)), None)
        if longer is None:
            break
        whole = longer
    return _without_end(text[: ends[whole]])


def _without_end(statement: str) -> str:
    return statement.strip().rstrip("; \t\r\n")
