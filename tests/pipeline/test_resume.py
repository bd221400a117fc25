"""Whether a run goes on, begins again or is refused, and what a new beginning removes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import command
from gemtune.errors import RunError
from gemtune.files import write_text
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.resume import has_its_rows, refuse_another_recipe, sources_gone, start_again
from gemtune.runs import Run
from gemtune.training.checkpoint import save_folder
from run_folders import OTHERS, others_in, place_others


def test_to_start_again_removes_what_gemtune_wrote_alone(run: Run) -> None:
    place_others(run.root)
    for folder in (run.checkpoint(2), run.checkpoint(4), run.adapter):
        save_folder(folder, lambda path: write_text(path / "weights.safetensors", "w"))
    write_text(run.replies("base"), "")
    write_text(run.evaluation("mine.csv").summary_file(), "")
    write_text(run.report_page, "")
    start_again(run)
    assert others_in(run.root) == OTHERS
    left = {path.relative_to(run.root).as_posix() for path in run.root.rglob("*") if path.is_file()}
    assert left == {"manifest.json", "recipe.yaml", *OTHERS}


@pytest.fixture
def begun(write_recipe: Callable[..., Path]) -> Path:
    path = write_recipe(train={"max_steps": 2})
    stages.train(Job(path, say=lambda text: None))
    return path


BEGUN_WITH = {
    "train.learning_rate=0.1": r"train\.learning_rate was None, is 0\.1",
    "lora.r=4": r"lora\.r was 16, is 4",
    "split.seed=5": r"split\.seed was 0, is 5",
}


def test_another_recipe_is_refused_by_the_key_that_differs(begun: Path) -> None:
    before = command.tree(begun.parent)
    for override, change in BEGUN_WITH.items():
        with pytest.raises(RunError, match=rf"begun with another recipe \({change}\); give another name="):
            stages.train(Job(begun, [override]))
        assert command.tree(begun.parent) == before
        refuse_another_recipe(Job(begun, [override], fresh=True))


def test_a_key_that_decides_no_weight_may_change(begun: Path) -> None:
    said: list[str] = []
    stages.train(Job(begun, ["evaluate.limit=3"], say=said.append))
    assert said and "already trained" in said[-1]


def test_a_run_knows_its_rows_until_they_are_others(begun: Path) -> None:
    job = Job(begun)
    assert has_its_rows(job) and sources_gone(job) is None
    assert sources_gone(Job(begun, ["data.source=user/name"])) == "user/name is a Hub data set"
    assert not has_its_rows(Job(begun, fresh=True))
    job.run.part("test").write_text("")
    assert not has_its_rows(job)
