"""Several images: a question about them, and the choice that answers it."""

from gemtune.tasks import task_of
from tasks.task_rows import made, recipe


def test_images_may_be_text_in_a_cell() -> None:
    row = {"question": "Which?", "output": "B"}
    for cell in ('["a.png", "b.png"]', "['a.png', 'b.png']", ["a.png", "b.png"]):
        images = made(task_of(recipe("multi_image")), {**row, "images": cell}).images
        assert [part.image for part in images] == ["a.png", "b.png"]
    assert [part.image for part in made(task_of(recipe("multi_image")), {**row, "images": "[1].png"}).images] == [
        "[1].png"
    ]
