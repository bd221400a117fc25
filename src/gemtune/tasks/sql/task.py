"""sql: a question about a database becomes a query, scored by running it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from gemtune.data.conversation import Conversation, Message, validate
from gemtune.errors import RowError
from gemtune.files import sha256_of_text
from gemtune.recipe import schema as config
from gemtune.tasks.base import Row, Task, text_of
from gemtune.tasks.sql.sandbox import Result, SqlError, execute, same_result
from gemtune.tasks.sql.text import canonical, first_statement, orders, parses, to_sqlite

SYSTEM = "Write one {dialect} query that answers the question."

_SQL_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]  # quoted: kept as it is
    |(?P<drop>--[^\n]*|/\*.*?\*/)|(?P<space>\s+)|(?P<end>;)|.""",
    re.VERBOSE | re.DOTALL,
)


class Sql(Task):
    """Columns `question`, `schema` and `sql`, and where there are any `inserts` (rows of data) and `db_id`.

    Every reply is scored `canonical` (the gold query except for spelling), `runs` (on the schema, with the rows where
    there are any) and `valid` (it parses). A row with `inserts` is also scored by `execution`: both queries
    return the same rows, in the same order where the gold query orders them. `execution` decides when every row has
    it, else `canonical`.
    """

    section = "sql"
    options: config.Sql
    metric = "execution"
    columns = ("question", "schema", "sql")
    unanswered = MappingProxyType({"sql": "SELECT 1"})

    def conversation(self, row: Row, where: str) -> Conversation:
        question, schema, sql = (text_of(row, column) for column in self.columns)
        sql = sql.rstrip("; \t\r\n")
        system = SYSTEM.format(dialect=self.options.dialect)
        prompt = _prompt(schema, question) if question else ""
        messages = (Message.of("system", system), Message.of("user", prompt), Message.of("assistant", sql))
        database = text_of(row, "db_id") or sha256_of_text(schema)[:16]
        meta = {"question": question, "schema": schema, "inserts": _inserts(row), "sql": sql, "database": database}
        key = f"{question}\n{database}"
        conversation = Conversation(validate(messages), "sql", key=key, group=key, where=where, meta=meta)
        self._check_gold(meta)
        return conversation

    def _check_gold(self, meta: Mapping[str, str]) -> None:
        dialect = self.options.dialect
        if not parses(meta["sql"], dialect):
            raise RowError("gold SQL does not run", f"not one {dialect} statement: {meta['sql'][:80]!r}")
        if meta["inserts"]:
            try:
                self._result(meta["sql"], meta)
            except SqlError as error:
                raise RowError("gold SQL does not run", f"{error}: {meta['sql'][:80]!r}") from error

    def _result(self, sql: str, meta: Mapping[str, str]) -> Result:
        dialect = self.options.dialect
        return execute(*(to_sqlite(text, dialect) for text in (sql, meta["schema"], meta["inserts"])))

    def _result_or_none(self, sql: str, meta: Mapping[str, str]) -> Result | None:
        try:
            return self._result(sql, meta)
        except SqlError:
            return None

    def score(self, conversation: Conversation, reply: str) -> dict[str, float]:
        dialect, meta, sql = self.options.dialect, conversation.meta, first_statement(reply)
        result, spelling = self._result_or_none(sql, meta), canonical(sql, dialect)
        scores = {
            "canonical": float(spelling is not None and spelling == canonical(meta["sql"], dialect)),
            "runs": float(result is not None),
            "valid": float(parses(sql, dialect)),
        }
        if meta["inserts"]:
            gold, ordered = self._result_or_none(meta["sql"], meta), orders(meta["sql"], dialect)
            same = result is not None and gold is not None and same_result(result, gold, ordered=ordered)
            scores["execution"] = float(same)
        return scores

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
        tables = list(statements(meta["schema"]))
        spare = sorted(_unrelated(tables, meta["question"], self.options.dialect), key=len, reverse=True)
        while len(prompt := _prompt("\n".join(tables), meta["question"])) > allowed:
            if not spare:
                return None
            tables.remove(spare.pop(0))
        messages[-2] = Message.of("user", prompt)
        return replace(conversation, messages=validate(tuple(messages)))


def _prompt(schema: str, question: str) -> str:
    return f"{schema}\n\n{question}".strip()


def _inserts(row: Row) -> str:
    """The row's data as one script, from a text or a list of statements."""
    value = row.get("inserts")
    if isinstance(value, list) and all(isinstance(statement, str) for statement in value):
        return "\n".join(statement.rstrip("; \t\r\n") + ";" for statement in value)
    return text_of(row, "inserts")


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


def _unrelated(tables: list[str], question: str, dialect: str) -> Iterator[str]:
    """The CREATE TABLE statements in which no name, of the table or a column, has a word of the question."""
    question_words = _words(question)
    for statement in tables:
        try:
            tree = sqlglot.parse_one(statement, read=dialect)
        except (SqlglotError, RecursionError):
            continue  # what cannot be parsed is kept
        if isinstance(tree, exp.Create) and tree.kind == "TABLE":
            table = tree.find(exp.Table)
            names = [table.name if table else "", *(column.name for column in tree.find_all(exp.ColumnDef))]
            if not question_words & _words(" ".join(names)):
                yield statement


def _words(text: str) -> set[str]:
    """The words of a text or of names, lower case and without a plural's s.

    >>> sorted(_words("Song_release_year, singersInConcert"))
    ['concert', 'in', 'release', 'singer', 'song', 'year']
    """
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+", text)
    return {part.lower().rstrip("s") or part.lower() for part in parts}
