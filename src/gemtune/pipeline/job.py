"""A recipe at work in its run directory, with what its stages share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.pipeline.moved import found_again
from gemtune.pipeline.trust import require_trust, trust
from gemtune.recipe.loader import as_data, as_yaml, from_folder, load_recipe, recipe_of, recipe_text
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run
from gemtune.tasks import Task, task_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gemtune.models.families.base import Family
    from gemtune.models.image_features import ImageFeatures
    from gemtune.models.image_tokens import ImageTokenizer
    from gemtune.rendering.renderer import Renderer

Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]  # (what, done, of how many; 0 when not known)


class Job:
    """A recipe at work: its tokenizer, task and model folder, and what was decided, each found when first asked for.

    `recipe` is a Recipe, a recipe file, or a run directory that is already there; `overrides` are recipe keys for this
    time, as `{"train.epochs": 1}` or as the command line has them: `["train.epochs=1"]`. Nothing is written before a
    stage has found nothing to refuse.
    """

    def __init__(
        self,
        recipe: Recipe | str | Path,
        overrides: Mapping[str, object] | Sequence[str] = (),
        *,
        fresh: bool = False,
        trust_task: bool = False,
        say: Say = print,
        tick: Tick = lambda what, done, total: None,
    ):
        self.recipe, self.run, self.recipe_text = _opened(recipe, _as_texts(overrides))
        self._trusts_task = trust_task or self.recipe_text is not None  # the user's word, or the user's own recipe
        if self._trusts_task:
            trust(self.recipe)
        self.fresh = fresh  # begins again what the run has begun
        self.say, self.tick = say, tick

    def accept(self) -> None:
        """Writes to the run from here on: the last thing a stage does before its first write."""
        self.run.accept(self.recipe, self.recipe_text)

    @cached_property
    def task(self) -> Task:
        if not self._trusts_task:
            require_trust(self.recipe)
        return task_of(self.recipe)

    @property
    def _model_name(self) -> str:
        """The recipe's model, at the revision of the Hub with which the run was trained."""
        begun = self.run.manifest.get("model", {})
        is_pinned = begun.get("name") == self.recipe.model and begun.get("revision") and not self.fresh
        return f"{self.recipe.model.partition('@')[0]}@{begun['revision']}" if is_pinned else self.recipe.model

    @cached_property
    def folder(self) -> Path:
        """The model's folder with its config and tokenizer; its weights need not be there."""
        from gemtune.models.hub import find_model

        folder, why = find_model(self._model_name, self.say, weights=False)
        self.run.decide("model", (str(folder), why))
        return folder

    @cached_property
    def weights_folder(self) -> Path:
        """The model's folder with its weights, which are fetched now if they must be."""
        from gemtune.models.hub import find_model

        folder, why = find_model(self._model_name, self.say)
        self.run.decide("model", (str(folder), why))
        return folder

    @cached_property
    def family(self) -> Family:
        from gemtune.models.families import family_of

        return family_of(self.folder)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        from gemtune.models.loading import load_tokenizer

        return load_tokenizer(self.folder)

    @cached_property
    def image_tokenizer(self) -> ImageTokenizer | None:
        """How images become tokens of a vision-language model; None for a text model."""
        from gemtune.models.families import config_of
        from gemtune.models.image_tokens import ImageTokenizer
        from gemtune.models.loading import load_image_processor

        vision = self.family.vision
        if vision is None:
            return None
        processor = load_image_processor(self.folder)
        return ImageTokenizer(config_of(self.folder), processor, vision, self.recipe.vision)

    @cached_property
    def renderer(self) -> Renderer:
        from gemtune.rendering.renderer import Renderer

        recipe = self.recipe
        most = None if recipe.prepare.over_length == "shorten" else recipe.train.max_length
        return Renderer(self.tokenizer, self.family, recipe.train.train_on, self.image_tokenizer, most)

    def image_features(self, model: PreTrainedModel, data: Path | None = None) -> ImageFeatures | None:
        """The features of the images in `data`, the run's own if not given; None for a text model."""
        from gemtune.models.image_features import ImageFeatures
        from gemtune.models.structure import without_adapters

        if self.image_tokenizer is None:
            return None
        vision, plain = self.recipe.vision, without_adapters(model)
        frozen = vision.trains != "tower"
        return ImageFeatures(plain, self.image_tokenizer, data or self.run.data, vision.cache_gb, frozen)

    def forget_tokenizer(self) -> None:
        """Lets go of tokenizer and renderer until they are asked for again: 0.34 GB for Gemma's 262,144 words."""
        for name in ("tokenizer", "renderer"):
            self.__dict__.pop(name, None)

    @cached_property
    def device(self) -> str:
        from gemtune.hardware import choose_device, unused_gpu

        device = str(self.run.decide("device", choose_device(self.recipe.train.device)))
        if device == "cpu" and self.recipe.train.device == "auto" and (unused := unused_gpu()):
            self.say(f"{unused.name} is not used: {unused.reason}; {unused.move}.")
        return device

    @cached_property
    def workers(self) -> int:
        """How many processes of this machine train, and answer, together; a cluster is asked later."""
        from gemtune.hardware import choose_workers

        scale = self.recipe.scale
        if scale.engine == "ray":
            return 1 if scale.workers == "auto" else scale.workers
        return self.run.decide("workers", choose_workers(self.recipe.scale.workers, self.device))

    @property
    def works_alone(self) -> bool:
        """Whether this process does the work of a stage itself, and starts no workers."""
        return self.recipe.scale.engine == "local" and self.workers == 1

    @cached_property
    def precision(self) -> str:
        from gemtune.models.families import config_of
        from gemtune.training.planner import ModelShape, weight_bytes
        from gemtune.training.precision import choose_precision

        in_fp32 = weight_bytes(self.recipe, ModelShape.of(config_of(self.folder)), "fp32")
        begun = None if self.fresh else self.run.decisions.get("precision")
        before = str(begun.value) if begun else None
        chosen = choose_precision(self.recipe.train.precision, self.device, in_fp32, before)
        return str(self.run.decide("precision", chosen))

    def base_model(self) -> PreTrainedModel:
        """The base model as the recipe wants it, freshly loaded."""
        from gemtune.models.loading import load_model
        from gemtune.models.patching import install_kernels

        settings = {"device": self.device, "precision": self.precision, "quantize": self.recipe.quantize}
        return install_kernels(load_model(self.weights_folder, say=self.say, **settings))


def _as_texts(overrides: Mapping[str, object] | Sequence[str]) -> Sequence[str]:
    """
    >>> _as_texts({"train.epochs": 1, "data.source": "a, b.csv"})
    ['train.epochs=1', 'data.source="a, b.csv"']
    """
    if isinstance(overrides, Mapping):
        return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    return overrides


def _opened(source: Recipe | str | Path, overrides: Sequence[str]) -> tuple[Recipe, Run, str | None]:
    """A recipe with its run directory, and the text that the run keeps of it: none for a run that is there already."""
    if isinstance(source, Recipe):
        here = Path.cwd() / "recipe"
        recipe = recipe_of(as_data(source), here, overrides) if overrides else from_folder(source, here.parent)
        return recipe, Run.of(recipe), as_yaml(recipe)
    path = Path(source)
    if path.is_dir():
        run = Run.open(path)
        recipe = recipe_of(run.recipe, run.manifest_file.absolute(), overrides)
        return found_again(recipe, run), run, None
    recipe = load_recipe(path, overrides)
    return recipe, Run.of(recipe), recipe_text(path)
