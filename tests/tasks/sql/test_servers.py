"""Servers, where the machine has them: nothing is left on one, and one that does not answer is one line."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from gemtune.errors import RunError
from gemtune.recipe.loader import as_data
from tasks.sql.databases import MYSQL, POSTGRES, asked
from tasks.task_rows import task_at


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
    login = {"host": place.hostname, "port": place.port or 3306, "user": place.username}
    login["password"] = os.environ["MYSQL_PWD"]
    left = ["?"]
    for _ in range(50):  # the child ends a moment after its parent
        with pymysql.connect(**login) as connection:
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
