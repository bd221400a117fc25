import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.tasks.sql.dialects import query_for, script_for
from gemtune.tasks.sql.sandbox import MAX_QUERY, MAX_VALUE, Result, SqlError, execute, same_result
from gemtune.tasks.sql.text import canonical, first_statement, orders, parses

SCHEMA = """
CREATE TABLE "singer" (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, country TEXT, age REAL);
CREATE TABLE concert (
  id INTEGER PRIMARY KEY, singer_id INT REFERENCES singer (id), day DATE, seats INT CHECK (seats > 0)
);
CREATE INDEX by_day ON concert (day);
CREATE VIEW adults AS
  SELECT name, printf('%.0f', age) AS age, trim(country, 'x') AS country FROM singer WHERE age >= 18;
"""
INSERTS = """
INSERT INTO singer (name, country, age) VALUES
  ('Ana', 'FR', 17.5), ('Bo', 'DE', 30), ('Caro', 'FR', 41), ('Dee', NULL, 30);
INSERT INTO concert VALUES (1, 1, '2024-01-05', 100), (2, 2, '2024-02-06', 250), (3, 2, '2025-02-07', 50);
"""


def ask(sql, **limits):
    return execute(sql, SCHEMA, INSERTS, **limits)


ORDINARY = {
    "SELECT count(*) FROM singer": [(4,)],
    "select S.name from Singer as S order by S.age desc limit 1": [("Caro",)],
    "SELECT name, sum(seats) FROM singer s JOIN concert ON singer_id = s.id GROUP BY s.id HAVING sum(seats) > 200": [
        ("Bo", 300)
    ],
    "SELECT name FROM singer LEFT JOIN concert ON singer.id = singer_id WHERE concert.id IS NULL ORDER BY 1": [
        ("Caro",),
        ("Dee",),
    ],
    "SELECT name, rank() OVER (PARTITION BY country ORDER BY age DESC) FROM singer WHERE country = 'FR' ORDER BY 1": [
        ("Ana", 2),
        ("Caro", 1),
    ],
    "SELECT id, seats - lag(seats, 1, 0) OVER (ORDER BY day) FROM concert": [(1, 100), (2, 150), (3, -200)],
    "WITH old AS (SELECT * FROM singer WHERE age > 20) SELECT count(*) FROM old": [(3,)],
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n": [(15,)],
    "SELECT name FROM singer WHERE name LIKE '%a%' AND name NOT GLOB 'A*'": [("Caro",)],
    "SELECT strftime('%Y', day) AS y, count(*) FROM concert GROUP BY y": [("2024", 2), ("2025", 1)],
    "SELECT substr(name, 1, 2), upper(name), length(name) FROM singer WHERE id = 3": [("Ca", "CARO", 4)],
    "SELECT round(avg(age), 2) FROM singer": [(29.63,)],
    "SELECT coalesce(country, '?'), ifnull(country, 1), nullif(id, 4) FROM singer WHERE id = 4": [("?", 1, None)],
    "SELECT group_concat(name, '/') FROM (SELECT name FROM singer ORDER BY name)": [("Ana/Bo/Caro/Dee",)],
    "SELECT group_concat(DISTINCT country) FROM singer": [("FR,DE",)],
    "SELECT name FROM singer WHERE age = (SELECT max(age) FROM singer)": [("Caro",)],
    "SELECT name FROM singer s WHERE EXISTS (SELECT 1 FROM concert WHERE singer_id = s.id) ORDER BY name": [
        ("Ana",),
        ("Bo",),
    ],
    "SELECT country FROM singer INTERSECT SELECT 'DE' UNION SELECT 'X' ORDER BY 1": [("DE",), ("X",)],
    "SELECT CASE WHEN age < 18 THEN 'young' ELSE 'old' END, CAST(age AS INTEGER) FROM singer WHERE id = 1": [
        ("young", 17)
    ],
    "SELECT name FROM adults WHERE age = '30' ORDER BY name": [("Bo",), ("Dee",)],
    "SELECT printf('%05.1f|%s|%d%%', 3.14159, 'x', 7), format('%,d', 1234567)": [("003.1|x|7%", "1,234,567")],
    "SELECT trim('  a '), rtrim('1.500', '0'), ltrim('xxa', 'x'), trim(NULL, 'x'), trim(11211, 1)": [
        ("a", "1.5", "a", None, "2")
    ],
    "SELECT instr(name, 'o'), replace(name, 'o', '0'), abs(-2), min(1, 2), 7 / 2, 7 % 4 FROM singer WHERE id = 2": [
        (2, "B0", 2, 1, 3, 3)
    ],
    "SELECT julianday('2024-03-01') - julianday('2024-02-01'), date('2024-01-31', '+1 day')": [(29.0, "2024-02-01")],
    "SELECT json_extract('{\"a\": [1, 2]}', '$.a[1]')": [(2,)],
    "-- how many\n/* of them; */ SELECT 1;": [(1,)],
    "VALUES (1, 'a;b'), (2, x'00ff')": [(1, "a;b"), (2, b"\x00\xff")],
    'SELECT "name" FROM [singer] WHERE `id` = 1': [("Ana",)],
}


