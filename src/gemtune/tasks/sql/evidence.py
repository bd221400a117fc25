"""Whether a row's data tells its query from wrong ones: on its own rows, or on more rows of the same kind."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from sqlglot import exp

from gemtune.tasks.sql.engines import Engine, Image, Outcome, Table
from gemtune.tasks.sql.mutants import constants, equal_columns, mutants
from gemtune.tasks.sql.sandbox import Cell, Result, SqlError, same_result
from gemtune.tasks.sql.text import orders, parsed

GENERATED = 3  # databases with more rows that are tried where a row's own rows do not do
MORE_ROWS = 20  # for each table the query reads
SECONDS = 2.0  # for all mutants of a query


@dataclass(frozen=True)
class Statement:
    """A gold query as the engine runs it, on its database."""

    sql: str
    image: Image
    changes: bool  # INSERT, UPDATE or DELETE
    engine: Engine

    def outcome(self, sql: str, image: Image) -> Outcome:
        return self.engine.outcome(sql, image, self.changes)


@dataclass(frozen=True)
class Evidence:
    """How many databases with generated rows it takes, and why no number of them does."""

    generated: int = 0
    why: str = ""


def evidence_for(gold: Statement) -> Evidence:
    """The least that tells the gold query from every mutant of it: its own rows, and at least once some more.

    On its own few rows a wrong query is right by chance, and `SELECT 9` where the answer is 9.

    >>> from gemtune.tasks.sql.engines import Sqlite
    >>> engine = Sqlite()
    >>> image = engine.load("CREATE TABLE pet (name, age)", "INSERT INTO pet VALUES ('Mia', 3), ('Rex', 5), ('Tom', 5)")
    >>> evidence_for(Statement("SELECT name FROM pet WHERE age > 4", image, False, engine))
    Evidence(generated=1, why='')
    >>> evidence_for(Statement("SELECT MAX(name + name) FROM pet", image, False, engine))
    Evidence(generated=0, why='it finds nothing in its data')
    """
    tree = parsed(gold.sql, gold.engine.dialect)
    if tree is None:
        return Evidence(why="no parser reads it, so nothing is known of what it might have been")
    deadline = time.monotonic() + SECONDS
    alive, told = [*mutants(tree.copy(), _columns(gold), gold.engine.dialect)], False
    for count in range(GENERATED + 1):
        try:
            image = database(gold, count)
            outcome = gold.outcome(gold.sql, image)
            if not same(outcome, gold.outcome(gold.sql, image), ordered=True):
                return Evidence(why="it returns something else each time")
        except SqlError as error:  # a row to be inserted may be among those that were generated
            return Evidence(why="" if told and not alive else f"on more rows of its kind: {error}")
        told = told or not _says_nothing(gold, outcome, image)
        alive = [mutant for mutant in alive if time.monotonic() < deadline and _agrees(gold, mutant, image, outcome)]
        if time.monotonic() >= deadline:
            return Evidence(why="its mutants take too long to run")
        if count and told and not alive:
            return Evidence(count)
    return Evidence(why=f"its data does not tell it from {alive[0]!r}" if told else "it finds nothing in its data")


def _agrees(gold: Statement, mutant: str, image: Image, outcome: Outcome) -> bool:
    try:
        return same(gold.outcome(mutant, image), outcome, ordered=orders(gold.sql, gold.engine.dialect))
    except SqlError:
        return False


def same(one: Outcome, other: Outcome, ordered: bool) -> bool:
    """Whether two outcomes agree, table by table."""
    return len(one) == len(other) and all(same_result(a, b, ordered=ordered) for a, b in zip(one, other, strict=True))


def _says_nothing(gold: Statement, outcome: Outcome, image: Image) -> bool:
    """Whether any query that finds nothing, or changes nothing, would do as well."""
    if gold.changes:
        before = tuple(Result(table.columns, table.rows) for table in gold.engine.tables(image))
        return same(outcome, before, ordered=False)
    return not any(cell not in (None, 0, "") for row in outcome[0].rows for cell in row)


def _columns(gold: Statement) -> dict[str, list[str]]:
    return {table.name.lower(): list(table.columns) for table in gold.engine.tables(gold.image)}


# --- more rows --------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=16)
def database(gold: Statement, count: int) -> Image:
    """The row's own database, or the `count`-th with more rows: values of its columns, and those the query names.

    A column without NULLs gets none, distinct values stay distinct, and keys refer to rows that are there.
    """
    tree = parsed(gold.sql, gold.engine.dialect)
    if not count or tree is None:
        return gold.image
    chance = random.Random(count)  # noqa: S311  # data, not secrets
    used = {table.name.lower() for table in tree.find_all(exp.Table)}
    tables = {table.name: table for table in gold.engine.tables(gold.image)}
    named, joined = constants(tree), equal_columns(tree)
    more: dict[str, list[tuple[Cell, ...]]] = {}
    for name in sorted(tables, key=lambda name: len(tables[name].refers)):  # what is referred to comes first
        table = tables[name]
        if name.lower() in used and table.rows:
            more[name] = _more_rows(table, chance, named, _parents(table, list(tables.values()), joined))
            tables[name] = replace(table, rows=(*table.rows, *more[name]))
    return gold.engine.grown(gold.image, more)


def _more_rows(
    table: Table,
    chance: random.Random,
    named: Mapping[str, Sequence[Cell]],
    parents: Mapping[str, Sequence[Cell]],
) -> list[tuple[Cell, ...]]:
    """Rows of the same kind, some of which come close to what the query asks for."""
    is_named = [chance.random() < 0.5 for _ in range(MORE_ROWS)]
    drawn: list[list[Cell]] = []
    for column in table.columns:
        values = table.values(column)
        near = _near(named.get(column.lower(), ()), values)
        if column.lower() in parents:
            drawn.append([chance.choice(parents[column.lower()]) for _ in range(MORE_ROWS)])
        elif column in table.keys or (_are_distinct(values) and not near):
            drawn.append(_distinct(values, near, chance))
        else:
            drawn.append(_mixed(values, near, is_named, chance))
    return list(zip(*drawn, strict=True))


def _parents(child: Table, tables: Sequence[Table], joined: set[tuple[str, str]]) -> dict[str, list[Cell]]:
    """For the columns of a table that refer to another, the values there: declared, or joined by and found there."""
    parents: dict[str, list[Cell]] = {}
    names = {table.name: [(name.lower(), name) for name in table.columns] for table in tables}
    for column in (name.lower() for name in child.columns):
        declared = child.refers.get(column)
        for table in tables:
            for other, name in names[table.name] if table.rows else ():
                is_declared = declared in ((table.name.lower(), other), (table.name.lower(), ""))
                is_joined = (column, other) in joined or (other, column) in joined
                if not (is_declared or is_joined) or (table.name, other) == (child.name, column):
                    continue
                values = table.values(name)
                if is_declared or (column not in child.keys and set(child.values(column)) <= set(values)):
                    parents[column] = values
    return parents


def _near(named: Sequence[Cell], values: Sequence[Cell]) -> list[Cell]:
    """The values a query names for a column and those beside them, in the column's own type."""
    kinds = {type(value) for value in values if value is not None}
    near = [
        beside
        for value in named
        for beside in ((value - 1, value, value + 1) if isinstance(value, int | float) else (value, *_days(value)))
    ]
    if kinds == {float}:
        near = [float(value) for value in near if isinstance(value, int | float)]
    return [value for value in near if type(value) in kinds]


