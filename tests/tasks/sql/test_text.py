"""SQL as text: statements, their order, and one spelling of each query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.tasks.sql.sandbox import same_result
from gemtune.tasks.sql.text import canonical, first_statement, orders, parses
from tasks.sql.queries import HOSTILE, ORDINARY, ask


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
        "SELECT {:}",
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
