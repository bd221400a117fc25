"""The tasks by name, and a task of the user's own."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.errors import RecipeError, did_you_mean
from gemtune.recipe.schema import Recipe
from gemtune.recipe.section import Section
from gemtune.tasks.base import Row, Task, counted_scores, doubtful_scores, metric_of, reasons_of, text_of
from gemtune.tasks.columns import Columns
from gemtune.tasks.documents.task import Documents
from gemtune.tasks.emoji import Emoji
from gemtune.tasks.messages import Messages
from gemtune.tasks.multi_image import MultiImage
from gemtune.tasks.product import Product
from gemtune.tasks.sql.task import Sql

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

TASKS: dict[str, type[Task]] = {
    "emoji": Emoji,
    "sql": Sql,
    "product": Product,
    "multi_image": MultiImage,
    "documents": Documents,
    "columns": Columns,
    "messages": Messages,
}

__all__ = [
    "TASKS",
    "Row",
    "Section",
    "Task",
    "counted_scores",
    "doubtful_scores",
    "metric_of",
    "reasons_of",
    "task_of",
    "text_of",
]


def task_of(recipe: Recipe, layout: str = "auto") -> Task:
    """The recipe's task, built in or `file.py:Class`, for rows of one layout (DataSource.layout).

    >>> task_of(Recipe(name="e", task="emoij", data=[{"source": "e.csv"}]))
    Traceback (most recent call last):
    gemtune.errors.RecipeError: task: unknown task 'emoij'; did you mean 'emoji'? wanted emoji, sql, product, \
multi_image, documents, columns, messages, or file.py:Class
    """
    file, colon, name = recipe.task.rpartition(":")
    if colon:
        return _from_file(Path(file), name)(recipe, layout)
    if name not in TASKS:
        known = f"wanted {', '.join(TASKS)}, or file.py:Class"
        raise RecipeError(f"task: unknown task {name!r}{did_you_mean(name, TASKS, known)}")
    return TASKS[name](recipe, layout)


class _Uncached(importlib.machinery.SourceFileLoader):
    """Leaves no __pycache__ beside the user's file."""

    def set_data(self, path: str, data: Buffer, *, _mode: int = 0o666) -> None:
        pass


def _from_file(path: Path, name: str) -> type[Task]:
    """The user's class; the recipe names the file, so running it is what the user asked for."""
    if not path.is_file():
        raise RecipeError(f"task: {path}: no such file; it should hold class {name}")
    if path.suffix != ".py":
        raise RecipeError(f"task: {path}: not a Python file; write file.py:Class")
    loader = _Uncached(f"gemtune_task_{path.stem}", str(path))
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(loader.name, loader, origin=loader.path))
    module.__file__ = loader.path
    sys.modules[loader.name] = module  # where dataclasses and pickle look up the module of a class
    try:
        loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise RecipeError(f"task: {path}: cannot be imported ({error}); it should hold class {name}") from error
    kind = getattr(module, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Task):
        problem = "no such class" if kind is None else f"{name} is not a subclass of gemtune.tasks.Task"
        raise RecipeError(f"task: {path}: {problem}; wanted `class {name}(Task)`")
    return kind