@pytest.mark.parametrize("sql", ORDINARY)
def test_ordinary_analytics_run(sql):
    assert ask(sql).rows == tuple(ORDINARY[sql])


def test_a_result_names_its_columns_and_may_be_empty():
    assert ask("SELECT id, name AS who FROM singer WHERE 0") == Result(("id", "who"), ())
    assert execute("SELECT 1 AS one", "") == Result(("one",), ((1,),))


LONG = (
    "replace(hex(replace(hex(replace(hex('abcdefghij'), '6', '66666666')), '3', '33333333')), '3', '33333333')"  # 25 kB
)
SQUARES = ", ".join(f"a{i + 1} AS (SELECT x.n FROM a{i} x, a{i} y)" for i in range(30))
HOSTILE = {
    "attach": "ATTACH DATABASE '{tmp}/x' AS x",
    "attach to a commented query": "/* SELECT */ ATTACH DATABASE '{tmp}/x' AS x",
    "detach": "DETACH DATABASE main",
    "pragma": "PRAGMA writable_schema = 1",
    "pragma as a table": "SELECT * FROM pragma_table_info('singer')",
    "pragma as a table, no column": "SELECT count(*) FROM pragma_database_list",
    "load_extension": "SELECT load_extension('{tmp}/x.so')",
    "load_extension in any case": "SELECT Load_Extension('{tmp}/x.so', 'go') FROM singer",
    "drop": "DROP TABLE singer",
    "delete": "DELETE FROM singer",
    "insert": "INSERT INTO singer (name) VALUES ('Eve')",
    "update": "UPDATE singer SET name = 'Eve'",
    "replace": "REPLACE INTO singer (id, name) VALUES (1, 'Eve')",
    "with delete": "WITH x AS (SELECT 1) DELETE FROM singer",
    "with insert returning": "WITH x AS (SELECT 1) INSERT INTO singer (name) VALUES ('Eve') RETURNING *",
    "with update": "WITH x AS (SELECT 1) UPDATE singer SET name = 'Eve' RETURNING name",
    "create trigger": "CREATE TRIGGER t AFTER INSERT ON singer BEGIN SELECT 1; END",
    "create table": "CREATE TABLE t (a)",
    "create temp table": "CREATE TEMP TABLE t AS SELECT * FROM singer",
    "create virtual table": "CREATE VIRTUAL TABLE t USING fts5(a)",
    "alter": "ALTER TABLE singer ADD COLUMN x",
    "vacuum": "VACUUM",
    "vacuum into": "VACUUM INTO '{tmp}/x.db'",
    "reindex": "REINDEX",
    "begin": "BEGIN EXCLUSIVE",
    "explain": "EXPLAIN SELECT 1",
    "two statements": "SELECT 1; SELECT 2",
    "two statements, one hidden": "SELECT 1; /* x */ DROP TABLE singer; --",
    "readfile": "SELECT readfile('/etc/passwd')",
    "writefile": "SELECT writefile('{tmp}/x', 'x')",
    "edit": "SELECT edit('x', 'vi')",
    "fts3_tokenizer": "SELECT hex(fts3_tokenizer('simple'))",
    "sqlite_master": "SELECT sql FROM sqlite_master",
    "sqlite_temp_master": "SELECT name FROM sqlite_temp_master",
    "dbstat": "SELECT * FROM dbstat",
    "sqlite_stmt": "SELECT sql FROM sqlite_stmt",
    "zeroblob": "SELECT zeroblob(2000000000)",
    "randomblob": "SELECT randomblob(2000000000)",
    "endless recursion": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "endless rows": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
    "cartesian bomb": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 999) "
    "SELECT count(*) FROM r a, r b, r c, r d",
    "exponential compilation": f"WITH a0(n) AS (SELECT 1), {SQUARES} SELECT 1 FROM a30",
    "sorting long strings": f"WITH RECURSIVE r(n, s) AS (SELECT 1, {LONG} UNION ALL SELECT n + 1, s || '' FROM r) "
    "SELECT n FROM r ORDER BY s",
    "long rows": f"SELECT {LONG} FROM singer a, singer b, singer c, singer d, singer e, singer f",
    "wide rows": "SELECT " + ", ".join(["*"] * 400) + " FROM singer",
    "replace bomb": "SELECT " + "replace(" * 20 + "'aaaa'" + ", 'a', 'aaaaaaaaaa')" * 20,
    "concatenation bomb": f"SELECT {' || '.join([LONG] * 8)}",
    "group_concat bomb": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 99999) "
    "SELECT group_concat(n) FROM r",
    "group_concat for ever": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
    "SELECT group_concat(n) FROM r",
    "printf bomb": "SELECT printf('%.*c', 1000000000, 'x')",
    "printf width": "SELECT printf('%2000000000d', 1)",
    "format precision": "SELECT format('%.1000000000f', 1.5)",
    "computed printf": "SELECT printf('%' || '-' || '99999999' || 's', 'x')",
    "trim bomb": "SELECT "
    + ", ".join(["trim(s, t)"] * 150)
    + f" FROM (SELECT {LONG} || {LONG} s, replace({LONG}, '3', 'x')"
    f" || {LONG} t FROM singer a, singer b, singer c, singer d, singer e, singer f, singer g, singer h)",
    "many calls": "SELECT " + ", ".join(["abs(id)"] * 201) + " FROM singer",
    "like pattern": "SELECT name LIKE '" + "%a" * 60 + "' FROM singer",
    "nested parentheses": "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "nested queries": "SELECT * FROM " + "(SELECT * FROM " * 300 + "singer" + ")" * 300,
    "deep expression": "SELECT 1 WHERE " + " OR ".join(["1 = 2"] * 1000),
    "many unions": " UNION ".join(["SELECT 1"] * 600),
    "many tables": "SELECT 1 FROM " + ", ".join(f"singer s{i}" for i in range(65)),
    "10 MB": "SELECT '" + "x" * 10_000_000 + "'",
    "NUL": "SELECT 1\0; DROP TABLE singer",
    "half a surrogate pair": "SELECT '\ud83d'",
    "text that is not UTF-8": "SELECT CAST(x'ff' AS TEXT)",
    "a parameter": "SELECT ?1, :name",
    "unterminated string": "SELECT 'abc",
    "unterminated comment": "/* SELECT 1",
    "a comment alone": "-- SELECT 1",
    "nothing": "",
    "white space": " \n\t",
    "a semicolon": ";",
    "prose": "The singers are Ana and Bo.",
    "half a statement": "SELECT name FROM",
    "an unknown table": "SELECT 1 FROM nobody",
    "an unknown column": "SELECT shoe FROM singer",
}


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


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a DESC LIMIT 3", True),
        ("SELECT a FROM t UNION SELECT b FROM u ORDER BY 1", True),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM x ORDER BY a", True),
        ("(SELECT a FROM t ORDER BY a)", True),
        ("SELECT a FROM t", False),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a) AS s", False),
        ("WITH x AS (SELECT a FROM t ORDER BY a) SELECT a FROM x", False),
        ("SELECT rank() OVER (ORDER BY a) FROM t", False),
        ("SELECT 'x ORDER BY y' FROM t", False),
        ("not sql at all", False),
    ],
)
def test_orders_looks_at_the_outermost_query(sql, ordered):
    assert orders(sql, "sqlite") is ordered


