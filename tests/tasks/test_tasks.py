"""What each task makes of a row and of a reply."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemtune.data.conversation import Conversation
from gemtune.errors import DataError, RecipeError, RowError
from gemtune.recipe.schema import Recipe, Sql
from gemtune.tasks import TASKS, Task, task_of
from gemtune.tasks.columns import fill_template
from gemtune.tasks.sql.task import statements

SCHEMA = "CREATE TABLE pet (name TEXT, age INT);"
INSERTS = "INSERT INTO pet VALUES ('Mia', 3), ('Rex', 5), ('Tom', 5);"


def recipe(task: str, **sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "t", "task": task, "data": [{"source": "t.csv"}], **sections})


def made(task: Task, row: dict[str, Any]) -> Conversation:
    return task.conversation(row, "t.csv:2")


def refused(task: Task, row: dict[str, Any]) -> str:
    with pytest.raises(RowError) as caught:
        made(task, row)
    return caught.value.reason


# ---- the table


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="'sqll'; did you mean 'sql'"):
        task_of(recipe("sqll"))
    with pytest.raises(RecipeError, match="wanted emoji, sql, product, multi_image, columns, messages"):
        task_of(recipe("vision_of_the_future"))


@pytest.mark.parametrize("name", TASKS)
def test_the_metric_is_one_of_the_scores(name: str) -> None:
    rows = {
        "emoji": {"text": "sun", "emoji": "☀️"},
        "sql": {"question": "How old is Mia?", "schema": SCHEMA, "sql": "SELECT age FROM pet", "inserts": INSERTS},
        "columns": {"prompt": "2 + 2", "answer": "4"},
        "messages": {"prompt": "2 + 2", "completion": "4"},
        "product": {"name": "mug", "category": "c", "image": "a.png", "description": "A red mug", "attributes": "red"},
        "multi_image": {"question": "Which?", "input_image_path": ["a.png", "b.png"], "output": "B"},
    }
    task = task_of(recipe(name))
    conversation = made(task, rows[name])
    scores = task.score(conversation, conversation.answer)
    assert task.metric in scores
    assert set(scores.values()) == {1.0}
    bad = task.score(conversation, "no idea")
    assert all(0 <= score <= 1 for score in bad.values()) and bad[task.metric] < 1


def test_a_task_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "from gemtune.data.conversation import Conversation, Message\n"
        "from gemtune.tasks import Task, text_of\n"
        "@dataclass\nclass Helper:\n    x: int = 1\n"
        "class Shout(Task):\n"
        "    columns = ('word',)\n"
        "    def conversation(self, row, where):\n"
        "        word = text_of(row, 'word')\n"
        "        turns = (Message.of('user', word), Message.of('assistant', word.upper()))\n"
        "        return Conversation(turns, self.recipe.task, word, word, where)\n"
        "    def score(self, conversation, reply):\n"
        "        return {'exact': float(reply == conversation.answer)}\n"
    )
    task = task_of(recipe(f"{file}:Shout"))
    conversation = made(task, {"word": "hey"})
    assert conversation.answer == "HEY" and task.score(conversation, "HEY") == {"exact": 1.0}
    assert task.shorten(conversation, 0.5) is None and task.scope(conversation) == ""


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (None, "Mine", "no such file; it should hold class Mine"),
        ("class Other: pass", "Mine", "no such class"),
        ("class Mine: pass", "Mine", "not a subclass of gemtune.tasks.Task"),
        ("class Mine(:", "Mine", "cannot be imported"),
        ("import no_such_module", "Mine", "No module named 'no_such_module'"),
    ],
)
def test_a_task_file_that_cannot_be_used(tmp_path: Path, text: str | None, name: str, said: str) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RecipeError, match=said) as caught:
        task_of(recipe(f"{file}:{name}"))
    assert str(file) in str(caught.value) and name in str(caught.value)


OPTIONS = """
from pydantic import Field
from gemtune.tasks import Section, Task
class Mine(Task):
    class Options(Section):
        words: int = Field(description="How many words.")
        style: str = "plain"
class Bare(Task):
    pass
