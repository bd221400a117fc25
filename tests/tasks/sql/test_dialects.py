"""Other dialects become SQLite: their schemas, their queries, and what cannot be."""

import pytest

from gemtune.tasks.sql.dialects import query_for, script_for
from gemtune.tasks.sql.sandbox import SqlError, execute


def to_sqlite(sql, dialect):
    return query_for("sqlite", sql, dialect, "")


SCHEMAS = {  # of a table with a key that counts by itself, and two rows
    "postgres": "CREATE TYPE mood AS ENUM ('x'); CREATE TABLE public.t (id SERIAL PRIMARY KEY, n TEXT[] DEFAULT '{}', "
    "u UUID DEFAULT gen_random_uuid(), a INT CHECK (a > 0)); INSERT INTO t (a) VALUES (3), (4); "
    "COMMENT ON TABLE t IS 'x';",
    "mysql": "CREATE TABLE `t` (`id` INT NOT NULL AUTO_INCREMENT, `n` ENUM('x', 'y') COMMENT 'of', `a` INT UNSIGNED, "
    "PRIMARY KEY (`id`), KEY `k` (`n`), UNIQUE KEY `u` (`a`)) ENGINE=InnoDB DEFAULT CHARSET=utf8; "
    "INSERT INTO `t` (`a`) VALUES (3), (4);",
    "tsql": "CREATE TABLE [dbo].[t] ([id] INT IDENTITY(1,1), [n] NVARCHAR(MAX), [a] MONEY, CONSTRAINT [p] PRIMARY KEY "
    "CLUSTERED ([id] ASC)); INSERT INTO [dbo].[t] ([n], [a]) VALUES (N'x', 3), (N'y', 4);",
    "oracle": "CREATE TABLE t (id NUMBER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n VARCHAR2(30), a NUMBER(10, 2)); "
    "INSERT INTO t (a) VALUES (3); INSERT INTO t (a) VALUES (4);",
}


@pytest.mark.parametrize("dialect", SCHEMAS)
def test_schemas_of_other_dialects_load_and_their_keys_count(dialect):
    schema = script_for("sqlite", SCHEMAS[dialect], dialect)
    assert execute("SELECT id, a FROM t ORDER BY id", schema).rows == ((1, 3), (2, 4))


@pytest.mark.parametrize(
    ("sql", "dialect", "wanted"),
    [
        ("SELECT a FROM t LIMIT 3, 2", "mysql", "SELECT a FROM t LIMIT 2 OFFSET 3"),
        ("SELECT TOP 3 a FROM dbo.t WHERE n = N'x'", "tsql", "SELECT a FROM t WHERE n = 'x' LIMIT 3"),
        (
            "SELECT EXTRACT(YEAR FROM day) FROM t WHERE day > DATE '2024-01-31'",
            "postgres",
            "SELECT CAST(STRFTIME('%Y', day) AS INTEGER) FROM t WHERE day > DATE('2024-01-31')",
        ),
    ],
)
def test_queries_of_other_dialects_become_sqlite(sql, dialect, wanted):
    assert to_sqlite(sql, dialect) == wanted


def test_texts_are_joined_and_numbers_added_as_sql_server_does():
    schema = "CREATE TABLE t (a NVARCHAR(9), b VARCHAR(9), x INT, y INT)"
    assert query_for("sqlite", "SELECT MAX(a + b), x + y FROM t", "tsql", schema) == "SELECT MAX(a || b), x + y FROM t"


def test_a_column_that_counts_without_being_a_key_is_not_left_empty():
    with pytest.raises(SqlError, match="column n counts by itself and is no key"):
        script_for("sqlite", "CREATE TABLE t (id INT PRIMARY KEY, n SERIAL)", "postgres")


@pytest.mark.parametrize("sql", ["SELECT FROM WHERE", "SELECT 'a", "SELECT " + "(" * 5000, "SELECT 1\0"])
def test_what_cannot_be_translated_says_so(sql):
    with pytest.raises(SqlError) as caught:
        to_sqlite(sql, "mysql")
    assert "\n" not in str(caught.value)
