"""The rows whose own answer does not get full marks are named, trained or not, and no score is claimed for them."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from emoji import EMOJI_DATA
from PIL import Image

import command
from gemtune.errors import RowError
from gemtune.files import read_jsonl
from gemtune.preparation.prepare import prepare
from gemtune.recipe.schema import Recipe
from gemtune.runs import PARTS, Run
from gemtune.tasks import Task, task_of

Row = dict[str, Any]
MINE = """
from gemtune.tasks import Task
from gemtune.tasks.columns import Columns

class Mine(Columns):
    def score(self, conversation, reply):
        return {"exact": float(reply == conversation.answer), "short": float(len(reply) < 20)}
"""


def picture() -> str:
    data = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


MUG = {"name": "Red mug", "category": "Kitchen", "image": picture()}
PET = "CREATE TABLE pet (name TEXT, age INT)"
# task -> a good row, a row whose own answer is not right by some scores, and those scores
GOLDS: dict[str, tuple[Row, Row, set[str]]] = {
    "MINE": ({"prompt": "q", "answer": "a"}, {"prompt": "r", "answer": "a" * 30}, {"short"}),
    "product": (
        {**MUG, "description": "A red mug of stoneware."},
        {**MUG, "name": "Blue jug", "description": "Fine stoneware. " * 20},
        {"fits_mobile", "names_it", "no_repetition"},
    ),
    "sql": (
        {"question": "Who?", "schema": PET, "sql": "SELECT name FROM pet"},
        {"question": "How old?", "schema": PET, "sql": "SELECT years FROM pet"},
        {"runs"},
    ),
}


@pytest.mark.parametrize("task", GOLDS)
def test_a_wrong_answer_is_named_in_every_part_and_no_score_is_claimed(task: str, tmp_path: Path) -> None:
    good, wrong, scores = GOLDS[task]
    (tmp_path / "mine.py").write_text(MINE)
    asked = "question" if "question" in good else "prompt" if "prompt" in good else "category"
    source = [{**good, asked: f"{good[asked]} {word}"} for word in ("amber", "birch", "cedar")]
    data = []
    for part in PARTS:
        rows = [*source, wrong]
        path = tmp_path / f"{part}.jsonl"
        path.write_text("".join(json.dumps({**row, asked: f"{row[asked]} {part}"}) + "\n" for row in rows))
        data.append({"source": str(path), "part": part})
    name = f"{tmp_path / 'mine.py'}:Mine" if task == "MINE" else task
    value = {"name": "t", "task": name, "runs_dir": str(tmp_path), "data": data, "prepare": {"dedupe": "none"}}
    recipe = Recipe.model_validate({**value, "split": {"by": asked}})
    run = Run.of(recipe)
    manifest = prepare(recipe, run)
    trained = {line["score"]: line for line in read_jsonl(run.unscored_file) if line["part"] == "train"}
    assert manifest.kept == dict.fromkeys(PARTS, 4)
    assert set(trained) == scores
    assert {line["where"] for line in trained.values()} == {"train.jsonl:4"}
    assert all(line["reason"] for line in trained.values())
    for score in scores:  # the right rows of val and test count, and they alone
        assert manifest.scored[score] == 6


def test_prepare_says_which_answers_of_train_are_doubtful(
    write_recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"question": f"Who is number {n}?", "schema": PET, "sql": f"SELECT name FROM pet LIMIT {n}"} for n in range(20)
    ]
    rows += [{"question": "How old are they?", "schema": PET, "sql": "SELECT years FROM pet"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = write_recipe(task="sql", data={"source": str(tmp_path / "t.jsonl")}, split={"val": 0, "test": 0})
    answer = command.gemtune(capfd, "prepare", recipe)
    assert answer.code == 0, answer.err
    assert (
        "1 of train whose own answer does not get full marks in runs: no such column: years (t.jsonl:21)" in answer.out
    )


def test_every_emoji_that_is_taken_gets_full_marks_so_none_is_asked_again() -> None:
    task = task_of(Recipe.model_validate({"name": "t", "task": "emoji", "data": [{"source": "t.csv"}]}))
    every, draw, taken = list(EMOJI_DATA), random.Random(1), 0
    for answer in [*every, *("".join(draw.choices(every, k=3)) for _ in range(2000))]:
        try:
            conversation = task.conversation({"text": "a", "emoji": answer}, "t.csv:2")
        except RowError:
            continue
        taken += 1
        assert Task.doubts(task, conversation) == {}, answer
    assert taken > 5000