def _days(value: Cell) -> list[str]:
    """The days before and after a day.

    >>> _days("2024-02-29")
    ['2024-02-28', '2024-03-01']
    """
    try:
        day = date.fromisoformat(str(value))
    except ValueError:
        return []
    return [str(day + timedelta(days=step)) for step in (-1, 1)]


def _are_distinct(values: Sequence[Cell]) -> bool:
    return len(values) > 2 and len(set(values)) == len(values) and None not in values


def _distinct(values: Sequence[Cell], named: Sequence[Cell], chance: random.Random) -> list[Cell]:
    """New values that no row has, those that the query names among them."""
    taken, new = set(values), list[Cell]()
    for value in [*dict.fromkeys(named), *_unending(values, chance)]:
        if value not in taken and len(new) < MORE_ROWS:
            taken.add(value)
            new.append(value)
    chance.shuffle(new)
    return new


def _unending(values: Sequence[Cell], chance: random.Random) -> list[Cell]:
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values):
        low, high = int(min(numbers)), int(max(numbers))
        lowest = low - (high - low) // 4 - 1
        inner = [chance.randint(lowest if low < 0 else max(0, lowest), high) for _ in range(MORE_ROWS)]
        return [*inner, *range(high + 1, high + 1 + MORE_ROWS)]
    texts = [str(value) for value in values]
    days = [_days(text) for text in texts]
    if all(days):
        first = date.fromisoformat(min(texts))
        span = (date.fromisoformat(max(texts)) - first).days + MORE_ROWS
        inner_days = [str(first + timedelta(days=chance.randint(0, span))) for _ in range(MORE_ROWS)]
        return [*inner_days, *(str(first + timedelta(days=span + step)) for step in range(1, MORE_ROWS + 1))]
    return [f"{texts[number % len(texts)]} {number + 2}" for number in range(2 * MORE_ROWS)]


def _mixed(values: Sequence[Cell], near: Sequence[Cell], is_named: Sequence[bool], chance: random.Random) -> list[Cell]:
    """Values that rows have, as often again, those near what the query names, and now and then a new one."""
    mixed = [chance.choice(near if named and near else values) for named in is_named]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        steps = [0 if named and near else chance.choice((0, 0, 1, -1)) for named in is_named]
        return [value + step for value, step in zip(mixed, steps, strict=True)]  # type: ignore[operator]
    for times in (1, 2, 3):  # groups of these sizes
        value = chance.choice(values)
        if isinstance(value, str) and not _days(value):
            for place in chance.sample(range(MORE_ROWS), times):
                mixed[place] = f"{value} {times}" if not is_named[place] else mixed[place]
    return mixed