"""


def test_a_task_of_the_users_own_has_options(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OPTIONS)
    options: Any = task_of(recipe(f"{file}:Mine", options={"words": 3})).options
    assert (options.words, options.style) == (3, "plain")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "Mine",
            {"words": 3, "stile": "x"},
            "unknown key 'options.stile'; did you mean 'style'? Mine takes words, style",
        ),
        ("Mine", {"words": "3"}, "options.words: wanted a valid integer, found '3'"),
        ("Mine", {}, "key 'options.words' is missing; How many words."),
        ("Bare", {"words": 3}, "unknown key 'options.words'; Bare takes nothing"),
    ],
)
def test_options_are_checked_strictly(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OPTIONS)
    with pytest.raises(RecipeError) as caught:
        task_of(recipe(f"{file}:{name}", options=options))
    assert str(caught.value) == message


def test_a_task_with_a_section_of_its_own_takes_no_options() -> None:
    assert task_of(recipe("sql", sql={"dialect": "mysql"})).options == Sql(dialect="mysql")
    with pytest.raises(RecipeError, match="options: task sql has its options in the section `sql`; move them"):
        task_of(recipe("sql", options={"dialect": "mysql"}))


def test_a_task_that_lacks_its_methods_says_so() -> None:
    task = Task(recipe("mine.py:Mine"))
    with pytest.raises(RecipeError, match="makes a conversation"):
        made(task, {})


# ---- emoji


def test_emoji_answers_have_no_white_space() -> None:
    conversation = made(task_of(recipe("emoji")), {"text": " I  love it ", "emoji": " ❤️ 👨‍👩‍👧 🇪🇬\n1️⃣"})
    assert [(m.role, m.text) for m in conversation.messages] == [
        ("system", "Translate this text to emoji."),
        ("user", "I  love it"),
        ("assistant", "❤️👨‍👩‍👧🇪🇬1️⃣"),
    ]
    assert conversation.key == "I  love it"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "hi", "emoji": "hello"}, "not emoji"),
        ({"text": "hi", "emoji": "👋!"}, "not emoji"),
        ({"text": "hi", "emoji": " "}, "empty answer"),
        ({"text": "hi", "emoji": None}, "empty answer"),
        ({"text": "", "emoji": "👋"}, "empty prompt"),
        ({"text": float("nan"), "emoji": "👋"}, "empty prompt"),
        ({"text": ["hi"], "emoji": "👋"}, "not text"),
    ],
)
def test_emoji_rows_that_are_refused(row: dict[str, Any], reason: str) -> None:
    assert refused(task_of(recipe("emoji")), row) == reason


@pytest.mark.parametrize(
    "cell", ["😀, 🌊", "😀,🌊", "😀、🌊", "😀 | 🌊", "😀;🌊", "😀/🌊", ["😀", "🌊"], '["😀", "🌊"]', " 😀\n🌊,"]
)
def test_what_stands_between_emoji_is_left_out(cell: Any) -> None:
    assert made(task_of(recipe("emoji")), {"text": "hi", "emoji": cell}).answer == "😀🌊"


# ---- sql


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
        (
            "UPDATE pet SET age = 6 WHERE age = 5",
            "UPDATE pet SET age = age + 1 WHERE age = 5",
            "UPDATE pet SET age = 6",
        ),
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
    calls = ", ".join(
        f"instr(a, b || '{number}')" for number in range(190)
    )  # 7 s: SQLite looks at the clock in between
    killed = f"SELECT {calls} FROM (SELECT {long} || 'x' AS a, {half} || 'y' AS b FROM pet LIMIT 1)"
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


# ---- columns


def test_columns_fills_the_template() -> None:
    template = {"system": "You write {tone} text.", "prompt": "{{{name}}} in {city}?", "answer": "{text}"}
    task = task_of(recipe("columns", template=template))
    assert task.columns == ("tone", "name", "city", "text")
    conversation = made(task, {"tone": "dry", "name": "A {city}", "city": 7, "text": "ok", "extra": "-"})
    assert [m.text for m in conversation.messages] == ["You write dry text.", "{A {city}} in 7?", "ok"]
    assert conversation.key == "{A {city}} in 7?"


@pytest.mark.parametrize("wording", ["{a} and {", "} {a}", '{"k": {a}}'])
def test_a_single_brace_is_refused(wording: str) -> None:
    with pytest.raises(RecipeError, match=r"template\.prompt: a single '[{}]' at character"):
        task_of(recipe("columns", template={"prompt": wording}))


def test_an_answer_without_a_column_is_refused() -> None:
    with pytest.raises(RecipeError, match="names no column"):
        task_of(recipe("columns", template={"answer": "yes"}))


@given(st.text(alphabet="ab{}.!:_", max_size=20), st.text(max_size=20))
def test_filling_gives_doubled_braces_back_and_reads_columns_only(text: str, value: str) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert fill_template(doubled + "{x.__class__!r:>9}", {"x.__class__!r:>9": value}) == text + value.strip()


def test_columns_leaves_out_a_system_message_that_says_nothing() -> None:
    task = task_of(recipe("columns", template={"system": "{tone}", "prompt": "{name}", "answer": "{text}"}))
    for tone in ("", None, "  "):
        conversation = made(task, {"tone": tone, "name": "a", "text": "b"})
        assert [m.role for m in conversation.messages] == ["user", "assistant"]


def test_columns_scores() -> None:
    task = task_of(recipe("columns"))
    conversation = made(task, {"prompt": "Capital?", "answer": "New Delhi"})
    scores = task.score(conversation, "new delhi")
    assert scores["exact"] == scores["token_f1"] == 1.0
    assert scores["cer_similarity"] == pytest.approx(1 - 2 / 9)
    assert task.score(conversation, "x" * 200)["cer_similarity"] == 0.0


def test_columns_refuses_an_empty_answer() -> None:
    assert refused(task_of(recipe("columns")), {"prompt": "?", "answer": "  "}) == "empty answer"


# ---- messages


def test_messages_finds_the_layout_or_takes_the_sources() -> None:
    row = {"instruction": "Add.", "input": "1 + 1", "output": "2", "prompt": "Subtract.", "completion": "0"}
    assert made(task_of(recipe("messages")), row).key == "Add.\n1 + 1"
    assert made(task_of(recipe("messages"), "prompt_completion"), row).key == "Subtract."


def test_the_key_is_all_the_user_says_and_the_last_answer_is_scored() -> None:
    turns = [("human", "hi"), ("gpt", "hello"), ("human", "and you?"), ("gpt", "fine")]
    task = task_of(recipe("messages"))
    conversation = made(task, {"conversations": [{"from": name, "value": value} for name, value in turns]})
    assert conversation.key == "hi\nand you?"
    assert task.score(conversation, "fine") == {"exact": 1.0, "chrf": 1.0}
    assert task.score(conversation, "hello")["exact"] == 0.0


def test_every_row_has_its_own_layout() -> None:
    """Files of several layouts in a folder, and rows of several in a file."""
    task = task_of(recipe("messages"))
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    rows = [
        ("a.jsonl:1", {"messages": turns}),
        ("a.jsonl:2", {"messages": None, "prompt": "hi", "completion": "ho"}),
        ("b/b.json[1]", {"instruction": "hi", "output": "ho"}),
        ("c.csv:2", {"query": "hi", "response": "ho", "messages": ""}),
    ]
    for where, row in rows:
        assert [m.text for m in task.conversation(row, where).messages] == ["hi", "ho"]
    with pytest.raises(RowError, match="no known layout has the columns left") as caught:
        task.conversation({"left": 1}, "c.csv:3")
    assert caught.value.reason == "no layout"
    with pytest.raises(RowError, match=r"prepare\.ignore") as caught:
        task.conversation({"prompt": "hi", "completion": "ho", "rejected": "no"}, "c.csv:4")
    assert caught.value.reason == "preference data"
    with pytest.raises(DataError, match=r"^d\.jsonl:1: no known layout"):
        task.conversation({"left": 1}, "d.jsonl:1")


def test_images_may_be_text_in_a_cell() -> None:
    row = {"question": "Which?", "output": "B"}
    for cell in ('["a.png", "b.png"]', "['a.png', 'b.png']", ["a.png", "b.png"]):
        images = made(task_of(recipe("multi_image")), {**row, "images": cell}).images
        assert [part.image for part in images] == ["a.png", "b.png"]
    assert [part.image for part in made(task_of(recipe("multi_image")), {**row, "images": "[1].png"}).images] == [
        "[1].png"
    ]


def test_a_row_of_no_known_layout_says_where() -> None:
    with pytest.raises(DataError, match=r"^t\.csv:2: "):
        made(task_of(recipe("messages")), {"left": 1, "right": 2})
