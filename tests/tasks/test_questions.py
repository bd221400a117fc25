"""Rows that only ask: no column of the answer is needed, and what it holds does not matter."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gemtune.data.chat_layouts import LAYOUTS
from gemtune.data.conversation import Conversation
from gemtune.errors import DataError, RowError
from gemtune.recipe.schema import Recipe
from gemtune.tasks import TASKS, Task, task_of

SCHEMA = "CREATE TABLE pet (name TEXT, age INT)"
ANSWERED: dict[str, dict[str, Any]] = {  # of every task
    "emoji": {"text": "hi", "emoji": "👋"},
    "sql": {"question": "How many?", "schema": SCHEMA, "sql": "SELECT count(*) FROM pet"},
    "product": {"name": "mug", "category": "c", "image": "a.png", "description": "A mug", "attributes": "red"},
    "multi_image": {"question": "Which?", "images": ["a.png", "b.png"], "output": "B"},
    "documents": {"image": "a.png", "prompt": "Read.", "task": "fields", "answer": "{}"},
    "columns": {"tone": "dry", "name": "a cup", "text": "It holds tea."},
}
TEMPLATE = {"system": "You write {tone} text.", "prompt": "About {name}", "answer": "{name}: {text}"}
ASK, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
ROWS: dict[str, dict[str, Any]] = {  # of every layout: a row that is answered
    "messages": {"messages": [ASK, ANSWER]},
    "messages as text": {"messages": json.dumps([ASK, ANSWER])},
    "sharegpt": {"conversations": [{"from": "human", "value": "hi"}, {"from": "GPT", "value": "ho"}]},
    "vertex": {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": [{"text": "ho"}]}],
    },
    "trl": {"prompt": [ASK], "completion": [ANSWER]},
    "trl as text": {"prompt": json.dumps([ASK]), "completion": json.dumps([ANSWER])},
    **{
        " + ".join(columns): dict(zip(columns, ("hi", "ho"), strict=True))
        for name in ("alpaca", "prompt_completion")
        for columns in LAYOUTS[name].columns
    },
}
LISTS = ("messages", "conversations", "contents")


def made(name: str, **keys: Any) -> Task:
    template = {"template": TEMPLATE} if name == "columns" else {}
    return task_of(Recipe(name="t", task=name, data=[{"source": "t.csv"}], **template, **keys))  # type: ignore[list-item]


def asked(conversation: Conversation) -> list[tuple[str, Any]]:
    return [(message.role, message.parts) for message in conversation.messages[:-1]]


def without_answer(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a layout without its answer: the last message, or the columns of the answer."""
    cut = {name: json.loads(row[name]) if isinstance(row[name], str) else row[name] for name in LISTS if name in row}
    kept = {name: value for name, value in row.items() if name not in made("messages").unanswered}
    turns = {name: turns[:-1] for name, turns in cut.items()}
    return kept | {name: json.dumps(value) if isinstance(row[name], str) else value for name, value in turns.items()}


def test_every_task_and_layout_is_asked_here() -> None:
    assert {*ANSWERED, "messages"} == set(TASKS)
    columns = {columns for layout in LAYOUTS.values() for columns in layout.columns}
    assert columns <= {tuple(row) for row in ROWS.values()}


@pytest.mark.parametrize("name", ANSWERED)
def test_a_question_is_the_rows_question(name: str) -> None:
    task, row = made(name), ANSWERED[name]
    question = asked(task.conversation(row, "t.csv:2"))
    bare = {column: value for column, value in row.items() if column not in task.unanswered}
    assert len(bare) == len(row) - 1
    for answer in ({}, dict.fromkeys(task.unanswered, None), {column: ["no", 1] for column in task.unanswered}):
        conversation = task.question({**bare, **answer}, "t.csv:2")
        assert asked(conversation) == question and conversation.messages[-1].role == "assistant"


@pytest.mark.parametrize("what", ROWS)
def test_a_question_in_every_layout_is_the_rows_question(what: str) -> None:
    row = ROWS[what]
    question = asked(made("messages").conversation(row, "t.jsonl:1"))
    assert [(role, parts[0].text) for role, parts in question] == [("user", "hi")]
    for asking in (row, without_answer(row)):
        assert asked(made("messages").question(asking, "t.jsonl:1")) == question


@pytest.mark.parametrize("answer", ["", None, 5, [], [{"type": "refusal"}]])
def test_the_answer_of_a_question_may_be_anything(answer: Any) -> None:
    for row in ({"messages": [ASK, {"role": "assistant", "content": answer}]}, {"prompt": "hi", "response": answer}):
        assert [m.text for m in made("messages").question(row, "t.jsonl:1").messages] == ["hi", "?"]


def test_what_came_before_a_question_is_asked_too() -> None:
    row = {"query": "and now?", "history": [["hi", "ho"]], "system_prompt": "Be brief.", "context": "It rains."}
    messages = made("messages").question(row, "t.jsonl:1").messages
    assert [m.text for m in messages] == ["Be brief.", "hi", "ho", "and now?\nIt rains.", "?"]


def test_a_question_that_asks_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"t\.jsonl:1: no known layout has the columns answer; wanted messages or"):
        made("messages").question({"answer": "hi"}, "t.jsonl:1")
    for row in ({"messages": []}, {"prompt": " "}, {"messages": [{"role": "system", "content": "Be brief."}]}):
        with pytest.raises(RowError):
            made("messages").question(row, "t.jsonl:1")


def test_a_column_that_the_prompt_needs_is_not_made_up() -> None:
    task = made("columns")
    assert task.unanswered == {"text": "?"}
    recipe = Recipe(task="columns", data=["t.csv"], template={"prompt": "{name}", "answer": "{name} {text}"})  # type: ignore[list-item,arg-type]
    with pytest.raises(RowError, match=r"message 1 \(user\) is empty"):
        task_of(recipe).question({"text": "x"}, "t.csv:2")
