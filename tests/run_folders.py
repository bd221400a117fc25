"""A run directory with nothing in it but its recipe, and files of the user's in every folder of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gemtune.recipe.loader import parse_recipe
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run

TEXT = "name: t\ntask: emoji\ndata: {source: e.csv}\n"


def recipe_in(folder: Path, **keys: Any) -> Recipe:
    return parse_recipe(TEXT, folder / "t.yaml").model_copy(update={"runs_dir": str(folder / "runs"), **keys})


def accepted(recipe: Recipe, text: str = TEXT) -> Run:
    run = Run.of(recipe)
    run.accept(recipe, text)
    return run


OTHERS = {
    "notes.txt": "mine",
    "data/rows.csv": "a,b\n",
    "eval/mine.csv": "x",
    "adapter/README.txt": "y",
    "model/x.bin": "z",
}


OTHERS |= {"checkpoints/step-2/backup.zip": "PK", "checkpoints/old/weights.safetensors": "w", "tensorboard/a.txt": "t"}


OTHERS |= {"export/merged/notes.txt": "n", "export/mine/model.gguf": "g", "export/readme.txt": "r"}


def place_others(folder: Path) -> dict[str, str]:
    """Files of the user's in every folder of a run, with what they hold."""
    for name, text in OTHERS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return OTHERS


def others_in(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in OTHERS if (folder / name).is_file()}
