"""A job: a recipe, a recipe file or a run directory, with overrides for this time."""

from __future__ import annotations

from pathlib import Path

from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run
from run_folders import accepted, recipe_in


def test_a_run_opens_with_its_recipe_and_overrides_it_does_not_keep(tmp_path: Path) -> None:
    template = {"prompt": "🏖️ {prompt} \x7f", "answer": "{answer}"}
    recipe = Recipe.model_validate({**recipe_in(tmp_path).model_dump(), "task": "columns", "template": template})
    accepted(recipe)
    run = Run.open(tmp_path / "runs" / "t")
    assert Job(run.root).recipe == recipe
    assert Job(run.root, ["train.epochs=9"]).recipe.train.epochs == 9
    assert Job(run.root).recipe == recipe
