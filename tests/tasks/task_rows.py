"""A task of a recipe, and what it makes of a row."""

from typing import Any

import pytest

from gemtune.data.conversation import Conversation
from gemtune.errors import RowError
from gemtune.recipe.schema import Recipe
from gemtune.tasks import Task, task_of

SCHEMA = "CREATE TABLE pet (name TEXT, age INT);"


INSERTS = "INSERT INTO pet VALUES ('Mia', 3), ('Rex', 5), ('Tom', 5);"


def recipe(task: str, **sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "t", "task": task, "data": [{"source": "t.csv"}], **sections})


def task_at(engine: str, dialect: str) -> Task:
    """The task `sql` whose rows are of one dialect and are run by one engine."""
    return task_of(recipe("sql", sql={"engine": engine, "dialect": dialect}))


def made(task: Task, row: dict[str, Any]) -> Conversation:
    return task.conversation(row, "t.csv:2")


def refused(task: Task, row: dict[str, Any]) -> str:
    with pytest.raises(RowError) as caught:
        made(task, row)
    return caught.value.reason
