"""SQL of a row, and texts that patterns are slow on. A reply is scored by the same code as a row's own answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.hostile.place import DROPPED, ROWS, USUAL, Command, Kind, Place, prepare

SCHEMA = "CREATE TABLE t (a TEXT, b TEXT)"
LONG = f"INSERT INTO t VALUES ('{'a' * 49_900}', '{'a' * 24_900}b')"
MANY = ",".join(["instr(a, b)"] * 100)


def nested(word: str, depth: int) -> str:
    return f"SELECT {word}({f'{word}(' * (depth - 1)}a{')' * depth} FROM t"


def called(call: str, count: int = 200) -> str:
    return "SELECT " + ", ".join([call] * count) + " FROM t"


def joined(tables: int, conditions: int) -> str:
    names = ", ".join(f"t AS t{n}" for n in range(tables))
    where = " AND ".join("(" + " OR ".join(f"t{n}.c{c} = {c}" for c in range(conditions)) + ")" for n in range(tables))
    return f"SELECT count(*) FROM {names} WHERE {where}"


INDEXED = f"CREATE TABLE t ({', '.join(f'c{n} INT' for n in range(100))});" + "".join(
    f"CREATE INDEX i{n} ON t (c{n});" for n in range(100)
)
GENERATED = "CREATE TABLE t (a TEXT, b TEXT, " + ", ".join(f"c{n} INT AS (max({MANY})) STORED" for n in range(40)) + ")"

# what it is, what was measured -> what of a row
QUERIES: dict[tuple[str, str], dict[str, str]] = {
    ("12 nested DATE( calls", "1.7 s a score"): {"sql": nested("DATE", 12)},
    ("20 nested DATE( calls", "200 s"): {"sql": nested("DATE", 20)},
    ("30 nested DATE( calls", "4 days, by growth"): {"sql": nested("DATE", 30)},
    ("30 nested STRUCT( calls, unclosed", "worse"): {"sql": "SELECT " + "STRUCT(" * 30},
    ("a type in a type, 30 deep", "as DATE("): {"sql": f"SELECT CAST(1 AS {'DECIMAL(' * 30}1{')' * 30}) FROM t"},
    ("20,000 brackets as a query", "1.3 s"): {"sql": "[" * 20_000},
    ("8,000 × CREATE TABLE sqlite_a(, 176 KB", "3.8 s"): {"schema": "CREATE TABLE sqlite_a(" * 8000},
    ("the same, 3.9 MB", "33 min, by growth"): {"schema": "CREATE TABLE sqlite_a(" * 175_000},
    ("200 × instr() over 50 KB", "10.9 s, where 2 were allowed"): {"inserts": LONG, "sql": called("instr(a, b)")},
    ("200 × LIKE over 50 KB", "5 to 7 s"): {"inserts": LONG, "sql": called("a LIKE '%' || b || '%'")},
    ("200 × replace() over 50 KB", "5.4 s"): {"inserts": LONG, "sql": called("replace(a, b, 'x')")},
    ("10,000 × instr() in inserts, 180 KB", "over 60 s; 280 by growth"): {
        "inserts": ";".join([LONG, *[f"INSERT INTO t SELECT max({MANY}), '' FROM t WHERE length(b) > 9"] * 100])
    },
    ("4,000 × instr() in generated columns, 44 KB", "over 110 s"): {
        "schema": GENERATED,
        "inserts": LONG.replace("t VALUES", "t (a, b) VALUES"),
    },
    ("40 tables × 100 ORs over 100 indexes", "6 to 8 s, where 0.2 were allowed"): {
        "schema": INDEXED,
        "sql": joined(40, 100),
    },
    ("a recursion without an end", "held"): {
        "sql": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
    },
    ("1 GB by zeroblob", "held"): {"sql": "SELECT length(hex(zeroblob(500000000))) FROM t"},
    ("ATTACH, load_extension, writefile", "held"): {
        "sql": "ATTACH 'x.db' AS x; SELECT load_extension('x'), writefile('x', a) FROM t"
    },
}


def rows(**hostile: str) -> list[dict[str, Any]]:
    good = [
        {
            "question": f"How many are over {n}?",
            "schema": "CREATE TABLE t (n INT)",
            "sql": f"SELECT count(*) FROM t WHERE n > {n}",
        }
        for n in range(ROWS)
    ]
    return [
        *good,
        {"question": "What is hostile?", "schema": SCHEMA, "sql": "SELECT a FROM t", "inserts": "", **hostile},
    ]


def query(hostile: dict[str, str], **train: object) -> Kind:
    def commands(place: Place) -> Iterator[Command]:
        place.jsonl(rows(**hostile))
        place.recipe("sql", "rows.jsonl", prepare={"over_length": "shorten"})
        yield prepare()

    def written(place: Place) -> str:
        names = {path.name for path in place.folder.iterdir()} - {"t.yaml", "rows.jsonl", "runs"}
        return f"a file was written: {names}" if names else ""

    return Kind("", commands, wrong=written)


def text(answer: str, task: str = "columns") -> Kind:
    """A row with a long answer."""

    def commands(place: Place) -> Iterator[Command]:
        place.emoji(f"what is hostile,{answer}\n")
        extra = {"template": {"prompt": "{text}", "answer": "{emoji}"}} if task == "columns" else {}
        place.recipe(task, train={"max_length": 32_000}, **extra)
        yield prepare()

    return Kind("", commands)


def kinds() -> Iterator[Kind]:
    for (what, then), hostile in QUERIES.items():
        made = query(hostile)
        yield Kind(f"SQL: {what}", made.commands, f"{DROPPED} or {USUAL}", then, wrong=made.wrong)
    yield Kind(
        "text: 160,000 combining signs", text("a" + "\u0300\u0316" * 80_000).commands, f"{DROPPED} or {USUAL}", "44.7 s"
    )
    yield Kind(
        "text: 80,000 halves of a flag as emoji",
        text("🇪" * 80_000, "emoji").commands,
        f"{DROPPED} or {USUAL}",
        "23.5 s",
    )
