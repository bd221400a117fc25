"""A job: a recipe, a recipe file or a run directory, with overrides for this time."""

from __future__ import annotations

from collections.abc import Callable
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


def test_overrides_are_the_same_from_python_and_from_the_command_line(write_recipe: Callable[..., Path]) -> None:
    path = write_recipe()
    python = Job(path, {"train.epochs": 2.5, "data.source": "a, b.csv", "lora.target_modules": ["q_proj"]})
    line = Job(path, ["train.epochs=2.5", 'data.source="a, b.csv"', "lora.target_modules=[q_proj]"])
    assert python.recipe == line.recipe != Job(path).recipe
    assert Job(Job(path).recipe, {"train.epochs": 2.5}).recipe == Job(path, ["train.epochs=2.5"]).recipe


def test_nothing_is_written_until_the_job_is_accepted(write_recipe: Callable[..., Path]) -> None:
    job = Job(write_recipe())
    assert job.tokenizer and job.task and (job.device, job.precision) == ("cpu", "fp32")
    assert not job.run.root.exists()
    job.accept()
    decided = {name: decision["value"] for name, decision in job.run.manifest["decisions"].items()}
    assert decided == {"device": "cpu", "precision": "fp32", "model": str(job.folder)}


def test_a_tokenizer_that_is_let_go_comes_back_the_same(write_recipe: Callable[..., Path]) -> None:
    job = Job(write_recipe())
    before = job.renderer
    job.forget_tokenizer()
    assert job.renderer is not before
    assert job.tokenizer.get_vocab() == before.tokenizer.get_vocab()