@pytest.mark.parametrize(
    "sql", ["SELECT 1", "SELECT 1;", "VALUES (1)", "WITH a AS (SELECT 1) SELECT * FROM a", "DELETE FROM t"]
)
def test_statements_parse(sql):
    assert parses(sql, "sqlite") and canonical(sql, "sqlite")


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "-- x",
        "SELECT",
        "ok",
        "hello world",
        "SELECT 1; SELECT 2",
        "SELECT 'a",
        "EXPLAIN SELECT 1",
        "SELECT FROM WHERE",
    ]
    + [HOSTILE[name] for name in ("nested parentheses", "nested queries", "10 MB")],
)
def test_what_is_no_statement_does_not_parse(sql):
    assert not parses(sql, "sqlite")
    assert canonical(sql, "sqlite") is None
    assert not orders(sql, "sqlite")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("select  Name\nfrom Singer", "SELECT name FROM singer;"),
        ("SELECT t1.name FROM singer AS t1", "SELECT name FROM singer"),
        ("SELECT singer.name FROM singer", "SELECT name FROM singer -- all"),
        ("SELECT count(*) AS n FROM singer", "SELECT COUNT(*) FROM singer"),
        ("SELECT name AS name FROM t ORDER BY name", "SELECT name FROM t ORDER BY name ASC"),
        ('SELECT "name" FROM [singer]', "SELECT name FROM `singer`"),
        ("SELECT a FROM t WHERE b <> 1", "SELECT a FROM t WHERE b != 1"),
        (
            "SELECT T1.a FROM x AS T1 JOIN y AS T2 ON T1.i = T2.i",
            "select x.a from x inner join y on x.i = y.i",
        ),
        ("SELECT a FROM x LEFT OUTER JOIN y ON x.i = y.i", "SELECT a FROM x LEFT JOIN y ON x.i = y.i"),
    ],
)
def test_spellings_of_one_query_are_one(a, b):
    assert canonical(a, "sqlite") == canonical(b, "sqlite") is not None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("SELECT a FROM t WHERE b = 'X'", "SELECT a FROM t WHERE b = 'x'"),
        ('SELECT a FROM t WHERE b = "X"', 'SELECT a FROM t WHERE b = "x"'),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC"),
        ("SELECT a FROM x JOIN y ON x.i = y.i", "SELECT a FROM x LEFT JOIN y ON x.i = y.i"),
        ("SELECT a, b FROM t", "SELECT b, a FROM t"),
        ("SELECT p.a FROM t p JOIN t q ON p.i = q.j", "SELECT q.a FROM t p JOIN t q ON p.i = q.j"),
        ("SELECT b AS a FROM t ORDER BY a", "SELECT b FROM t ORDER BY a"),
    ],
)
def test_different_queries_stay_different(a, b):
    assert canonical(a, "sqlite") != canonical(b, "sqlite")


