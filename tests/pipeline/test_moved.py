"""A project that was moved: what a run's recipe names is looked for at its new place where the old is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemtune.pipeline.moved import found_again
from gemtune.recipe.schema import Recipe
from gemtune.runs import Run
from run_folders import accepted

FILES = ("rows.csv", "mine.py", "images/a.png", "model/config.json")


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Recipe, Run]:
    """The recipe and the run of a project that was trained in `old` and now lies in `new`."""
    old, new = tmp_path / "old", tmp_path / "new"
    for name in FILES:
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text("x")
    data = {"source": str(old / "rows.csv"), "images": [str(old / "images")]}
    keys = {"name": "t", "task": f"{old}/mine.py:Mine", "model": "model", "runs_dir": str(old / "runs"), "data": data}
    recipe = Recipe.model_validate(keys)
    run = accepted(recipe)
    run.note("trained_on", {"data": "", "tokens": "", "recipe": {}, "root": str(run.root)})
    run.note("model", {"name": "model", "folder": str(old / "model")})
    old.rename(new)
    return recipe, Run.open(new / "runs" / "t")


def test_every_file_and_folder_is_found_at_its_new_place(moved: tuple[Recipe, Run], tmp_path: Path) -> None:
    recipe, new = found_again(*moved), tmp_path / "new"
    assert (recipe.data[0].source, recipe.data[0].images) == (str(new / "rows.csv"), [str(new / "images")])
    assert (recipe.task, recipe.model) == (f"{new}/mine.py:Mine", str(new / "model"))


def test_what_is_still_there_stays_and_what_is_nowhere_is_named_as_before(
    moved: tuple[Recipe, Run], tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/rows.csv").write_text("x")
    (tmp_path / "new/mine.py").unlink()
    recipe = found_again(*moved)
    assert recipe.data[0].source == str(tmp_path / "old/rows.csv")
    assert recipe.task == moved[0].task


def test_a_model_of_the_recipe_is_taken_before_the_one_that_was_trained(
    moved: tuple[Recipe, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert found_again(*moved).model == "model"


def test_a_run_that_was_never_trained_knows_no_place(run: Run, tmp_path: Path) -> None:
    recipe = run.recipe
    gone = Recipe.model_validate({**recipe, "data": str(tmp_path / "gone.csv")})
    assert found_again(gone, run) == gone
