"""Several images: a question about them, and the choice that answers it."""

import pytest

from gemtune.tasks import task_of
from tasks.task_rows import made, recipe, refused


def test_images_may_be_text_in_a_cell() -> None:
    row = {"question": "Which?", "output": "B"}
    for cell in ('["a.png", "b.png"]', "['a.png', 'b.png']", ["a.png", "b.png"]):
        images = made(task_of(recipe("multi_image")), {**row, "images": cell}).images
        assert [part.image for part in images] == ["a.png", "b.png"]
    assert [part.image for part in made(task_of(recipe("multi_image")), {**row, "images": "[1].png"}).images] == [
        "[1].png"
    ]


@pytest.mark.parametrize(
    ("gold", "reply", "scores"),
    [
        ("B", "Answer: (B), the blue one", {"accuracy": 1.0, "chose": 1.0}),
        ("B", "A", {"accuracy": 0.0, "chose": 1.0}),
        ("B", "A or B", {"accuracy": 0.0, "chose": 0.0}),
        ("the blue cup", "the blue cup", {"accuracy": 1.0, "token_f1": 1.0}),
        ("the blue cup", "a blue plate", {"accuracy": 0.0, "token_f1": pytest.approx(1 / 3)}),
    ],
)
def test_a_letter_is_scored_as_a_choice_and_words_as_words(gold: str, reply: str, scores: dict[str, float]) -> None:
    task = task_of(recipe("multi_image"))
    row = {"question": "Which?", "output": gold, "images": ["a.png", "b.png"]}
    assert task.score(made(task, row), reply) == scores


def test_a_row_without_images_is_refused() -> None:
    assert refused(task_of(recipe("multi_image")), {"question": "Which?", "output": "B"}) == "missing image"
