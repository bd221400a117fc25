"""Products: what of a row is asked, and what each score sees in a description."""

from __future__ import annotations

from typing import Any

import pytest

from gemtune.tasks import task_of
from gemtune.tasks.product import MOBILE
from tasks.task_rows import made, recipe, refused

ROW = {"name": "Red mug", "category": "Kitchen", "image": "a.png", "description": "A red mug, glazed by hand."}


def scores(reply: str, **columns: Any) -> dict[str, float]:
    task = task_of(recipe("product"))
    return task.score(made(task, {**ROW, **columns}), reply)


def test_the_question_is_the_photo_with_name_and_category() -> None:
    conversation = made(task_of(recipe("product")), ROW)
    asked = conversation.messages[-2]
    assert [part.image for part in asked.parts if part.image] == ["a.png"]
    assert "Red mug" in asked.text and "Kitchen" in asked.text and ROW["description"] not in asked.text
    assert conversation.group == "Red mug", "all rows of a product are on one side of the split"


@pytest.mark.parametrize(
    ("reply", "score", "value"),
    [
        ("A red mug.", "names_it", 1.0),
        ("A red cup.", "names_it", 0.5),
        ("Tasteful.", "names_it", 0.0),
        ("x" * MOBILE, "fits_mobile", 1.0),
        ("x" * (MOBILE + 1), "fits_mobile", 0.0),
        ("", "fits_mobile", 0.0),
        ("A red mug is a red mug is a red mug.", "no_repetition", 0.4),
        ("A red mug.", "no_repetition", 1.0),
    ],
)
def test_each_score_sees_one_thing(reply: str, score: str, value: float) -> None:
    assert scores(reply)[score] == value


@pytest.mark.parametrize("attributes", ["hand glazed; blue", ["hand glazed", "blue"]])
def test_attributes_are_a_list_or_a_cell_and_scored_where_there_are_any(attributes: Any) -> None:
    assert scores("Glazed by hand, in red.", attributes=attributes)["attribute_recall"] == 0.5
    assert "attribute_recall" not in scores("Glazed by hand, in red.", attributes="")


@pytest.mark.parametrize("column", ["image", "description"])
def test_a_row_that_lacks_a_column_is_refused(column: str) -> None:
    assert refused(task_of(recipe("product")), {**ROW, column: ""})
