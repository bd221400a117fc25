"""sql: a question about a database becomes a query, scored by running it."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from gemtune.data.cells import unpacked
from gemtune.data.conversation import Conversation, Message, validate
from gemtune.errors import RecipeError, RowError, RunError
from gemtune.files import JsonObject, sha256_of_text
from gemtune.recipe import schema as config
from gemtune.recipe.schema import Recipe
from gemtune.tasks.base import Row, Task, text_of
from gemtune.worker import Worker, WorkerError

SYSTEM = "Write one {dialect} query that answers the question."
PASSWORDS = {"postgres": "PGPASSWORD", "mysql": "MYSQL_PWD"}  # scheme of sql.engine -> where the password is
_DRIVERS = {"duckdb": ("duckdb", "sql"), "postgres": ("psycopg", "postgres"), "mysql": ("pymysql", "mysql")}
MEMORY = 512 * 2**20  # bytes
SECONDS = 5.0  # for all that is done with one reply or one row; the usual is 2 ms

_STATEMENT = re.compile(
    r"(?:[\s(]|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*+(?:SELECT|WITH|VALUES|INSERT|UPDATE|DELETE|REPLACE|MERGE|CREATE|ALTER|DROP"
    r"|TRUNCATE|GRANT|REVOKE|EXPLAIN|DESCRIBE|SHOW|CALL|EXEC|EXECUTE|DECLARE|BEGIN|SET|TABLE|FROM|PIVOT)\b",
    re.IGNORECASE | re.DOTALL,
)
_FENCED = re.compile(r"```(?:\w+[ \t]*(?=\n))?((?:(?!```).)*+)(?:```)?", re.DOTALL)  # Markdown around all of a query
_SQL_TOKEN = (
    re.compile(  # what is opened and never closed goes on to the end: looked for from each place, it is quadratic
        r"""'(?:[^']|'')*+'?|"(?:[^"]|"")*+"?|`[^`]*+`?|\[[^\]]*+\]?  # quoted: kept as it is
    |(?P<drop>--[^\n]*+|/\*.*?(?:\*/|\Z))|(?P<space>\s+)|(?P<end>;)|.""",
        re.VERBOSE | re.DOTALL,
    )
)


class Sql(Task):
    """Columns `question`, `schema` and `sql`, and where there are any `inserts` (rows of data) and `db_id`.

    Every reply is scored `canonical`: it is the gold query except for spelling. Where the gold query runs, `runs` says
    whether the reply does, where it parses, `valid` whether the reply does. A row whose data tells its query from wrong
    ones is also scored by `execution`: both queries return the same rows, in the same order where the gold query orders
    them, or leave the same tables. `accuracy`, which decides, is `execution` where a row has it, else `canonical`.
    """

    section = "sql"

    def __init__(self, recipe: Recipe, layout: str = "auto"):
        super().__init__(recipe, layout)
        module, extra = next((_DRIVERS[name] for name in _DRIVERS if self.options.engine.startswith(name)), ("", ""))
        if module and importlib.util.find_spec(module) is None:
            raise RecipeError(f"sql.engine: {module} is not installed; run: pip install 'gemtune[{extra}]'")

    options: config.Sql
    metric = "accuracy"
    columns = ("question", "schema", "sql")
    unanswered = MappingProxyType({"sql": "SELECT 1"})

    def conversation(self, row: Row, where: str) -> Conversation:
        question, schema, sql = text_of(row, "question"), _script(row, "schema"), text_of(row, "sql")
        fenced = _FENCED.fullmatch(sql)
        sql = (fenced[1].strip() if fenced else sql).rstrip("; \t\r\n")
        system = SYSTEM.format(dialect=self.options.dialect)
        prompt = _prompt(schema, question) if question else ""
        messages = (Message.of("system", system), Message.of("user", prompt), Message.of("assistant", sql))
        database = text_of(row, "db_id") or sha256_of_text(schema)[:16]
        if sql and not _STATEMENT.match(sql):
            raise RowError("not SQL", f"column 'sql' holds {sql[:80]!r}; wanted one statement")
        gold = {"sql": sql, "schema": schema, "inserts": _script(row, "inserts")}
        gold |= {"dialect": self.options.dialect, "engine": self.options.engine}
        meta = {"gold": gold, "question": question, "database": database}
        key = f"{question}\n{database}"
        conversation = Conversation(validate(messages), "sql", key=key, group=key, where=where, meta=meta)
        return replace(conversation, meta={**meta, "reading": _reading(gold)})

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        gold, reading, claim = conversation.meta["gold"], conversation.meta["reading"], self._claim(conversation)
        try:
            return _asked("score", gold=gold, reading=reading, claim=claim, reply=reply)
        except WorkerError:  # the gold query stayed within the limits
            return dict.fromkeys(claim["scores"], 0.0)

    def unscored(self, conversation: Conversation) -> Mapping[str, str]:
        claim = self._claim(conversation)
        return {} if "execution" in claim["scores"] else {"execution": claim["why"]}

    def doubts(self, conversation: Conversation) -> Mapping[str, str]:
        """Why the row's own query does not run, as found when it was read: to score it would double the time."""
        why = conversation.meta["reading"]["why"]
        return {"runs": why} if why else {}

    def _claim(self, conversation: Conversation) -> JsonObject:
        """What replies to a row are scored by: found once, with the row's data put to the test."""
        return _claim_of(json.dumps([conversation.meta["gold"], conversation.meta["reading"]]))

    def scope(self, conversation: Conversation) -> str:
        """One question asked of two databases has two answers."""
        return str(conversation.meta["database"])

    def shorten(self, conversation: Conversation, share: float) -> Conversation | None:
        """Cuts the schema: white space and comments first, then tables that share no word with the question.

        The gold query is not used: a schema cut to fit it would give the answer away.
        """
        meta, messages = conversation.meta, list(conversation.messages)
        allowed = int(share * sum(len(message.text) for message in messages[:-1]))
        allowed -= sum(len(message.text) for message in messages[:-2])
        tables = list(statements(meta["gold"]["schema"]))
        spare = sorted(_unrelated(tables, meta["question"], self.options.dialect), key=len, reverse=True)
        while len(prompt := _prompt("\n".join(tables), meta["question"])) > allowed:
            if not spare:
                return None
            tables.remove(spare.pop(0))
        messages[-2] = Message.of("user", prompt)
        return replace(conversation, messages=validate(tuple(messages)))


