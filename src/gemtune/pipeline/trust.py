"""A task `file.py:Class` is a program: a user's own recipe runs it; one that came with a run is asked for first."""

from __future__ import annotations

import contextlib
from pathlib import Path

from gemtune.errors import GemtuneError, RunError
from gemtune.files import cache_folder, sha256_of, sha256_of_text, write_text
from gemtune.recipe.schema import Recipe


def trust(recipe: Recipe) -> None:
    """Remembers in the user's cache that this file, as it is now, may run; without a cache the user is asked again."""
    if mark := _mark(recipe):
        with contextlib.suppress(GemtuneError):
            write_text(mark, "")


def require_trust(recipe: Recipe) -> None:
    """RunError unless the task's file once ran from a recipe of the user's own, or the user has allowed it."""
    mark = _mark(recipe)
    if mark is not None and not mark.is_file():
        raise RunError(
            f"task: {recipe.task} is a program that came with the run; read it, then say --trust-task (once; in "
            "Python trust_task=True), or give the recipe file instead of the run directory"
        )


def _mark(recipe: Recipe) -> Path | None:
    """The file that says so, for this content at this path; None for a task of gemtune's, or for no file."""
    file, colon, _ = recipe.task.rpartition(":")
    if not colon or not Path(file).is_file():
        return None
    path = Path(file).resolve()
    return cache_folder() / "trusted-tasks" / sha256_of_text(str(path), sha256_of(path))
