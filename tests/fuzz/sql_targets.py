"""SQL that a row or a model wrote."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hypothesis import strategies as st

from fuzz.attempts import Json, equal, recipe_for, refusals
from fuzz.harness import Target
from fuzz.inputs import mutants, texts, values
from gemtune.tasks import task_of

_SQL_SEEDS = [
    "SELECT count(*), max(a) FROM t WHERE b LIKE 'x%' GROUP BY b HAVING count(*) > 1 ORDER BY 1 DESC LIMIT 5 OFFSET 2",
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 9) SELECT n FROM c JOIN t ON t.a = c.n",
    "SELECT CASE WHEN a IN (1, NULL) THEN CAST(b AS DECIMAL(3, 1)) ELSE date('now') END, row_number() OVER w FROM t "
    "WINDOW w AS (PARTITION BY b ORDER BY a)",
    "CREATE TABLE t (a INT PRIMARY KEY, b TEXT DEFAULT 'x' CHECK (b <> ''), c REFERENCES u(a)); CREATE TABLE u (a);",
    "INSERT INTO t VALUES (1, 'x', 2.5), (2, 'y', NULL); UPDATE t SET b = replace(b, 'x', 'y'); DELETE FROM t",
    "CREATE TABLE `t` (`id` int(11) NOT NULL AUTO_INCREMENT, KEY `k` (`id`)) ENGINE=InnoDB /* c */ -- d\n",
    "```sql\nSELECT [a b], \"c\", `d`, x'ff', $1, :n, @v FROM t;\n```",
]
_SQL_PIECES = [
    *("DATE(" * 12, "(" * 200, "CASE WHEN " * 30, "a" * 3000, "instr(b,b)+" * 50, "ATTACH 'x' AS y", "PRAGMA", "\0"),
    *(
        "load_extension('x')",
        "writefile('x', b)",
        "randomblob(1e9)",
        "printf('%1000000s', a)",
        "zeroblob(9e9)",
        "VACUUM",
    ),
    *("UNION ALL SELECT * FROM t " * 40, "sqlite_master", "STRUCT<a INT>", "OBJECT(" * 8, "\ud83d", "%" * 500),
]
_SQL_WORDS = [*re.findall(r"\w+|\S", " ".join(_SQL_SEEDS)), *_SQL_PIECES]


def _sql() -> st.SearchStrategy[str]:
    words = st.lists(st.sampled_from(_SQL_WORDS), max_size=15).map(" ".join)
    mutant = mutants([seed.encode() for seed in _SQL_SEEDS]).map(lambda data: data.decode("utf-8", "replace"))
    return st.sampled_from(_SQL_SEEDS) | words | mutant | texts()


@st.composite
def _sql_rows(draw: st.DrawFn) -> tuple[Json, str, str]:
    row: Json = {"question": "How many?", "schema": "CREATE TABLE t (a INT)", "sql": "SELECT count(*) FROM t"}
    for key in ("question", "schema", "sql", "inserts", "db_id"):
        if draw(st.booleans()):
            row[key] = draw(_sql() | st.lists(_sql(), max_size=3) | values())
    dialect = draw(st.sampled_from(["sqlite"] * 4 + ["mysql", "postgres", "bigquery", "tsql", "snowflake", "duckdb"]))
    return row, draw(_sql()), dialect


def try_sql(value: tuple[Json, str, str], folder: Path) -> None:
    """A row of SQL becomes a conversation, which is shortened, and a reply is scored; nothing is left on the disk."""
    row, reply, dialect = value
    task = task_of(recipe_for("sql", sql={"dialect": dialect}))
    before = os.listdir(folder)
    with refusals():
        task.question(row, "f.jsonl:1")
    conversation = task.conversation(row, "f.jsonl:1")
    scores = task.score(conversation, reply)
    if not all(0 <= score <= 1 for score in scores.values()):
        raise AssertionError(f"scores {scores}")
    task.shorten(conversation, 0.5)
    equal(os.listdir(folder), before, "the folder")


TARGETS: dict[str, Target] = {
    "sql": Target(_sql_rows(), try_sql, 60, seconds=30.0),
}
