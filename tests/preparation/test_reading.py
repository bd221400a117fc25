"""The rows of a source: each a conversation or the reason why not, and a benchmark's test split is not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemtune.data.conversation import Conversation
from gemtune.data.sources import read_rows
from gemtune.errors import DataError, RowError
from gemtune.preparation.reading import Source, conversations_of, image_store, images_of, refuse_test_rows
from gemtune.recipe.schema import DataSource
from gemtune.runs import Run
from gemtune.tasks import task_of
from preparation.prepared_rows import write
from tasks.task_rows import recipe


def source_of(task: str, path: Path, run: Run, **keys: Any) -> Source:
    data = DataSource(source=str(path), **keys)
    return Source(data, task_of(recipe(task)), image_store(run, data, None))


def test_every_row_is_a_conversation_or_the_reason_why_not(tmp_path: Path, run: Run) -> None:
    rows = [{"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": ""}, {"prompt": "d", "answer": "e"}]
    path = write(tmp_path / "rows.jsonl", rows)
    source = source_of("columns", path, run)
    made = list(conversations_of(source, read_rows(source.data), []))
    assert [(row, Path(where).name) for row, where, _ in made] == [
        (row, f"rows.jsonl:{line}") for line, row in enumerate(rows, 1)
    ]
    first, bad, last = (result for _, _, result in made)
    assert isinstance(first, Conversation) and isinstance(last, Conversation)
    assert (first.answer, last.answer) == ("b", "e")
    assert isinstance(bad, RowError) and bad.reason == "empty answer" and images_of(made[1]) == []


@pytest.mark.parametrize(("keys", "by", "column"), [({}, ["writer"], "writer"), ({"id": "number"}, [], "number")])
def test_a_column_that_rows_are_split_or_numbered_by_has_to_be_there(
    keys: dict[str, Any], by: list[str], column: str, tmp_path: Path, run: Run
) -> None:
    source = source_of("columns", write(tmp_path / "rows.jsonl", [{"prompt": "a", "answer": "b"}]), run, **keys)
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: .*'{column}'"):
        list(conversations_of(source, read_rows(source.data), by))


def test_images_are_looked_for_beside_the_file_and_kept_in_the_run(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    Image.new("RGB", (32, 24), "red").save(folder / "a.png")
    row = {"name": "mug", "category": "c", "image": "a.png", "description": "A red mug"}
    source = source_of("product", write(folder / "rows.jsonl", [row]), run)
    (made,) = conversations_of(source, read_rows(source.data), [])
    assert images_of(made) == ["a.png"] and isinstance(made[2], Conversation)
    stored = source.images.resolve(made[2])
    assert stored.images[0].size == (32, 24) and (run.data / stored.image_paths[0]).is_file()


@pytest.mark.parametrize(
    ("keys", "is_refused"),
    [
        ({"source": "user/name", "hub_split": "test"}, True),
        ({"source": "user/some-benchmark"}, True),
        ({"source": "user/name"}, False),
        ({"source": "user/name", "hub_split": "test", "part": "test"}, False),
        ({"source": "user/name", "hub_split": "test", "train_on_test": True}, False),
        ({"source": __file__}, False),
    ],
)
def test_a_benchmarks_test_split_is_trained_on_only_when_it_is_meant(keys: dict[str, Any], is_refused: bool) -> None:
    data = DataSource(**keys)
    if is_refused:
        with pytest.raises(DataError, match=r"is a benchmark's test split; set data\.part: test"):
            refuse_test_rows(data)
    else:
        refuse_test_rows(data)
