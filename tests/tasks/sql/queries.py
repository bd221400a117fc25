"""Queries by kind, ordinary and hostile, and the tables that they ask."""

from __future__ import annotations

from gemtune.tasks.sql.sandbox import execute

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


PETS = """CREATE TABLE owner (id INTEGER PRIMARY KEY, city TEXT);
CREATE TABLE pet (id INTEGER PRIMARY KEY, name TEXT, kind TEXT, age INT, owner_id INT REFERENCES owner (id));"""


ROWS = """INSERT INTO owner VALUES (1, 'Rome'), (2, 'Oslo'), (3, 'Rome');
INSERT INTO pet VALUES (1, 'Mia', 'cat', 3, 1), (2, 'Rex', 'dog', 5, 1), (3, 'Tom', 'cat', 9, 2),
(4, 'Bo', 'dog', 4, 2);"""

# What changes a table `pet` with names and ages: gold, another right one, a wrong one.
CHANGES = [
    ("UPDATE pet SET age = 6 WHERE age = 5", "UPDATE pet SET age = age + 1 WHERE age = 5", "UPDATE pet SET age = 6"),
    ("DELETE FROM pet WHERE age > 4", "DELETE FROM pet WHERE age >= 5", "DELETE FROM pet"),
]
