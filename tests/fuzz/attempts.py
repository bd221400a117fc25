"""What the attempts of all targets share: recipes, refusals that are right, and files that are replaced for a while."""

from __future__ import annotations

import contextlib
import os
import shutil
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


def copied(source: Path, folder: Path, file: File) -> Path:
    """A folder like the source, but for one file; the others are the same files on the disk, so nothing may write to
    them in place.
    """
    target = folder / source.name
    shutil.copytree(source, target, copy_function=_linked)
    (target / file.name).unlink()
    (target / file.name).write_bytes(file.data)
    return target


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)
