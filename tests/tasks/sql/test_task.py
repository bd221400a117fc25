"""SQL: what a row asks, what of its schema a prompt keeps, and what a reply is worth."""

from typing import Any

import pytest

from gemtune.tasks import task_of
from gemtune.tasks.sql.task import statements
from tasks.sql.queries import CHANGES
from tasks.task_rows import INSERTS, SCHEMA, made, recipe, refused


def sql_row(sql: str, **columns: Any) -> dict[str, Any]:
    return {"question": "Who is older than 4?", "schema": SCHEMA, "sql": sql, **columns}


@pytest.mark.parametrize(
    ("reply", "canonical", "runs", "valid", "execution"),
    [
        ("SELECT name FROM pet WHERE age > 4", 1, 1, 1, 1),
        ("```sql\nselect NAME from Pet where age>4;\n```", 1, 1, 1, 1),
        ("SELECT name FROM pet WHERE age >= 5", 0, 1, 1, 1),
        ("SELECT name FROM pet WHERE age = 5 ORDER BY name DESC", 0, 1, 1, 0),  # right on the row's own data alone
        ("SELECT name FROM pet WHERE name <> 'Mia'", 0, 1, 1, 0),
        ("SELECT 'Rex' UNION ALL SELECT 'Tom'", 0, 1, 1, 0),
        ("SELECT name FROM pet", 0, 1, 1, 0),
        ("SELECT nme FROM pet WHERE age > 4", 0, 0, 1, 0),
        ("SELECT name FRM pet WHERE", 0, 0, 0, 0),
        ("DROP TABLE pet", 0, 0, 1, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_sql_scores(reply: str, canonical: float, runs: float, valid: float, execution: float) -> None:
    task = task_of(recipe("sql"))
    wanted = {"canonical": canonical, "runs": runs, "valid": valid}
    gold = "SELECT name FROM pet WHERE age > 4;"
    with_data, without = made(task, sql_row(gold, inserts=INSERTS)), made(task, sql_row(gold))
    assert task.score(with_data, reply) == {**wanted, "execution": execution, "accuracy": execution}
    assert task.score(without, reply) == {**wanted, "accuracy": canonical}
    assert task.unscored(with_data) == {} and task.unscored(without) == {"execution": "it has no data"}


def test_the_order_of_rows_counts_where_the_gold_query_orders() -> None:
    task = task_of(recipe("sql"))
    conversation = made(task, sql_row("SELECT name FROM pet ORDER BY age DESC, name", inserts=INSERTS))
    assert task.score(conversation, "SELECT name FROM pet ORDER BY age")["execution"] == 0
    assert task.score(conversation, "SELECT name FROM pet ORDER BY -age, name")["execution"] == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (sql_row("SELEC name"), "not SQL"),
        (sql_row("the name of each pet"), "not SQL"),
        (sql_row(" ; "), "empty answer"),
        (sql_row("SELECT 1", question=" "), "empty prompt"),
    ],
)
def test_sql_rows_that_are_refused(row: dict[str, Any], reason: str) -> None:
    assert refused(task_of(recipe("sql")), row) == reason


PG_SCHEMA = "CREATE TABLE pet (id SERIAL PRIMARY KEY, name TEXT, age INT)"


PG_INSERTS = "INSERT INTO pet (name, age) VALUES ('Mia', 3), ('Rex', 5)"


DEEP = "SELECT " + "DATE(" * 30 + "name" + ")" * 30 + " FROM pet"


NOT_RUN = {
    "a column that is not there": (sql_row("SELECT nme FROM pet", inserts=INSERTS), "no such column: nme"),
    "no data": (sql_row("SELECT nme FROM pet"), "no such column: nme"),
    "rows of another table": (
        sql_row("SELECT name FROM pet", inserts="INSERT INTO dog VALUES (1)"),
        "no such table: dog",
    ),
    "an unknown function": (sql_row("SELECT SOUNDS_LIKE(name) FROM pet", inserts=INSERTS), "SOUNDS_LIKE"),
    "a lateral join": (
        sql_row("SELECT p.name FROM pet p, LATERAL (SELECT p.age + 1) AS x", inserts=INSERTS),
        "syntax error",
    ),
    "a table of others": (sql_row("SELECT name FROM pet", schema="CREATE TABLE pet (n GEOMETRY(", inserts="x"), ""),
    "no statement of any dialect": (sql_row("SELECT FROM WHERE pet", inserts=INSERTS), "not one sqlite statement"),
    "nested too deep": (sql_row(DEEP, inserts=INSERTS), "not one sqlite statement"),
    "a procedure": (sql_row("CALL age_all(3)", inserts=INSERTS), "not one sqlite statement"),
}


@pytest.mark.parametrize("name", NOT_RUN)
def test_a_row_that_cannot_be_run_is_kept_and_scored_by_its_form(name: str) -> None:
    row, why = NOT_RUN[name]
    task = task_of(recipe("sql"))
    conversation = made(task, row)
    assert conversation.answer == row["sql"] and why in conversation.meta["reading"]["why"] != ""
    assert set(task.score(conversation, row["sql"]).values()) == {1.0}
    assert task.score(conversation, f"```sql\n{row['sql']} ;\n```")["canonical"] == 1
    wrong = task.score(conversation, "SELECT age FROM pet")
    assert wrong["canonical"] == 0 and not {"runs", "execution"} & set(wrong)


@pytest.mark.parametrize(
    ("schema", "inserts", "sql", "dialect"),
    [
        (PG_SCHEMA, PG_INSERTS, "SELECT name FROM pet WHERE id = 2", "postgres"),
        (PG_SCHEMA, PG_INSERTS, "SELECT name FROM pet WHERE name ILIKE 'R%'", "postgres"),
        (
            "CREATE TABLE `pet` (`id` INT AUTO_INCREMENT, `name` ENUM('Mia', 'Rex'), PRIMARY KEY (`id`), KEY (`name`))",
            "INSERT INTO `pet` (`name`) VALUES ('Mia'), ('Rex')",
            "SELECT name FROM `pet` WHERE id = 2",
            "mysql",
        ),
        (
            "CREATE TABLE pet (id INT IDENTITY(1,1) PRIMARY KEY, name NVARCHAR(9))",
            "INSERT INTO pet (name) VALUES (N'Mia'), (N'Rex')",
            "SELECT TOP 1 name FROM pet WHERE name = N'Rex'",
            "tsql",
        ),
    ],
)
def test_the_dialect_of_a_row_is_found_and_it_is_run(schema: str, inserts: str, sql: str, dialect: str) -> None:
    task = task_of(recipe("sql"))
    conversation = made(task, sql_row(sql, schema=schema, inserts=inserts))
    assert conversation.meta["reading"] == {"dialect": dialect, "why": ""}
    assert set(task.score(conversation, sql).values()) == {1.0}
    assert task.score(conversation, "SELECT 'Rex'")["runs"] == 1
    assert task.score(conversation, "SELECT name FROM pet")["execution"] == 0


def test_rows_inside_the_schema_are_data() -> None:
    task = task_of(recipe("sql"))
    conversation = made(task, sql_row("SELECT name FROM pet WHERE age > 4", schema=f"{SCHEMA} {INSERTS}"))
    assert task.score(conversation, "SELECT name FROM pet")["execution"] == 0
    assert task.score(conversation, "SELECT name FROM pet WHERE NOT age <= 4")["execution"] == 1


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        *CHANGES,
        ("DELETE FROM pet WHERE age > 4", "DELETE FROM pet WHERE NOT age <= 4", "DELETE FROM pet"),
        ("DELETE FROM pet WHERE age > 4", "DELETE FROM pet WHERE age >= 5", "SELECT name FROM pet WHERE age < 4"),
        ("DELETE FROM pet WHERE age > 4", "DELETE FROM pet WHERE 4 < age", "DELETE FROM pet WHERE age = 5"),
        (
            "INSERT INTO pet (name, age) VALUES ('Bo', 1)",
            "INSERT INTO pet (age, name) SELECT 1, 'Bo'",
            "INSERT INTO pet VALUES ('Bo', 2)",
        ),
    ],
)
def test_what_changes_tables_is_scored_by_what_it_leaves(gold: str, right: str, wrong: str) -> None:
    task = task_of(recipe("sql"))
    conversation = made(task, sql_row(gold, inserts=INSERTS))
    assert set(task.score(conversation, gold).values()) == {1.0}
    assert task.score(conversation, right)["execution"] == 1
    assert task.score(conversation, wrong)["execution"] == 0
    assert task.score(conversation, "DROP TABLE pet")["runs"] == 0


