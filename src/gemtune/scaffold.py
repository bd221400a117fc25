"""`gemtune new`: a commented recipe and its example data, to start from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path

from gemtune.errors import GemtuneError, RecipeError
from gemtune.files import os_errors, write_text


def shipped(folder: str) -> Path:
    """The project's own `recipes` or `examples`: inside the installed package, or beside its source."""
    inside = Path(str(package_files("gemtune"))) / folder
    return inside if inside.is_dir() else Path(__file__).parents[2] / folder


def write_example(name: str, folder: str) -> Iterator[Path]:
    """Writes the recipe and the data it reads into `folder` and yields what was written; never over a file."""
    known = sorted(path.stem for path in shipped("recipes").glob("*.yaml"))
    if name not in known:
        raise RecipeError(f"no recipe is called '{name}'; there are {', '.join(known)}")
    text = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    targets = {Path(folder) / f"{name}.yaml": text.replace("../examples/", "")}
    data = [path for path in shipped("examples").iterdir() if f"../examples/{path.name}" in text]
    for path in (*targets, *(Path(folder) / source.name for source in data)):
        if path.exists():
            raise GemtuneError(f"{path} is already there; remove it, or give another folder")
    for path, content in targets.items():
        write_text(path, content)
        yield path
    for source in data:
        with os_errors(Path(folder) / source.name):
            yield Path(shutil.copyfile(source, Path(folder) / source.name))
