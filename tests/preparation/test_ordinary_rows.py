"""Rows as people have them: what is kept of a file, and what its first row teaches."""

# ruff: noqa: E501 (a case is one line)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemtune.data.conversation import read_conversations
from gemtune.preparation.prepare import prepare
from gemtune.recipe.schema import Recipe
from gemtune.runs import PARTS, Run

Row = dict[str, Any]


def chat(*turns: tuple[str, object], **more: Any) -> Row:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def many(row: Row, count: int = 6) -> list[Row]:
    """The row again and again, with # as its number."""
    return [json.loads(json.dumps(row, ensure_ascii=False).replace("#", str(n))) for n in range(count)]


PETS = ["CREATE TABLE pet (name TEXT)", "INSERT INTO pet VALUES ('Mia'), ('Rex')"]
SQL = {"question": "Who, #?", "schema": "CREATE TABLE pet (name TEXT)", "sql": "SELECT name FROM pet"}
EMOJI = {"text": "good morning #", "emoji": "☕🌅"}
# what it is -> (task, file, rows or text, keys of the source, rows that are kept, the first row's texts)
FILES: dict[str, tuple[str, str, list[Row] | str, Row, int, list[str]]] = {
    "labels that are numbers": ("messages", "x.jsonl", many({"prompt": "q #", "completion": 1}), {}, 6, ["q 0", "1"]),
    "a class as the answer": ("messages", "x.jsonl", many({"text": "q #", "label": 0}), {"columns": {"prompt": "text", "completion": "label"}}, 6, ["q 0", "0"]),
    "no number at all": ("messages", "x.jsonl", '{"prompt": "q", "completion": NaN}\n{"prompt": "r", "completion": "a"}\n', {}, 1, ["r", "a"]),
    "Alpaca's word for no input": ("messages", "x.jsonl", many({"instruction": "Say #", "input": "<noinput>", "output": "a"}), {}, 6, ["Say 0", "a"]),
    "other names of the assistant": ("messages", "x.jsonl", [chat(("User", "q 0"), ("AI", "a")), chat(("human", "q 1"), ("bot", "b"))], {}, 2, ["q 0", "a"]),
    "parts of OpenAI's responses": ("messages", "x.jsonl", many(chat(("user", [{"type": "input_text", "text": "q #"}]), ("assistant", [{"type": "output_text", "text": "a"}]))), {}, 6, ["q 0", "a"]),
    "an export with nulls": ("messages", "x.jsonl", many({"messages": [{"role": "user", "content": "q #", "name": "bob"}, {"role": "assistant", "content": "a", "tool_calls": None, "refusal": None}], "tools": []}), {}, 6, ["q 0", "a"]),
    "a system message in a column": ("messages", "x.jsonl", many({"system_prompt": "Be kind.", "question": "q #", "response": "a"}), {"columns": {"prompt": "question", "completion": "response"}}, 6, ["Be kind.", "q 0", "a"]),
    "what follows the last answer that is trained": ("messages", "x.jsonl", many({"messages": [{"role": "user", "content": "q #"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b", "train": False}]}), {}, 6, ["q 0", "a"]),
    "SQL in a fence": ("sql", "x.jsonl", many({**SQL, "sql": "```sql\nSELECT name FROM pet;\n```"}), {}, 6, ["SELECT name FROM pet"]),
    "a schema that is a list": ("sql", "x.jsonl", many({**SQL, "schema": PETS}), {}, 6, ["SELECT name FROM pet"]),
    "one question of many databases": ("sql", "x.jsonl", many({**SQL, "question": "Who?", "schema": "CREATE TABLE pet# (name TEXT)", "sql": "SELECT name FROM pet#"}), {}, 6, ["SELECT name FROM pet0"]),
    "signs that nobody sees": ("emoji", "x.jsonl", many({**EMOJI, "emoji": "☕\u200b🌅\ufeff"}), {}, 6, ["☕🌅"]),
    "a list of emoji as text": ("emoji", "x.jsonl", many({**EMOJI, "emoji": "['☕', '🌅']"}), {}, 6, ["☕🌅"]),
    "a width of Excel's": ("emoji", "x.csv", "text,emoji\ngood morning,☕🌅,,\ngood night,🌙\n", {}, 2, ["good morning", "☕🌅"]),
    "carriage returns": ("emoji", "x.csv", "text,emoji\rgood morning,☕🌅\rgood night,🌙\r", {}, 2, ["good morning", "☕🌅"]),
    "blank lines": ("emoji", "x.csv", "\n\ntext,emoji\n\ngood morning,☕🌅\n\n\ngood night,🌙\n", {}, 2, ["good morning", "☕🌅"]),
    "decimal commas": ("columns", "x.csv", "prompt;answer\nhow heavy;1,5 kg\nhow long;2,5 m\n", {}, 2, ["how heavy", "1,5 kg"]),
    "a translation": ("columns", "x.jsonl", many({"translation": {"en": "hello #", "fr": "salut #"}}), {"columns": {"prompt": "translation.en", "answer": "translation.fr"}}, 6, ["hello 0", "salut 0"]),
    "SQuAD's answers": ("columns", "x.jsonl", many({"question": "q #", "answers": {"text": ["a"], "answer_start": [1]}}), {"columns": {"prompt": "question", "answer": "answers.text.0"}}, 6, ["q 0", "a"]),
    "numbers alone tell the rows apart": ("columns", "x.jsonl", many({"prompt": "The battery lasts # hours on a full charge", "answer": "good"}, 40), {}, 40, ["The battery lasts 0 hours on a full charge", "good"]),
    "one letter of Chinese": ("columns", "x.jsonl", [{"prompt": f"我今天很喜欢吃{fruit}，你觉得呢", "answer": "好"} for fruit in "苹葡橙梨桃李杏枣"], {}, 8, ["我今天很喜欢吃苹，你觉得呢", "好"]),
    "one operator": ("columns", "x.jsonl", [{"prompt": f"What does `x {sign} y` do in C?", "answer": "an expression"} for sign in "+-*/%&|^"], {}, 8, ["What does `x + y` do in C?", "an expression"]),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_what_is_kept_and_taught(what: str, tmp_path: Path) -> None:
    task, name, content, keys, kept, texts = FILES[what]
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    data = [{"source": str(tmp_path / name), **keys}]
    recipe = Recipe.model_validate(
        {"name": "t", "task": task, "runs_dir": str(tmp_path), "data": data, "split": {"val": 0, "test": 0}}
    )
    run = Run.of(recipe)
    prepare(recipe, run)
    rows = [conversation for part in PARTS for conversation in read_conversations(run.part(part))]
    assert len(rows) == kept
    first = min(rows, key=lambda row: (len(row.where), row.where))
    assert [message.text for message in first.messages][-len(texts) :] == texts
