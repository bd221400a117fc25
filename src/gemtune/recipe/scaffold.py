"""`gemtune new`: a commented recipe and its example data, to start from."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path

from gemtune.errors import GemtuneError, RecipeError
from gemtune.files import os_errors, write_bytes


def shipped(folder: str) -> Path:
    """The project's own `recipes` or `examples`: inside the installed package, or beside its source."""
    inside = Path(str(package_files("gemtune"))) / folder
    return inside if inside.is_dir() else Path(__file__).parents[3] / folder


def recipe_names() -> list[str]:
    """What `gemtune new` can write.

    >>> recipe_names()
    ['documents', 'emoji', 'multi_image', 'product', 'sql']
    """
    return sorted(path.stem for path in shipped("recipes").glob("*.yaml"))


def write_example(name: str, folder: str) -> Iterator[Path]:
    """Writes the recipe and the data it reads into `folder` and yields what was written; never over another file."""
    if name not in recipe_names():
        raise RecipeError(f"no recipe is called '{name}'; there are {', '.join(recipe_names())}")
    text = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    target, examples = Path(folder), shipped("examples")
    named = [path for path in sorted(examples.iterdir()) if f"../examples/{path.name}" in text]
    files = [file for path in named for file in (sorted(path.rglob("*.*")) if path.is_dir() else [path])]
    contents = {target / f"{name}.yaml": text.replace("../examples/", "").encode()}
    contents |= {target / file.relative_to(examples): file.read_bytes() for file in files}
    for path, data in contents.items():
        if _is_another(path, data):
            raise GemtuneError(f"{path} is already there; remove it, or give another folder")
    for path, data in contents.items():
        write_bytes(path, data)
    yield from (target / f"{name}.yaml", *(target / path.name for path in named))


def _is_another(path: Path, data: bytes) -> bool:
    """Whether a file is there that is not the one to be written, of which a process that was stopped has left some."""
    with os_errors(path):
        return path.exists() and not (path.is_file() and path.read_bytes() == data)
