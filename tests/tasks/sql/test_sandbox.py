import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.tasks.sql.sandbox import MAX_QUERY, MAX_VALUE, Result, SqlError, execute, same_result
from tasks.sql.queries import HOSTILE, ORDINARY, SCHEMA, ask


@pytest.mark.parametrize("sql", ORDINARY)
def test_ordinary_analytics_run(sql):
    assert ask(sql).rows == tuple(ORDINARY[sql])


def test_a_result_names_its_columns_and_may_be_empty():
    assert ask("SELECT id, name AS who FROM singer WHERE 0") == Result(("id", "who"), ())
    assert execute("SELECT 1 AS one", "") == Result(("one",), ((1,),))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_statements_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SqlError) as caught:
        ask(HOSTILE[name].replace("{tmp}", str(tmp_path)), seconds=0.2)
    assert str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert ask("SELECT count(*) FROM singer").rows == ((4,),)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("DROP TABLE singer", "not a query"),
        ("WITH x AS (SELECT 1) DELETE FROM singer", "only reading is allowed"),
        ("SELECT load_extension('x')", "the function load_extension is not allowed"),
        ("SELECT sql FROM sqlite_master", "the table sqlite_master is not part of the schema"),
        (HOSTILE["endless recursion"], "takes longer than 0.1 s"),
        (HOSTILE["sorting long strings"], "MiB of memory|takes longer"),
        ("SELECT shoe FROM singer", "no such column: shoe"),
        (HOSTILE["printf bomb"], "printf width"),
        (HOSTILE["many calls"], "more than 200 functions"),
        ("x" * (MAX_QUERY + 1), "longer than 100,000 characters"),
    ],
)
def test_the_reason_says_what_was_wrong(sql, reason):
    with pytest.raises(SqlError, match=reason):
        ask(sql, seconds=0.1)


def test_rows_and_bytes_have_a_limit():
    assert len(ask("SELECT 1 FROM singer a, singer b", max_rows=16).rows) == 16
    with pytest.raises(SqlError, match="more than 15 rows"):
        ask("SELECT 1 FROM singer a, singer b", max_rows=15)
    with pytest.raises(SqlError, match="more than 16,000,000 bytes"):
        ask(HOSTILE["long rows"])
    with pytest.raises(SqlError, match="too big"):
        ask(f"SELECT '{'x' * (MAX_VALUE + 1)}'")


