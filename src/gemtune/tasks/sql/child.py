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

from gemtune.tasks.sql.dialects import query_for, readings, script_for
from gemtune.tasks.sql.engines import Image, Outcome
from gemtune.tasks.sql.evidence import Evidence, Statement, database, evidence_for, same
from gemtune.tasks.sql.sandbox import SqlError
from gemtune.tasks.sql.servers import Unreachable, engine_of
from gemtune.tasks.sql.text import UNREADABLE, canonical, first_statement, is_too_deep, orders, parsed, parses
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
    engine: str = "sqlite"

    @property
    def has_rows(self) -> bool:
        return bool(self.inserts or _HAS_ROWS.search(self.schema))


@dataclass(frozen=True)
class Reading:
    """The dialect a gold query was found to be written in, none where no parser reads it, and why it cannot be run."""

    dialect: str
    why: str = ""


_PASSWORD: dict[str, str] = {}  # engine -> password of its server, which comes with the request and is kept nowhere


def answer(request: JsonValue) -> JsonValue:
    """The child's one function: `do` says what, the rest is what it takes. A server that is not there is an answer."""
    password = request.pop("password", None)
    if password is not None:
        _PASSWORD[request["gold"]["engine"]] = password
    try:
        return _WORK[request.pop("do")](**request)
    except Unreachable as error:
        return {"unreachable": str(error)}


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
            statement = statement_of(gold, dialect)
            statement.outcome(statement.sql, statement.image)
        except SqlError as error:
            reasons[dialect] = str(error)
        else:
            return Reading(dialect)
    first = next((dialect for dialect, why in reasons.items() if "do not load" not in why), next(iter(reasons), ""))
    return Reading(first, reasons.get(first) or f"not one {gold.dialect} statement")


def statement_of(gold: Gold, dialect: str) -> Statement:
    """The gold query and its database as the engine runs them; SqlError where it cannot."""
    engine = engine_of(gold.engine, _PASSWORD.get(gold.engine))
    image = engine.load(*(script_for(engine.dialect, script, dialect) for script in (gold.schema, gold.inserts)))
    return Statement(_runnable(gold, gold.sql, dialect), image, isinstance(parsed(gold.sql, dialect), exp.DML), engine)


def _runnable(gold: Gold, sql: str, dialect: str) -> str:
    if is_too_deep(sql):
        raise SqlError("it is nested too deep")
    return query_for(engine_of(gold.engine, _PASSWORD.get(gold.engine)).dialect, sql, dialect, gold.schema)


def claim(gold: dict[str, str], reading: dict[str, str]) -> JsonValue:
    """What a reply to the row is scored by, how many databases that takes, and why it is not scored by running."""
    row = Gold(**gold)
    evidence = _evidence(row, reading)
    is_there = {"runs": not reading["why"], "valid": bool(reading["dialect"]), "execution": not evidence.why}
    names = ["accuracy", *(name for name, there in is_there.items() if there), "canonical"]
    return {"scores": names, "generated": evidence.generated, "why": evidence.why}


def _evidence(gold: Gold, reading: dict[str, str]) -> Evidence:
    if reading["why"] or not gold.has_rows:
        return Evidence(why=reading["why"] or "it has no data")
    return evidence_for(statement_of(gold, reading["dialect"]))


def score(gold: dict[str, str], reading: dict[str, str], claim: JsonValue, reply: str) -> dict[str, float]:
    """The scores of a reply that are claimed."""
    row, dialect = Gold(**gold), reading["dialect"]
    sql = row.sql if reply.strip() == row.sql else first_statement(reply, dialect or row.dialect)
    agrees = [] if reading["why"] else _agreements(row, dialect, claim["generated"], sql)
    values = {
        "canonical": spelling(sql, dialect) == spelling(row.sql, dialect),
        "runs": bool(agrees),
        "valid": parses(sql, dialect) if dialect else False,
        "execution": bool(agrees) and all(agrees),
    }
    values["accuracy"] = values["execution" if "execution" in claim["scores"] else "canonical"]
    return {name: float(values[name]) for name in claim["scores"]}


def _agreements(gold: Gold, dialect: str, generated: int, sql: str) -> list[bool]:
    """For each database whether a statement comes to the same as the gold query; none where it does not run."""
    try:
        statement, runnable = statement_of(gold, dialect), _runnable(gold, sql, dialect)
        images = [database(statement, count) for count in range(generated + 1)]
        outcomes = [statement.outcome(runnable, image) for image in images]
    except SqlError:
        return []
    ordered = orders(statement.sql, statement.engine.dialect)
    golds = [_gold_outcome(statement, image) for image in images]
    return [same(outcome, right, ordered) for outcome, right in zip(outcomes, golds, strict=True)]


@functools.lru_cache(maxsize=16)
def _gold_outcome(statement: Statement, image: Image) -> Outcome:
    return statement.outcome(statement.sql, image)


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


def table_names(statements: list[str], dialect: str) -> list[str | None]:
    """For every CREATE TABLE statement its names, of the table and its columns; None for what is something else."""
    return [_names(statement, dialect) for statement in statements]


def _names(statement: str, dialect: str) -> str | None:
    try:
        tree = sqlglot.parse_one(statement, read=dialect)
    except UNREADABLE:
        return None
    if not isinstance(tree, exp.Create) or tree.kind != "TABLE":
        return None
    table = tree.find(exp.Table)
    return " ".join([table.name if table else "", *(column.name for column in tree.find_all(exp.ColumnDef))])


_WORK: dict[str, Callable[..., JsonValue]] = {
    "read": read,
    "score": score,
    "claim": claim,
    "table_names": table_names,
}
