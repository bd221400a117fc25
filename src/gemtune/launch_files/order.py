"""What is asked of a cluster: which recipe, how large a machine, whose disk, which secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from gemtune.data.sources import is_hub
from gemtune.errors import GemtuneError, RecipeError, visible
from gemtune.recipe.schema import Recipe
from gemtune.tasks.sql.task import PASSWORDS

WIDTH = 116  # of a line of a comment
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_NO_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Size:
    """What a job may use, and for how long."""

    nodes: int = 1
    gpus: int = 1  # a node; 0: none
    gpu: str = "L4"  # where a system rents them by their name
    cpus: int = 8
    memory: int = 32  # GiB
    hours: float = 24

    @property
    def seconds(self) -> int:
        return round(self.hours * 3600)


@dataclass(frozen=True)
class Order:
    """A recipe and what a system is to run it with; everything in a launch file comes from here."""

    recipe: Recipe
    file: str  # the recipe, from the project's folder
    overrides: tuple[str, ...]  # `key=value`, which the recipe above already has
    size: Size
    image: str
    shared: str  # where the project's folder is on the cluster: a folder, a claim or a bucket

    def command(self, *overrides: str) -> list[str]:
        """The command line that a node runs: with a worker for each of its GPUs."""
        workers = ["scale.workers=auto"] if self.size.gpus > 1 else []
        return ["gemtune", "run", self.file, *self.overrides, *workers, *overrides]

    @property
    def secrets(self) -> list[str]:
        """The names of the environment variables that the recipe may need, whose values are never looked at."""
        return list(dict.fromkeys(_secrets_of(self.recipe)))

    @property
    def name(self) -> str:
        """The recipe's name, as every system takes one.

        >>> Order(Recipe(name="My.Run_2", task="emoji", data="e.csv"), "r.yaml", (), Size(), "", "").name
        'gemtune-my-run-2'
        """
        return f"gemtune-{_NO_NAME.sub('-', self.recipe.name.lower())}"[:40].rstrip("-")


def _secrets_of(recipe: Recipe) -> Iterator[str]:
    yield "HF_TOKEN"
    for teacher in recipe.teacher:
        if variable := teacher.key_variable:
            if not _VARIABLE.fullmatch(variable):  # which may be the key itself: it is not shown
                raise RecipeError(
                    "teacher.key: wanted the name of an environment variable in capitals, such as TEACHER_KEY; a key "
                    "itself does not belong in a recipe"
                )
            yield variable
    if recipe.pages:
        yield from recipe.pages.passwords.values()
    yield from (variable for scheme, variable in PASSWORDS.items() if recipe.sql.engine.startswith(scheme))
    if "wandb" in recipe.track:
        yield "WANDB_API_KEY"


def from_here(file: Path) -> str:
    """The path of a file from the current folder, which no command takes for an option.

    >>> from_here(Path("-r.yaml")), from_here(Path("a/../r.yaml"))
    ('./-r.yaml', 'r.yaml')
    """
    path = os.path.relpath(file)
    return f"./{path}" if path.startswith("-") else path


def require_within(recipe: Recipe, file: Path) -> None:
    """GemtuneError names what of a recipe is outside of the current folder, which is all that a container sees."""
    here = Path.cwd()
    for what, name in [("recipe", str(file.absolute())), *_files_of(recipe)]:
        path = Path(os.path.abspath(name))
        if not path.is_relative_to(here):
            raise GemtuneError(
                f"{what} {name}: lies outside of the current folder {here}, and the job sees nothing else; move it "
                "there, or call gemtune launch from a folder above both"
            )


def _files_of(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What a recipe names of this machine's disk: (key, path)."""
    for source in recipe.data:
        if not is_hub(source):
            yield "data.source", source.source
        yield from (("data.images", name) for name in source.images)
    if recipe.pages:
        sources = recipe.pages.source
        yield from (("pages.source", name) for name in ([sources] if isinstance(sources, str) else sources))
        yield "pages.folder", recipe.pages.folder
    file, colon, _ = recipe.task.rpartition(":")
    if colon:
        yield "task", file
    if Path(recipe.model).is_dir():
        yield "model", recipe.model
    yield "runs_dir", recipe.runs_dir


def remark(*paragraphs: str) -> str:
    """Text as a comment of a shell script or of YAML, which nothing in it can end.

    >>> remark("a\\nb", "c")
    '# a b\\n# c\\n'
    """
    lines = (line for text in paragraphs for line in wrap(visible(text), WIDTH, break_on_hyphens=False))
    return "".join(f"# {line}\n" for line in lines)