@pytest.mark.parametrize(
    "script",
    [
        "ATTACH DATABASE '{tmp}/x' AS x",
        "VACUUM INTO '{tmp}/x'",
        "PRAGMA journal_mode = DELETE",
        "CREATE TABLE t (a); DROP TABLE t",
        "CREATE TABLE t (a); INSERT INTO t VALUES (load_extension('x'))",
        "CREATE TABLE t (a CHECK (a < zeroblob(9))); INSERT INTO t VALUES (1)",
        "CREATE TABLE t (a); UPDATE t SET a = 1",
        "CREATE TABLE t (a); DELETE FROM t",
        "CREATE TRIGGER t AFTER INSERT ON singer BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE t USING fts5(a)",
        "CREATE TEMP TABLE t (a)",
        "UPDATE sqlite_master SET sql = ''",
        "CREATE TABLE t AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
        "CREATE TABLE t (",
        "CREATE TABLE t (a)\0",
    ],
)
def test_a_schema_only_creates_and_inserts(script, tmp_path):
    with pytest.raises(SqlError, match="the schema or its rows do not load"):
        execute("SELECT 1", SCHEMA, script.replace("{tmp}", str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_a_schema_may_be_a_dump():
    dump = 'CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT);\nCREATE TABLE "sqlite_sequence" (\n "name" TEXT\n);'
    assert execute("SELECT count(*) FROM t", dump).rows == ((0,),)
    rows = "INSERT INTO t VALUES(7);\nDELETE FROM sqlite_sequence;\nINSERT INTO sqlite_sequence VALUES('t',7);\nCOMMIT;"
    dump = (
        f"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT);\n{rows}"
    )
    assert execute("SELECT id FROM t", dump).rows == ((7,),)
    assert execute("SELECT a FROM t", "BEGIN TRANSACTION; CREATE TABLE t (a); COMMIT;").rows == ()


def test_every_query_sees_a_fresh_database():
    for _ in range(3):
        assert ask("SELECT count(*), sum(seats) FROM concert").rows == ((3, 400),)


def test_other_connections_of_the_process_stay_free(tmp_path):
    ask("SELECT 1")
    connection = sqlite3.connect(tmp_path / "own.db")
    connection.execute("CREATE TABLE t AS SELECT zeroblob(1000000) AS a")
    assert connection.execute("SELECT length(a) FROM t").fetchone() == (1_000_000,)
    connection.close()


def table(*rows):
    return Result(tuple(f"c{i}" for i in range(len(rows[0]))), rows)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (table((1, "a"), (2, "b")), table((2, "b"), (1, "a")), True),
        (table((1, "a"), (1, "a")), table((1, "a"), (2, "a")), False),
        (table((1,), (1,), (2,)), table((1,), (2,), (2,)), False),
        (table((1, 2)), table((2, 1)), False),
        (table((1,)), table((1, 1)), False),
        (table((1,)), table((1,), (1,)), False),
        (table((1, None)), table((1.0, None)), True),
        (table((None,)), table((0,)), False),
        (table((None,)), table(("",)), False),
        (table(("1",)), table((1,)), False),
        (table((b"a",)), table(("a",)), False),
        (table((0.1 + 0.2, "x")), table((0.3, "x")), True),
        (table((1.00001,)), table((1.0,)), False),
        (table((12345.65,)), table((12345.650000000001,)), True),  # on the edge between two six-digit roundings
        (table((20240101,)), table((20240102,)), False),  # integers are exact
        (table((20240101,)), table((20240101.0,)), True),
        (table((1e-17,)), table((0,)), True),
        (table((float("inf"),)), table((1e308,)), False),
        (table((0.1 + 0.2, 2), (0.3, 1)), table((0.1 + 0.2, 1), (0.3, 2)), True),
        (table((2.5, ""), (None, "a"), ("x", b"")), table(("x", b""), (2.5 + 1e-9, ""), (None, "a")), True),
        (Result(("a",), ()), Result(("b",), ()), True),
        (Result(("a",), ()), Result(("a", "b"), ()), False),
    ],
)
def test_results_agree_as_multisets(a, b, same):
    assert same_result(a, b, ordered=False) is same
    assert same_result(b, a, ordered=False) is same


def test_order_counts_where_asked():
    a, b = table((1, 2.0), (2, 3.0)), table((2, 3.0), (1, 2.0))
    assert not same_result(a, b, ordered=True)
    assert same_result(a, table((1.0, 2.0000001), (2, 3)), ordered=True)


cells = st.one_of(
    st.none(),
    st.integers(-9, 9),
    st.sampled_from([0.5, 1e6, -2.25, 0.1]),
    st.text("ab", max_size=2),
    st.binary(max_size=1),
)
tables = st.lists(st.tuples(cells, cells), min_size=1, max_size=6)


@given(tables, st.randoms(use_true_random=False))
def test_shuffled_and_slightly_changed_rows_still_agree(rows, random):
    shaken = [tuple(cell * (1 + 1e-12) if isinstance(cell, float) else cell for cell in row) for row in rows]
    random.shuffle(shaken)
    assert same_result(table(*rows), table(*shaken), ordered=False)
    assert same_result(table(*rows), table(*rows), ordered=True)


@given(tables, tables)
def test_agreement_is_symmetric_and_ordered_is_stricter(a, b):
    forth = same_result(table(*a), table(*b), ordered=False)
    assert forth == same_result(table(*b), table(*a), ordered=False)
    assert forth or not same_result(table(*a), table(*b), ordered=True)
