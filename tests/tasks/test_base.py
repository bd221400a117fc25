"""The table of tasks, and the base class: a task of the user's own, with its options."""

from pathlib import Path
from typing import Any

import pytest

from gemtune.errors import RecipeError
from gemtune.recipe.schema import Sql
from gemtune.tasks import TASKS, Task, metric_of, task_of
from tasks.task_rows import INSERTS, SCHEMA, made, recipe


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="'sqll'; did you mean 'sql'"):
        task_of(recipe("sqll"))
    with pytest.raises(RecipeError, match="wanted emoji, sql, product, multi_image, documents, columns, messages"):
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
        "documents": {"image": "a.png", "prompt": "Read.", "answer": "a page that says something"},
    }
    task = task_of(recipe(name))
    conversation = made(task, rows[name])
    scores = task.score(conversation, conversation.answer)
    assert task.metric in scores
    shown = {name: metric_of(task, name) for name in scores if metric_of(task, name).reported}
    assert {scores[name] == float(metric.higher_is_better) for name, metric in shown.items()} == {True}
    bad = task.score(conversation, "no idea")
    assert all(0 <= bad[name] <= 1 for name in shown) and bad[task.metric] < 1


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
