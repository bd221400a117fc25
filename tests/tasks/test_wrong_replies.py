"""Every gold answer gets full marks and every wrong one less; what data cannot tell is not claimed."""

from __future__ import annotations

from typing import Any

import pytest

from gemtune.tasks import TASKS, counted_scores, doubtful_scores, metric_of, task_of
from tasks.sql.queries import PETS, ROWS
from tasks.task_rows import recipe

Row = dict[str, Any]

SQL: dict[str, tuple[str, ...]] = {  # right query -> wrong ones
    "SELECT name FROM pet WHERE age > 4": (
        "SELECT name FROM pet",
        "SELECT name FROM pet WHERE age >= 4",
        "SELECT name FROM pet WHERE age < 4",
        "SELECT name FROM pet WHERE id > 4",
        "SELECT name FROM pet WHERE age IN (5, 9)",
        "SELECT kind FROM pet WHERE age > 4",
        "SELECT name, age FROM pet WHERE age > 4",
        "SELECT name FROM pet WHERE age > 4 AND kind = 'cat'",
        "SELECT 'Rex' UNION ALL SELECT 'Tom'",
        "SELECT name FROM pet WHERE age > 4; DROP TABLE pet",
        "SELECT nme FROM pet WHERE age > 4",
        "SELEC name",
        "The pets are Rex and Tom.",
        "",
    ),
    "SELECT MAX(age) FROM pet": (
        "SELECT MIN(age) FROM pet",
        "SELECT 9",
        "SELECT MAX(id) FROM pet",
        "SELECT age FROM pet",
    ),
    "SELECT kind, COUNT(*) FROM pet GROUP BY kind": (
        "SELECT kind, COUNT(*) FROM pet",
        "SELECT kind, 2 FROM pet GROUP BY kind",
        "SELECT kind, SUM(age) FROM pet GROUP BY kind",
        "SELECT DISTINCT kind, COUNT(*) OVER () FROM pet",
    ),
    "SELECT name FROM pet ORDER BY age DESC LIMIT 1": (
        "SELECT name FROM pet ORDER BY age LIMIT 1",
        "SELECT name FROM pet ORDER BY age DESC LIMIT 2",
        "SELECT name FROM pet ORDER BY name DESC LIMIT 1",
        "SELECT MAX(name) FROM pet",
        "SELECT 'Tom'",
    ),
    "SELECT pet.name FROM pet JOIN owner ON pet.owner_id = owner.id WHERE owner.city = 'Rome'": (
        "SELECT name FROM pet",
        "SELECT pet.name FROM pet JOIN owner ON pet.id = owner.id WHERE owner.city = 'Rome'",
        "SELECT name FROM pet WHERE owner_id = 1",
        "SELECT pet.name FROM pet, owner WHERE owner.city = 'Rome'",
        "SELECT pet.name FROM pet JOIN owner ON pet.owner_id = owner.id WHERE owner.city <> 'Oslo'",
    ),
    "SELECT name FROM pet WHERE age > 20": (  # nobody is: every query that finds nothing agrees on the row's own data
        "SELECT name FROM pet WHERE age > 30",
        "SELECT name FROM pet WHERE 0",
        "SELECT kind FROM pet WHERE age > 20",
    ),
    "UPDATE pet SET age = 10 WHERE kind = 'cat'": (
        "UPDATE pet SET age = 10",
        "UPDATE pet SET age = 10 WHERE kind = 'dog'",
        "UPDATE pet SET age = 11 WHERE kind = 'cat'",
        "SELECT 1",
    ),
    "DELETE FROM pet WHERE age > 4": ("DELETE FROM pet", "DELETE FROM pet WHERE age >= 4", "SELECT name FROM pet"),
    "INSERT INTO owner VALUES (9, 'Bonn')": ("INSERT INTO owner VALUES (9, 'Rome')", "SELECT 1", "DELETE FROM owner"),
}
FULL_NAMES = "CREATE TABLE p (a NVARCHAR(9), b NVARCHAR(9)); INSERT INTO p VALUES (N'x', N'y'), (N'v', N'w');"

