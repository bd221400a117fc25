"""A recipe at work in its run directory, with what its stages share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gemtune.recipe.loader import load_recipe, recipe_of, recipe_text
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run
from gemtune.tasks import Task, task_of

Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]  # (what, done, of how many; 0 when not known)


@dataclass
class Job:
    """The tokenizer, the task, the model folder and what was decided, each found when first asked for."""

    recipe: Recipe
    run: Run
    recipe_text: str | None = None  # the user's file; None for a run directory
    fresh: bool = False  # begins again what the run has begun
    say: Say = print
    tick: Tick = field(default=lambda what, done, total: None)

    @classmethod
    def of(cls, path: str | Path, overrides: Sequence[str] = (), **hooks: Any) -> Job:
        """The job of a recipe file, or of a run directory that is already there."""
        path = Path(path)
        if path.is_dir():
            run = Run.open(path)
            return cls(recipe_of(run.recipe, run.manifest_file.absolute(), overrides), run, **hooks)
        recipe = load_recipe(path, overrides)
        return cls(recipe, Run.of(recipe), recipe_text(path), **hooks)

    def accept(self) -> None:
        """Writes to the run from here on: the last thing a stage does before its first write."""
        self.run.accept(self.recipe, self.recipe_text)

    @cached_property
    def task(self) -> Task:
        return task_of(self.recipe)

    @cached_property
    def folder(self) -> Path:
        """The model's folder with its config and tokenizer; its weights need not be there."""
        from gemtune.models.loading import find_model

        folder, why = find_model(self.recipe.model, self.say, weights=False)
        self.run.decide("model", (str(folder), why))
        return folder

    @cached_property
    def weights_folder(self) -> Path:
        """The model's folder with its weights, which are fetched now if they must be."""
        from gemtune.models.loading import find_model

        folder, why = find_model(self.recipe.model, self.say)
        self.run.decide("model", (str(folder), why))
        return folder

    @cached_property
    def family(self) -> Any:
        from gemtune.models.families import family_of

        return family_of(self.folder)

    @cached_property
    def tokenizer(self) -> Any:
        from gemtune.models.loading import load_tokenizer

        return load_tokenizer(self.folder)

    @cached_property
    def eyes(self) -> Any:
        """How images are read for a model that sees; None for one that does not."""
        from gemtune.models.families import config_of
        from gemtune.models.image_tokens import Eyes
        from gemtune.models.loading import load_image_processor

        sight = self.family.sight
        processor = load_image_processor(self.folder) if sight else None
        return Eyes(config_of(self.folder), processor, sight, self.recipe.vision) if sight else None

    @cached_property
    def renderer(self) -> Any:
        from gemtune.rendering.renderer import Renderer

        return Renderer(self.tokenizer, self.family, self.recipe.train.train_on, self.eyes)

    def view(self, model: Any) -> Any:
        """What a model that sees makes of the run's images; None for one that does not."""
        from gemtune.models.image_features import TowerView
        from gemtune.models.loading import without_adapters

        if self.eyes is None:
            return None
        vision = self.recipe.vision
        return TowerView(
            without_adapters(model), self.eyes, self.run.data, vision.cache_gb, frozen=vision.trains != "tower"
        )

    def forget_tokenizer(self) -> None:
        """Lets go of tokenizer and renderer until they are asked for again: 0.34 GB for Gemma's 262,144 words."""
        for name in ("tokenizer", "renderer"):
            self.__dict__.pop(name, None)

    @cached_property
    def device(self) -> str:
        from gemtune.models.loading import choose_device

        return str(self.run.decide("device", choose_device(self.recipe.train.device)))

    @cached_property
    def precision(self) -> str:
        from gemtune.models.loading import choose_precision

        return str(self.run.decide("precision", choose_precision(self.recipe.train.precision, self.device)))

    def base_model(self) -> Any:
        """The base model as the recipe wants it, freshly loaded."""
        from gemtune.models.loading import load_model

        settings = {"device": self.device, "precision": self.precision, "quantize": self.recipe.quantize}
        return load_model(self.weights_folder, **settings)
