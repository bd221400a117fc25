"""The databases that this machine has, tables of owners and pets in the words of each, and a question about them.

GEMTUNE_TEST_POSTGRES and GEMTUNE_TEST_MYSQL are URLs as in `sql.engine`, the passwords in PGPASSWORD and MYSQL_PWD.
"""

from __future__ import annotations

import importlib.util
import os

import pytest

from gemtune.data.conversation import Conversation
from gemtune.tasks import Task
from tasks.task_rows import made

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


def asked(engine: Task, dialect: str, gold: str) -> Conversation:
    row = {"question": "?", "schema": SCHEMA[dialect], "inserts": ROWS, "sql": gold}
    return made(engine, row)
