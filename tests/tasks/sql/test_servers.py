"""SQL where it is at home: in DuckDB, and on servers where the machine has them.

GEMTUNE_TEST_POSTGRES and GEMTUNE_TEST_MYSQL are URLs as in `sql.engine`, the passwords in PGPASSWORD and MYSQL_PWD.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from gemtune.data.conversation import Conversation
from gemtune.errors import RunError
from gemtune.recipe.loader import as_data
from gemtune.tasks import Task
from tasks.sql.queries import CHANGES
from tasks.task_rows import made, task_at

POSTGRES, MYSQL = os.environ.get("GEMTUNE_TEST_POSTGRES", ""), os.environ.get("GEMTUNE_TEST_MYSQL", "")
ENGINES = [
    pytest.param(
        ("duckdb", "postgres"),
        id="duckdb",
        marks=pytest.mark.skipif(not importlib.util.find_spec("duckdb"), reason="duckdb is not installed"),
    ),
    pytest.param(
        (POSTGRES, "postgres"),
        id="postgres",
        marks=pytest.mark.skipif(not POSTGRES, reason="GEMTUNE_TEST_POSTGRES names no server"),
    ),
    pytest.param(
        (MYSQL, "mysql"), id="mysql", marks=pytest.mark.skipif(not MYSQL, reason="GEMTUNE_TEST_MYSQL names no server")
    ),
]
Where = tuple[str, str]  # engine and dialect


SCHEMA = {
    "postgres": "CREATE TABLE owner (id INT PRIMARY KEY, city VARCHAR(9)); CREATE TABLE pet (id INT PRIMARY KEY, "
    "name VARCHAR(20), born DATE, age INT, is_big BOOLEAN, owner_id INT REFERENCES owner (id));",
    "mysql": "CREATE TABLE `owner` (`id` INT NOT NULL AUTO_INCREMENT, `city` ENUM('Rome', 'Oslo'), PRIMARY KEY (`id`), "
    "KEY `k` (`city`)) ENGINE=InnoDB; CREATE TABLE `pet` (`id` INT PRIMARY KEY, `name` VARCHAR(20), `born` DATE, "
    "`age` INT, `is_big` TINYINT(1), `owner_id` INT, FOREIGN KEY (`owner_id`) REFERENCES `owner` (`id`));",
}
ROWS = """INSERT INTO owner (id, city) VALUES (1, 'Rome'), (2, 'Oslo'), (3, 'Rome');
INSERT INTO pet VALUES (1, 'Mia', DATE '2020-02-03', 3, FALSE, 1), (2, 'Rex', DATE '2021-05-01', 5, TRUE, 1),
(3, 'Tom', DATE '2020-07-31', 9, TRUE, 2), (4, 'Bo', DATE '2019-01-01', 4, FALSE, 2);"""
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


def asked(engine: Task, dialect: str, gold: str) -> Conversation:
    row = {"question": "?", "schema": SCHEMA[dialect], "inserts": ROWS, "sql": gold}
    return made(engine, row)


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


@pytest.mark.skipif(not POSTGRES, reason="GEMTUNE_TEST_POSTGRES names no server")
def test_nothing_is_left_on_a_postgres_server() -> None:
    import psycopg

    with psycopg.connect(POSTGRES, password=os.environ["PGPASSWORD"]) as connection:
        names = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'gemtune%'").fetchall()
    assert names == []


@pytest.mark.skipif(not MYSQL, reason="GEMTUNE_TEST_MYSQL names no server")
def test_nothing_is_left_on_a_mysql_server() -> None:
    import pymysql

    ask = (
        "from gemtune.recipe.schema import Recipe; from gemtune.tasks import task_of; import os; print(os.getpid());"
        f"sql = {{'engine': {MYSQL!r}, 'dialect': 'mysql'}};"
        "recipe = Recipe(name='t', task='sql', data=[{'source': 't'}], sql=sql);"
        "schema = 'CREATE TABLE t (a INT); INSERT INTO t VALUES (1)';"
        "row = {'question': '?', 'sql': 'SELECT a FROM t', 'schema': schema};"
        "conversation = task_of(recipe).conversation(row, 't:1'); print(conversation.meta['reading']['why'] == '')"
    )
    pid, ran = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    place = urlsplit(MYSQL)
    left = ["?"]
    for _ in range(50):  # the child ends a moment after its parent
        with pymysql.connect(host=place.hostname, user=place.username, password=os.environ["MYSQL_PWD"]) as connection:
            cursor = connection.cursor()
            cursor.execute("SHOW DATABASES")
            left = [name for (name,) in cursor.fetchall() if name.startswith(f"gemtune_{pid}_")]
        if not left:
            break
        time.sleep(0.2)
    assert ran == "True" and left == []


@pytest.mark.skipif(not importlib.util.find_spec("psycopg"), reason="psycopg is not installed")
def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "a-secret-password")
    lost = task_at("postgres://me@127.0.0.1:1/db", "postgres")
    with pytest.raises(RunError, match=r"^sql\.engine: postgres://me@127\.0\.0\.1:1/db: .*; start it") as caught:
        asked(lost, "postgres", "SELECT 1")
    assert "\n" not in str(caught.value) and "a-secret-password" not in str(caught.value)
    assert "a-secret-password" not in str(as_data(lost.recipe))