def test_a_reply_that_would_take_for_ever_costs_its_limit_and_is_wrong() -> None:
    task = task_of(recipe("sql"))
    conversation = made(task, sql_row("SELECT name FROM pet", inserts=INSERTS))
    long, half = (f"replace(printf('%{width}d', 1), ' ', '{'a' * 50}')" for width in (990, 490))
    # A tenth of a second a row and more, and SQLite looks at the clock in between alone: 200 rows are beyond any limit.
    pets = ", ".join(["pet"] * 8)
    calls = ", ".join(f"instr(a, b || '{number}')" for number in range(190))
    killed = f"SELECT {calls} FROM (SELECT {long} || 'x' AS a, {half} || 'y' AS b FROM {pets} LIMIT 200)"
    wrong = {"canonical": 0, "runs": 0, "execution": 0, "accuracy": 0}
    assert task.score(conversation, DEEP) == {**wrong, "valid": 0}
    assert wrong.items() <= task.score(conversation, killed).items()
    assert set(task.score(conversation, "SELECT name FROM pet").values()) == {1.0}


def test_inserts_may_be_a_list() -> None:
    rows = ["INSERT INTO pet VALUES ('Mia', 9)", "INSERT INTO pet VALUES ('Rex', 1);"]
    task = task_of(recipe("sql"))
    conversation = made(task, sql_row("SELECT name FROM pet WHERE age > 4", inserts=rows))
    assert task.score(conversation, "SELECT name FROM pet WHERE NOT age <= 4")["execution"] == 1
    assert task.score(conversation, "SELECT 'Mia'")["execution"] == 0


