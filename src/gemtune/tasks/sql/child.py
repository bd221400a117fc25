"""What is done with SQL that a model or a row wrote, in a child process: reading, running, judging.

One request is one piece of work on one row; a request that takes too long or too much memory ends the child.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from gemtune.tasks.sql.dialects import query_for, readings, script_for
from gemtune.tasks.sql.sandbox import Result, SqlError, change, load, query, same_result
from gemtune.tasks.sql.text import canonical, first_statement, is_too_deep, orders, parsed, parses
from gemtune.worker import JsonValue

_HAS_ROWS = re.compile(r"\bINSERT\s+INTO\b", re.IGNORECASE)
_QUOTED = re.compile(r"""('(?:[^']|'')*+'?|"[^"]*+"?)|\s+""")


@dataclass(frozen=True)
class Gold:
    """A row's query, the database it is about, and the dialect that the recipe says it is written in."""

    sql: str
    schema: str
    inserts: str
    dialect: str

    @property
    def has_rows(self) -> bool:
        return bool(self.inserts or _HAS_ROWS.search(self.schema))


@dataclass(frozen=True)
class Reading:
    """The dialect a gold query was found to be written in, none where no parser reads it, and why it cannot be run."""

    dialect: str
    why: str = ""


Outcome = tuple[Result, ...]  # what a query returned, or every table after a change


def answer(request: JsonValue) -> JsonValue:
    """The child's one function: `do` says what, the rest is what it takes."""
    return _WORK[request.pop("do")](**request)


def read(gold: dict[str, str]) -> dict[str, str]:
    """How a gold query can be scored."""
    reading = reading_of(Gold(**gold))
    return {"dialect": reading.dialect, "why": reading.why}


@functools.lru_cache(maxsize=64)
def reading_of(gold: Gold) -> Reading:
    """The first dialect in which the gold query runs, else the first in which it parses."""
    reasons: dict[str, str] = {}
    for dialect in readings(gold.dialect):
        if not parses(gold.sql, dialect):
            continue
        try:
            outcome(gold, gold.sql, dialect)
        except SqlError as error:
            reasons[dialect] = str(error)
        else:
            return Reading(dialect)
    first = next(iter(reasons), "")
    return Reading(first, reasons.get(first) or f"not one {gold.dialect} statement")


def outcome(gold: Gold, sql: str, dialect: str) -> Outcome:
    """What a statement of `dialect` returns on the row's database, or for a gold that changes it, leaves there."""
    if is_too_deep(sql):
        raise SqlError("it is nested too deep")
    image = load(script_for("sqlite", gold.schema, dialect), script_for("sqlite", gold.inserts, dialect))
    statement = query_for("sqlite", sql, dialect, gold.schema)
    changes = isinstance(parsed(gold.sql, dialect), exp.DML)
    return change(statement, image) if changes else (query(statement, image),)


@functools.lru_cache(maxsize=16)
def _gold_outcome(gold: Gold, dialect: str) -> Outcome:
    return outcome(gold, gold.sql, dialect)


def scores(gold: dict[str, str], reading: dict[str, str]) -> list[str]:
    """What a reply to the row is scored by: what needs no run, and what the row's data can decide."""
    names = {"canonical": True, "runs": not reading["why"], "valid": bool(reading["dialect"])}
    return [name for name, is_scored in names.items() if is_scored] + ["execution"] * is_run(Gold(**gold), reading)


def is_run(gold: Gold, reading: dict[str, str]) -> bool:
    """Whether replies are scored by what they return."""
    return gold.has_rows and not reading["why"]


def score(gold: dict[str, str], reading: dict[str, str], reply: str) -> dict[str, float]:
    """The scores of a reply."""
    row, dialect = Gold(**gold), reading["dialect"]
    sql = row.sql if reply.strip() == row.sql else first_statement(reply, dialect or row.dialect)
    result = None if reading["why"] else _outcome_or_none(row, sql, dialect)
    values: dict[str, Callable[[], bool]] = {
        "canonical": lambda: spelling(sql, dialect) == spelling(row.sql, dialect),
        "runs": lambda: result is not None,
        "valid": lambda: parses(sql, dialect),
        "execution": lambda: (
            result is not None and _same(result, _gold_outcome(row, dialect), orders(row.sql, dialect))
        ),
    }
    return {name: float(values[name]()) for name in scores(gold, reading)}


def _outcome_or_none(gold: Gold, sql: str, dialect: str) -> Outcome | None:
    try:
        return outcome(gold, sql, dialect)
    except SqlError:
        return None


def spelling(sql: str, dialect: str) -> str:
    """The canonical form; of what cannot be read, its text without regard to case and white space outside quotes.

    >>> spelling("SELECT  A FROM t", "sqlite"), spelling("SELECT  'A b' FROM", "")
    ('SELECT "a" FROM "t"', "select 'A b' from")
    """
    form = canonical(sql, dialect) if dialect else None
    return form or "".join(part if part[:1] in "'\"" else part.lower() for part in _pieces(sql))


def _pieces(sql: str) -> list[str]:
    spaced = _QUOTED.sub(lambda piece: piece[1] or " ", sql.strip())
    return [piece for piece in re.split(r"""('(?:[^']|'')*+'?|"[^"]*+"?)""", spaced) if piece]


def _same(one: Outcome, other: Outcome, ordered: bool) -> bool:
    return len(one) == len(other) and all(same_result(a, b, ordered=ordered) for a, b in zip(one, other, strict=True))


def table_names(statements: list[str], dialect: str) -> list[str | None]:
    """For every CREATE TABLE statement its names, of the table and its columns; None for what is something else."""
    return [_names(statement, dialect) for statement in statements]


def _names(statement: str, dialect: str) -> str | None:
    try:
        tree = sqlglot.parse_one(statement, read=dialect)
    except (SqlglotError, RecursionError):
        return None
    if not isinstance(tree, exp.Create) or tree.kind != "TABLE":
        return None
    table = tree.find(exp.Table)
    return " ".join([table.name if table else "", *(column.name for column in tree.find_all(exp.ColumnDef))])


_WORK: dict[str, Callable[..., JsonValue]] = {
    "read": read,
    "score": score,
    "scores": scores,
    "table_names": table_names,
}
