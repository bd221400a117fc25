"""What running a query proves is claimed where the rows can tell a right one from a wrong one."""

from __future__ import annotations

import pytest

from gemtune.tasks import task_of
from tasks.sql.queries import PETS, ROWS
from tasks.task_rows import recipe


@pytest.mark.parametrize(
    ("schema", "gold", "why"),
    [
        (f"{PETS} {ROWS}", "SELECT name FROM pet", ""),
        (f"{PETS} {ROWS}", "SELECT name FROM pet WHERE age > 20", ""),  # more rows of the same kind tell
        (f"{PETS} {ROWS}", "SELECT MAX(name + kind) FROM pet", "it finds nothing"),
        (f"{PETS} {ROWS}", "SELECT name FROM pet WHERE age > 4 AND 1 < 2", "does not tell it from"),
        (f"{PETS} {ROWS}", "SELECT name FROM pet WHERE 1 = 0", "it finds nothing"),
        (f"{PETS} {ROWS}", "SELECT name, RANDOM() FROM pet", "something else each time"),
        (f"{PETS} {ROWS}", "UPDATE pet SET age = 3 WHERE name = 'Nobody'", ""),
        (f"{PETS} {ROWS}", "DELETE FROM pet WHERE 0", "it finds nothing"),
        (PETS, "SELECT name FROM pet", "it has no data"),
        (
            f"{PETS} INSERT INTO owner VALUES (1, 'Rome');",
            "SELECT name FROM pet WHERE age > 4",
            "it finds nothing",
        ),
    ],
)
def test_running_is_claimed_where_the_data_can_tell(schema: str, gold: str, why: str) -> None:
    task = task_of(recipe("sql"))
    conversation = task.conversation({"question": "?", "schema": schema, "sql": gold}, "t.csv:2")
    assert ("execution" in task.score(conversation, gold)) is (why == "")
    assert why in task.unscored(conversation).get("execution", "")