def test_another_dialect_is_run_in_sqlite() -> None:
    schema, inserts = (
        "CREATE TABLE `pet` (`name` VARCHAR(9), `age` INT UNSIGNED)",
        "INSERT INTO `pet` VALUES ('Mia', 3)",
    )
    task = task_of(recipe("sql", sql={"dialect": "mysql"}))
    row = sql_row("SELECT IF(age > 2, 'old', 'young') FROM `pet`", schema=schema, inserts=inserts)
    conversation = made(task, row)
    assert "mysql" in conversation.messages[0].text
    case = "SELECT CASE WHEN age > 2 THEN 'old' ELSE 'young' END FROM pet"
    assert task.score(conversation, case) == {"accuracy": 1, "canonical": 0, "runs": 1, "valid": 1, "execution": 1}
    assert task.score(conversation, "SELECT 'old'") == {
        "accuracy": 0,
        "canonical": 0,
        "runs": 1,
        "valid": 1,
        "execution": 0,
    }


def test_one_question_about_two_databases_is_two_questions() -> None:
    task = task_of(recipe("sql"))
    one = made(task, sql_row("SELECT 1", db_id="one"))
    two = made(task, sql_row("SELECT 1", db_id="two"))
    other = made(task, sql_row("SELECT 1", schema="CREATE TABLE dog (name)"))
    assert len({c.key for c in (one, two, other)}) == len({task.scope(c) for c in (one, two, other)}) == 3


LONG = """-- Pets and where they live.
CREATE TABLE "pet" (
  "name"    TEXT,   /* as its owner calls it */
  "age"     INT
);
CREATE TABLE invoice (number INT, amount REAL, paid_on TEXT, note TEXT DEFAULT 'a;b');
CREATE TABLE VetVisits (day TEXT, reason TEXT);
"""


@pytest.mark.parametrize(
    ("share", "kept"),
    [(1.0, ["pet", "invoice", "VetVisits"]), (0.7, ["pet", "VetVisits"]), (0.55, ["pet", "VetVisits"])],
)
def test_a_long_schema_loses_comments_then_unrelated_tables(share: float, kept: list[str]) -> None:
    task = task_of(recipe("sql"))
    row = {"question": "Which pets had a vet visit?", "schema": LONG, "sql": "SELECT number FROM invoice"}
    conversation = made(task, row)
    cut = task.shorten(conversation, share)
    assert cut is not None
    prompt = cut.messages[-2].text
    assert "--" not in prompt and "/*" not in prompt and prompt.endswith("Which pets had a vet visit?")
    assert [name for name in ("pet", "invoice", "VetVisits") if f"{name} (" in prompt.replace('"', "")] == kept
    length = [sum(len(m.text) for m in c.messages[:-1]) for c in (cut, conversation)]
    assert length[0] <= share * length[1]
    assert cut.answer == conversation.answer and cut.meta == conversation.meta


def test_a_schema_that_is_all_related_is_not_cut() -> None:
    task = task_of(recipe("sql"))
    assert task.shorten(made(task, sql_row("SELECT 1", question="What is the name of each pet?")), 0.3) is None


def test_cutting_does_not_look_at_the_gold_query() -> None:
    task = task_of(recipe("sql"))
    rows = [
        {"question": "Which pets?", "schema": LONG, "sql": f"SELECT * FROM {table}"} for table in ("invoice", "pet")
    ]
    prompts = {cut.messages[-2].text for row in rows if (cut := task.shorten(made(task, row), 0.5))}
    assert len(prompts) == 1


def test_statements_keep_what_is_quoted() -> None:
    script = "CREATE TABLE \"a;  b\" (x TEXT DEFAULT '-- it''s;  fine', `y ;` INT, [z -- z] INT) ;; -- end"
    assert list(statements(script)) == [
        "CREATE TABLE \"a;  b\" (x TEXT DEFAULT '-- it''s;  fine', `y ;` INT, [z -- z] INT);"
    ]
