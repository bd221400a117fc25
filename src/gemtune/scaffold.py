"""`gemtune new`: a commented recipe and its example data, to start from."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path

from gemtune.errors import GemtuneError, RecipeError
from gemtune.files import write_text


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
    written = {Path(folder) / f"{name}.yaml": text.replace("../examples/", "")}
    for data in shipped("examples").iterdir():
        if f"../examples/{data.name}" in text:
            written[Path(folder) / data.name] = data.read_text(encoding="utf-8")
    for path in written:
        if path.exists():
            raise GemtuneError(f"{path} is already there; remove it, or give another folder")
    for path, content in written.items():
        write_text(path, content)
        yield path