def _reading(gold: dict[str, str]) -> JsonObject:
    """How the gold query can be scored; one that goes over the limits by its text alone."""
    try:
        return _asked("read", gold=gold)
    except WorkerError as error:
        return {"dialect": "", "why": str(error)}


@functools.lru_cache(maxsize=4096)
def _claim_of(row: str) -> JsonObject:
    gold, reading = json.loads(row)
    try:
        return _asked("claim", gold=gold, reading=reading)
    except WorkerError as error:
        why = f"to put its data to the test, {error}"
        return {"scores": ["accuracy", "canonical"], "generated": 0, "why": why}


@functools.cache
def _child(engine: str) -> Worker:
    """Warm from the first row on, and started again after a statement that had to be stopped.

    A driver is imported when it is first used: DuckDB takes 1 GiB of addresses for itself.
    """
    memory = MEMORY if engine == "sqlite" else 4 * MEMORY
    return Worker("gemtune.tasks.sql.child:answer", seconds=SECONDS, memory=memory)


def _asked(do: str, gold: JsonObject, **request: object) -> JsonObject:
    """The child's answer; the password of a server is of the environment, and is written nowhere."""
    variable = next((name for scheme, name in PASSWORDS.items() if gold["engine"].startswith(scheme)), "")
    answer: JsonObject = _child(gold["engine"])(
        {"do": do, "gold": gold, "password": os.environ.get(variable), **request}
    )
    if "unreachable" in answer:
        raise RunError(f"sql.engine: {gold['engine']}: {answer['unreachable']}; start it, or take another engine")
    return answer


def _prompt(schema: str, question: str) -> str:
    return f"{schema}\n\n{question}".strip()


def _script(row: Row, column: str) -> str:
    """A row's schema or data as one script, from a text or a list of statements."""
    value = unpacked(row.get(column))
    if isinstance(value, list) and value and all(isinstance(statement, str) for statement in value):
        row = {column: "\n".join(statement.rstrip("; \t\r\n") + ";" for statement in value)}
    return text_of(row, column)


def statements(script: str) -> Iterator[str]:
    """The statements of a script, each on one line and without comments.

    >>> list(statements("CREATE TABLE a (\\n  x INT, -- one; two\\n  y TEXT DEFAULT ';'\\n);\\nCREATE TABLE b (z);"))
    ["CREATE TABLE a ( x INT, y TEXT DEFAULT ';' );", 'CREATE TABLE b (z);']
    """
    text = ""
    for token in _SQL_TOKEN.finditer(script + ";"):
        text += " " if token["drop"] or token["space"] else token[0]
        if token["end"]:
            statement = re.sub(r"^ +| +(?=;$)", "", text)
            if statement != ";":
                yield statement
            text = ""
        elif text.endswith("  "):
            text = text[:-1]


def _unrelated(tables: list[str], question: str, dialect: str) -> list[str]:
    """The CREATE TABLE statements in which no name, of the table or a column, has a word of the question."""
    try:
        names_of = _child("sqlite")({"do": "table_names", "statements": tables, "dialect": dialect})
    except WorkerError:  # what cannot be parsed is kept
        return []
    asked = _words(question)
    return [table for table, names in zip(tables, names_of, strict=True) if names and not asked & _words(names)]


def _words(text: str) -> set[str]:
    """The words of a text or of names, lower case and without a plural's s.

    >>> sorted(_words("Song_release_year, singersInConcert"))
    ['concert', 'in', 'release', 'singer', 'song', 'year']
    """
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+", text)
    return {part.lower().rstrip("s") or part.lower() for part in parts}