CASES: list[tuple[str, Row, tuple[str, ...]]] = [
    ("emoji", {"text": "beach", "emoji": "🏖️🌊"}, ("🏖️", "🏖️🌊☀️", "🌊🌊", "🐘", "Sure! 🏖️🌊", "beach", "", "🏖️🌊 1")),
    ("emoji", {"text": "ok", "emoji": "👍🏽"}, ("👍", "👍🏿", "👎🏽", "👍🏽👍🏽", ":thumbsup:")),
    ("emoji", {"text": "flag", "emoji": "🇪🇬"}, ("🇪🇸", "🇪", "EG", "🇪🇬🇪🇬")),
    (
        "product",
        {"name": "Red mug", "category": "Kitchen", "image": "a.png", "description": "A red mug of stoneware."},
        ("A red mug.", "A blue mug of stoneware.", "", "mug " * 60, "Stoneware, a mug of red."),
    ),
    ("columns", {"prompt": "Capital?", "answer": "New Delhi"}, ("Delhi", "New Delhi!", "Delhi New", "", "New York")),
    ("columns", {"prompt": "React", "answer": "👍"}, ("👎", "", "ok")),
    (
        "messages",
        {"prompt": "2 + 2", "completion": "It is 4."},
        ("It is 5.", "It is not 4.", "4", "", "It is 4. It is 4.", "4. is It", "It 4. is"),
    ),
    ("messages", {"prompt": "Language?", "completion": "C++"}, ("C", "C#", "c ++")),
    ("messages", {"prompt": "React", "completion": "👍"}, ("👎", "", "?")),
    (
        "messages",
        {"prompt": "Who won?", "completion": "The dog bit the man"},  # the same words say the contrary
        ("The man bit the dog", "the dog the man bit", "The dog bit the man not", "The dog bit a man"),
    ),
    ("messages", {"prompt": "من؟", "completion": "سبق علي محمدا"}, ("سبق محمدا علي", "محمدا سبق علي")),
    ("messages", {"prompt": "誰？", "completion": "犬が人を噛んだ"}, ("人が犬を噛んだ", "犬を人が噛んだ")),
    (
        "multi_image",
        {"question": "Which?", "input_image_path": ["a.png"], "output": "B"},
        (
            "A",
            "A or B",
            "B, C",
            "not B",
            "It isn't B",
            "Neither A nor B",
            "b",
            "",
            "The second one",
            "A, because B is blue",
        ),
    ),
    (
        "multi_image",
        {"question": "What?", "input_image_path": ["a.png"], "output": "A red cup"},
        ("A", "A cup", "", "red cup A"),
    ),
    (
        "documents",
        {"image": "a.png", "prompt": "Read.", "answer": "# إشعار\n\nيُدفع الإيجار في ١٢ مارس."},
        ("", "{}", "# إشعار", "# إشعار\n\nيُدفع الإيجار في ١٣ مارس.", "في مارس ١٢ الإيجار يُدفع إشعار"),
    ),
    (
        "documents",
        {"image": "a.png", "prompt": "Read.", "task": "invoice", "answer": '{"sum": 12, "paid": false}'},
        ("", "{}", '{"sum": 12}', '{"sum": 12, "paid": true}', '{"sum": 12, "paid": false, "by": "Ali"}', "12"),
    ),
    *(("sql", {"question": "?", "schema": PETS, "inserts": ROWS, "sql": gold}, wrong) for gold, wrong in SQL.items()),
    *(("sql", {"question": "?", "schema": PETS, "sql": gold}, wrong) for gold, wrong in SQL.items()),
    (
        "sql",
        {"question": "?", "schema": FULL_NAMES, "sql": "SELECT MAX(a + b) FROM p"},
        ("SELECT MIN(a + b) FROM p", "SELECT 0"),
    ),
    (
        "sql",
        {
            "question": "?",
            "schema": "CREATE TABLE a (id SERIAL PRIMARY KEY, n TEXT); CREATE TABLE b (a_id INT, m TEXT);"
            "INSERT INTO a (n) VALUES ('x'), ('y'), ('z'); INSERT INTO b VALUES (1, 'p'), (2, 'q'), (2, 'r');",
            "sql": "SELECT a.n, b.m FROM a JOIN b ON b.a_id = a.id",
        },
        ("SELECT a.n, b.m FROM a JOIN b ON b.a_id = a.id WHERE 0", "SELECT n, n FROM a", "SELECT a.n, b.m FROM a, b"),
    ),
]


@pytest.mark.parametrize(("name", "row", "wrong"), CASES, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(CASES)])
def test_a_right_answer_gets_all_and_a_wrong_one_less(name: str, row: Row, wrong: tuple[str, ...]) -> None:
    task = task_of(recipe(name))
    conversation = task.conversation(row, "t.csv:2")
    own = task.score(conversation, conversation.answer)
    shown = {score: metric_of(task, score) for score in own if metric_of(task, score).reported}
    less = {score: own[score] for score, metric in shown.items() if own[score] != metric.higher_is_better}
    assert less == doubtful_scores(task, own)
    assert own[task.metric] == 1
    for reply in wrong:
        assert counted_scores(task, conversation, reply)[task.metric] < 1, reply


def test_every_task_has_wrong_replies() -> None:
    assert {name for name, *_ in CASES} == set(TASKS)


def test_a_score_that_the_rows_own_answer_lacks_is_not_counted() -> None:
    task = task_of(recipe("product"))
    row = {"name": "Red mug", "category": "Kitchen", "image": "a.png", "description": "Fine stoneware. " * 20}
    conversation = task.conversation(row, "t.csv:2")
    assert set(doubtful_scores(task, task.score(conversation, conversation.answer))) == {
        "fits_mobile",
        "names_it",
        "no_repetition",
    }
    assert set(counted_scores(task, conversation, "Red mug")) == {"chrf", "rouge_l"}
