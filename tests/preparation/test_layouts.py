"""Rows of every layout from their files to the token table: what is kept, what is trained, and what is asked."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemtune.data.conversation import Conversation, read_conversations
from gemtune.errors import DataError
from gemtune.evaluation.evaluate import evaluation_rows
from gemtune.models.families import family_of
from gemtune.models.loading import load_tokenizer
from gemtune.preparation.prepare import prepare
from gemtune.recipe.schema import Recipe
from gemtune.rendering.renderer import Renderer
from gemtune.rendering.token_table import ExampleTable
from gemtune.rendering.tokenising import write_tables
from gemtune.runs import Run
from gemtune.tasks import task_of

WORDS = ("beach", "lamp", "river", "bread", "music", "winter", "city", "cat")


def say(*words: int) -> str:
    return " ".join(WORDS[word % len(WORDS)] for word in words)


def openai(number: int) -> dict[str, Any]:
    answers = [{"role": "Assistant", "content": f"no {number}", "weight": 0}, {"role": "assistant", "content": "yes"}]
    asked = [{"role": "user", "content": f"{say(number, number // 8)} {number}"}, {"role": "user", "content": "and?"}]
    turns = [{"role": "system", "content": ""}, asked[0], answers[0], asked[1], answers[1]]
    return {"messages": turns, "tools": [{"type": "function"}]}


def vertex(number: int) -> dict[str, Any]:
    turns = [("user", f"{say(number, number + 3)} v{number}"), ("model", "yes")]
    return {"contents": [{"role": role, "parts": [{"text": text}]} for role, text in turns]}


def alpaca(number: int) -> dict[str, Any]:
    question = f"{say(number + 1, number)} a{number}"
    return {"instruction": question, "output": "yes", "history": [[f"first {number}", "maybe"]]}


ROW_OF: dict[str, Callable[[int], dict[str, Any]]] = {"openai": openai, "vertex": vertex, "alpaca": alpaca}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of each layout, and a CSV whose cells are JSON text."""
    rows = tmp_path / "rows"
    rows.mkdir()
    for name, row_of in ROW_OF.items():
        (rows / f"{name}.jsonl").write_text("\n".join(json.dumps(row_of(number)) for number in range(20)))
    with (rows / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["conversations", "loss"])
        for number in range(20):
            turns = [{"from": "human", "value": f"{say(number, 5)} c{number}"}, {"from": "gpt", "value": "yes"}]
            writer.writerow([json.dumps(turns), "true" if number else "false"])
    return tmp_path


def prepared(folder: Path, source: str = "rows", **keys: Any) -> tuple[Recipe, Run]:
    keys = {"prepare": {"dedupe": "exact"}, "split": {"val": 0, "test": 10}, **keys}
    recipe = Recipe(
        name="t",
        task="messages",
        runs_dir=str(folder / "runs"),
        data=[{"source": str(folder / source)}],
        **keys,  # type: ignore[list-item]
    )
    run = Run.of(recipe)
    prepare(recipe, run)
    return recipe, run


def conversations(run: Run) -> list[Conversation]:
    return [c for part in ("train", "test") for c in read_conversations(run.part(part))]


def test_a_folder_of_layouts_is_one_source(folder: Path) -> None:
    _, run = prepared(folder)
    manifest = run.prepared_data()
    assert manifest.rows_read == 80 and manifest.dropped == {"not trained": 1}
    lengths = {c.where.split(".")[0]: len(c.messages) for c in conversations(run)}
    assert lengths == {"openai": 4, "vertex": 2, "alpaca": 4, "cells": 2}
    assert all(c.answer == "yes" for c in conversations(run))


@pytest.mark.parametrize("train_on", ["all", "last"])
def test_the_token_table_trains_what_the_rows_say(folder: Path, train_on: str, tiny_model: Path) -> None:
    recipe, run = prepared(folder, train={"train_on": train_on})
    tokenizer, family = load_tokenizer(tiny_model), family_of(tiny_model)
    renderer = Renderer(tokenizer, family, recipe.train.train_on)
    write_tables(run, lambda: renderer, family, task_of(recipe), recipe, "key")
    table, rows = ExampleTable(run.table("train")), list(read_conversations(run.part("train")))
    seen = set()
    for index, line in enumerate(table.lines[:].tolist()):
        example, row = table[index], rows[line]
        texts = tuple(tokenizer.decode(example.input_ids[a:b]) for a, b in example.spans)
        seen.add((row.where.split(".")[0], texts))
        assert ("and?" in tokenizer.decode(example.input_ids)) == row.where.startswith("openai")
    both = ("maybe<end_of_turn>", "yes<end_of_turn>") if train_on == "all" else ("yes<end_of_turn>",)
    one = ("yes<end_of_turn>",)
    assert seen == {("openai", one), ("vertex", one), ("cells", one), ("alpaca", both)}
    asked = evaluation_rows(run.part("test"), renderer, task_of(recipe), recipe, None)
    assert {c.answer for c in asked} == {"yes"} and len(asked) == 10


def test_the_moves_that_a_dropped_row_names_keep_it(tmp_path: Path) -> None:
    def rows() -> list[dict[str, Any]]:
        users = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
        return [
            {"messages": [*users, {"role": "assistant", "content": "c", "weight": 0.5}], "label": 0, "n": number}
            for number in range(12)
        ]

    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows())))
    said = []
    keys: dict[str, Any] = {"dedupe": "none"}
    for move in ({"ignore": ["label"]}, {"ignore": ["label", "weight"]}, {"merge_turns": True}):
        with pytest.raises(DataError) as caught:
            prepared(tmp_path, "rows.jsonl", prepare=keys, split={"val": 0, "test": 0})
        said.append(str(caught.value))
        keys |= move
    assert "prepare.ignore: [label]" in said[0] and "prepare.ignore: [weight]" in said[1]
    assert "prepare.merge_turns: true" in said[2]
    _, run = prepared(tmp_path, "rows.jsonl", prepare=keys, split={"val": 0, "test": 0})
    assert [[m.text for m in c.messages] for c in read_conversations(run.part("train"))] == [["a\nb", "c"]] * 12
