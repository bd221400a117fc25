"""A run whose project was moved: what its recipe names is looked for at the same place relative to the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gemtune.data.paths import at_home
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run


def found_again(recipe: Recipe, run: Run) -> Recipe:
    """The recipe that a run keeps, with every file and folder that is gone replaced by the one at its new place.

    Nothing is replaced that is still there, or that is not at the new place either.
    """
    begun_at = run.manifest.get("trained_on", {}).get("root")
    if not begun_at:
        return recipe

    def place(name: str) -> str:
        path = Path(name)
        if not path.is_absolute() or path.exists():
            return name
        new = Path(os.path.normpath(run.root.absolute() / os.path.relpath(path, begun_at)))
        return str(new) if new.exists() else name

    file, colon, task = recipe.task.rpartition(":")
    data = [
        source.model_copy(update={"source": place(source.source), "images": [place(name) for name in source.images]})
        for source in recipe.data
    ]
    task = f"{place(file)}:{task}" if colon else recipe.task
    return recipe.model_copy(update={"data": data, "task": task, "model": _model(recipe.model, run, place)})


def _model(name: str, run: Run, place: Callable[[str], str]) -> str:
    """The model's folder: as the recipe names it from the current folder, or where training found it, or that moved."""
    trained = run.manifest.get("model", {})
    if at_home(name).is_dir() or trained.get("name") != name or not trained.get("folder"):
        return name
    folder = place(trained["folder"])
    return folder if Path(folder).is_dir() else name
