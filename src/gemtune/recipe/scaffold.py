"""`gemtune new`: a commented recipe and its example data, to start from."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path

from gemtune.errors import GemtuneError, RecipeError
from gemtune.files import write_bytes, write_text


def shipped(folder: str) -> Path:
    """The project's own `recipes` or `examples`: inside the installed package, or beside its source."""
    inside = Path(str(package_files("gemtune"))) / folder
    return inside if inside.is_dir() else Path(__file__).parents[3] / folder


def recipe_names() -> list[str]:
    """What `gemtune new` can write.

    >>> recipe_names()
    ['emoji', 'multi_image', 'product', 'sql']
    """
    return sorted(path.stem for path in shipped("recipes").glob("*.yaml"))


def write_example(name: str, folder: str) -> Iterator[Path]:
    """Writes the recipe and the data it reads into `folder` and yields what was written; never over a file."""
    if name not in recipe_names():
        raise RecipeError(f"no recipe is called '{name}'; there are {', '.join(recipe_names())}")
    text = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    target, examples = Path(folder), shipped("examples")
    named = [path for path in sorted(examples.iterdir()) if f"../examples/{path.name}" in text]
    files = [file for path in named for file in (sorted(path.rglob("*.*")) if path.is_dir() else [path])]
    recipe = target / f"{name}.yaml"
    for path in [recipe, *(target / path.name for path in named)]:
        if path.exists():
            raise GemtuneError(f"{path} is already there; remove it, or give another folder")
    write_text(recipe, text.replace("../examples/", ""))
    for file in files:
        write_bytes(target / file.relative_to(examples), file.read_bytes())
    yield from (recipe, *(target / path.name for path in named))