@pytest.mark.parametrize("sql", [sql for sql in ORDINARY if not sql.startswith(("VALUES", "select S"))])
def test_the_canonical_form_returns_the_same_and_is_a_fixed_point(sql):
    form = canonical(sql, "sqlite")
    assert form is not None and canonical(form, "sqlite") == form
    assert same_result(ask(form), ask(sql), ordered=True)


@given(st.text("SELECT FROM()*,;'\"`-/\n1ax=.|[]{}:$%", max_size=40))
def test_no_text_makes_the_parsers_raise(text):
    for dialect in ("sqlite", "mysql", "postgres"):
        assert parses(text, dialect) or canonical(text, dialect) is None
        orders(text, dialect)


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


@pytest.mark.parametrize(
    ("reply", "statement"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT 1 ;\n", "SELECT 1"),
        ("\n\nSELECT a\nFROM t;\n\nThis lists a.", "SELECT a\nFROM t"),
        ("SELECT a\r\n\r\nNote", "SELECT a"),
        ("SELECT a\n\nFROM t\n\nWHERE b = 'x\n\ny'\n\nA list.", "SELECT a\n\nFROM t\n\nWHERE b = 'x\n\ny'"),
        ("SELECT a FROM t\n\nWhere a is a name.", "SELECT a FROM t"),
        ("SELECT a,\n\n  b\nFROM t\n\nORDER BY a;\n\nSELECT 1", "SELECT a,\n\n  b\nFROM t\n\nORDER BY a"),
        ("```sql\nSELECT 1;\n```", "SELECT 1"),
        ("Here:\n```SQLite\nSELECT 1\n\nFROM t\n```\n```sql\nSELECT 2\n```", "SELECT 1\n\nFROM t"),
        ("```\nSELECT 1\n```", "SELECT 1"),
        ("```SELECT 1```", "SELECT 1"),
        ("```postgresql\nSELECT 1", "SELECT 1"),
        ("SELECT 1; SELECT 2", "SELECT 1; SELECT 2"),
        ("SELECT ';'", "SELECT ';'"),
        ("", ""),
        ("```sql\n```", ""),
    ],
)
def test_the_statement_is_taken_out_of_a_reply(reply, statement):
    assert first_statement(reply) == statement
