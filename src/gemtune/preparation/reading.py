"""The rows of a source as conversations, with the images that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gemtune.data.columns import check_columns
from gemtune.data.conversation import Conversation, check_size
from gemtune.data.downloads import Downloads
from gemtune.data.image_sources import ImageSources, hub_images
from gemtune.data.images import ImageStore
from gemtune.data.rows import Rows
from gemtune.data.sources import is_hub, source_files
from gemtune.errors import DataError, RowError
from gemtune.recipe.schema import DataSource
from gemtune.runs import Run
from gemtune.tasks import Row, Task


@dataclass(frozen=True)
class Source:
    """A source of the recipe, with what reads its rows."""

    data: DataSource
    task: Task
    images: ImageStore


def downloads_for(data: DataSource) -> Downloads | None:
    """What fetches the images at addresses, where the source says so."""
    return Downloads(private=data.download_private) if data.download_images else None


def image_store(run: Run, data: DataSource, downloads: Downloads | None) -> ImageStore:
    """The images of a run's data directory; adds those that the rows of a source name."""
    files = source_files(data)
    base = files[0].parent if files else Path(data.source) if Path(data.source).is_dir() else Path()
    hub = hub_images(data.source) if is_hub(data) else None
    return ImageStore(run.data, ImageSources(base, data.images, downloads, hub).read)


_NAMES = {  # of files and folders -> the part that they are
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}

# A row, where it is, and what it is as a conversation.
Made = tuple[Row, str, Conversation | RowError]


def conversations_of(source: Source, rows: Rows, by: list[str]) -> Iterator[Made]:
    """Yields every row as a conversation, or why it cannot be one; DataError where a column is missing."""
    first = [*source.task.columns, *by, *([source.data.id] if source.data.id else [])]
    for number, (where, row) in enumerate(rows):
        check_columns(row, by if number else first, where)
        try:
            conversation = source.task.conversation(row, where)
            check_size([message.text for message in conversation.messages])
        except RowError as error:
            yield row, where, error
        else:
            yield row, where, conversation


def images_of(made: Made) -> list[str]:
    """The images that a row names, as it spells them."""
    return made[2].image_paths if isinstance(made[2], Conversation) else []


def refuse_test_rows(data: DataSource) -> None:
    """DataError where rows that others hold out for a test would be trained on without the recipe saying so."""
    if data.part != "auto" or data.train_on_test:
        return
    if is_hub(data) and ("test" in data.hub_split or "bench" in data.source.lower()):
        raise DataError(
            f"{data.source} ({data.hub_split}) is a benchmark's test split; set data.part: test to score on it, or "
            "data.train_on_test: true to train on it, after which its scores mean nothing"
        )
    parts = {name: path.name for path in source_files(data) if (name := _part_named(path, Path(data.source)))}
    if len(parts) > 1 and "test" in parts:
        sources = ", ".join(f"{{source: ..., part: {name}}}" for name in sorted(parts))
        raise DataError(
            f"{data.source}: holds the parts of a split ({', '.join(sorted(parts.values()))}), which would be mixed; "
            f"name each as a source of its own, data: [{sources}], or set data.train_on_test: true"
        )


def _part_named(path: Path, folder: Path) -> str:
    """The part of a split that a file is by its name, or its folder's; "" for none.

    >>> [_part_named(Path("d", *names), Path("d")) for names in (["test-00000-of-00001.parquet"], ["val", "a.csv"])]
    ['test', 'val']
    >>> _part_named(Path("d/latest.csv"), Path("d")), _part_named(Path("test/a.csv"), Path("test"))
    ('', '')
    """
    places = path.relative_to(folder).parts if path.is_relative_to(folder) else (path.name,)
    words = [word for place in places for word in re.split(r"[^a-z]+", place.lower())]
    return next((part for word in words for part, names in _NAMES.items() if word in names), "")
