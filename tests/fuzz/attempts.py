"""What the attempts of all targets share: recipes, refusals that are right, and files that are replaced for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.inputs import File
from gemtune.errors import GemtuneError
from gemtune.recipe.schema import Recipe

Json = Any
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def recipe_for(task: str, **keys: Json) -> Recipe:
    template = {"template": {"prompt": "{a}", "answer": "{b}"}} if task == "columns" else {}
    return Recipe.model_validate({"name": "f", "task": task, "data": [{"source": "f.jsonl"}], **template, **keys})


def refusals() -> contextlib.suppress:
    """What follows is tried, too, where this was refused."""
    return contextlib.suppress(GemtuneError)


def equal(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what} differs: {found!r:.500} from {wanted!r:.500}")


@contextlib.contextmanager
def replaced(folder: Path, file: File) -> Iterator[None]:
    """A file in a folder with other bytes, for a while."""
    path = folder / file.name
    path.write_bytes(file.data)
    try:
        yield
    finally:
        path.write_bytes(file.seed)
