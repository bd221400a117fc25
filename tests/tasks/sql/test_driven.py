"""Behind a driver: replies run in their row's own dialect, and what is no query of its tables does not."""

from __future__ import annotations

import os

import pytest

from tasks.sql.databases import ENGINES, Where, asked
from tasks.sql.queries import CHANGES
from tasks.task_rows import task_at

GOLDS: list[tuple[str, str, str]] = [  # gold, another right one, a wrong one
    ("SELECT name FROM pet WHERE age > 4", "SELECT p.name FROM pet AS p WHERE 4 < p.age", "SELECT name FROM pet"),
    ("SELECT MAX(age) FROM pet", "SELECT age FROM pet ORDER BY age DESC LIMIT 1", "SELECT 9"),
    (
        "SELECT name FROM pet WHERE EXTRACT(YEAR FROM born) = 2020",
        "SELECT name FROM pet WHERE born BETWEEN DATE '2020-01-01' AND DATE '2020-12-31'",
        "SELECT name FROM pet WHERE born > DATE '2020-01-01'",
    ),
    *CHANGES,
    ("INSERT INTO owner (id, city) VALUES (9, 'Oslo')", "INSERT INTO owner (city, id) SELECT 'Oslo', 9", "SELECT 1"),
]


OF_DIALECT = {
    "postgres": (
        "SELECT p.name, x.n FROM pet p CROSS JOIN LATERAL (SELECT COUNT(*) AS n FROM pet q WHERE q.age < p.age) x",
        "SELECT name, RANK() OVER (ORDER BY age) - 1 FROM pet",
        "SELECT name, age FROM pet",
    ),
    "mysql": (
        "SELECT `name` FROM `pet` WHERE `born` >= DATE_SUB('2021-01-01', INTERVAL 6 MONTH)",
        "SELECT name FROM pet WHERE born >= '2020-07-01'",
        "SELECT name FROM pet",
    ),
}


@pytest.mark.parametrize("where", ENGINES)
def test_replies_are_run_in_the_rows_own_dialect(where: Where) -> None:
    engine = task_at(*where)
    for gold, right, wrong in (*GOLDS, OF_DIALECT[where[1]]):
        conversation = asked(engine, where[1], gold)
        assert conversation.meta["reading"] == {"dialect": where[1], "why": ""}, gold
        assert engine.unscored(conversation) == {}, gold
        assert set(engine.score(conversation, gold).values()) == {1.0}, gold
        assert engine.score(conversation, right)["execution"] == 1, right
        assert engine.score(conversation, wrong)["execution"] == 0, wrong


HOSTILE = [
    "SELECT pg_sleep(60)",
    "SELECT SLEEP(60)",
    "SELECT COUNT(*) FROM range(100000) a, range(100000) b, range(100000) c",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT COUNT(*) FROM r",
    "COPY pet TO '/tmp/gemtune-was-here'",
    "COPY (SELECT 1) TO PROGRAM 'touch /tmp/gemtune-was-here'",
    "SELECT 1 INTO OUTFILE '/tmp/gemtune-was-here'",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT LOAD_FILE('/etc/passwd')",
    "SELECT pg_read_file('/etc/passwd')",
    "ATTACH '/tmp/gemtune-was-here' AS x",
    "INSTALL httpfs",
    "SET memory_limit = '99GB'",
    "DROP TABLE pet",
    "DELETE FROM pet",
    "SELECT 1; DROP TABLE pet",
    "COMMIT",
    "SELECT * FROM information_schema.tables",
    "WITH x AS (DELETE FROM pet RETURNING *) SELECT * FROM x",
    "CREATE TABLE gemtune_was_here (a INT)",
]


@pytest.mark.parametrize("where", ENGINES)
def test_what_is_no_query_of_the_rows_tables_does_not_run(where: Where) -> None:
    engine = task_at(*where)
    conversation = asked(engine, where[1], "SELECT name FROM pet WHERE age > 4")
    for reply in HOSTILE:
        # MariaDB itself ends a recursion after 1,000 rounds, and has NULL for a file that its user may not read.
        is_harmless = where[1] == "mysql" and ("RECURSIVE" in reply or "LOAD_FILE" in reply)
        assert engine.score(conversation, reply)["runs"] == is_harmless, reply
    assert not os.path.exists("/tmp/gemtune-was-here")
    assert set(engine.score(conversation, conversation.answer).values()) == {1.0}
