"""What this machine, this model or this task does not have is refused, or said, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import command
from gemtune.errors import GemtuneError, MissingExtra, ModelError, RunError
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.pipeline.requirements import require_trackers
from gemtune.recipe.schema import Recipe

FORESEEN = {
    "no test rows": ({"split": {"test": 0}}, r"No test rows \(split\.test 0\): base and tuned will not be compared"),
    "no val rows": ({"split": {"val": 0}}, r"No val rows \(split\.val 0\): the last step is the one kept"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORESEEN)
def test_what_will_be_missing_is_said_before_training(
    what: str, write_recipe: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    keys, words = FORESEEN[what]
    recipe = write_recipe(**keys, train={"max_steps": 1})
    answer = command.gemtune(capfd, "run", recipe)
    assert answer.code == 0, answer.err
    assert 0 <= re.search(words, answer.err).start() < answer.err.index("step 0 of 1")  # type: ignore[union-attr]
    assert "report: " in answer.out


def test_the_best_by_metric_needs_val_rows(
    write_recipe: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(split={"val": 0}, train={"best_by": "metric", "max_steps": 1})
    line = command.refusal(command.gemtune(capfd, "train", recipe))
    assert "train.best_by: metric needs val rows, and there are none; raise split.val" in line
    assert command.gemtune(capfd, "train", recipe, "train.best_by=loss").code == 0


REFUSED: dict[str, tuple[dict[str, Any], type[GemtuneError], str]] = {
    "layers": ({"lora": {"target_modules": ["q_prj"]}}, ModelError, "no linear layer is called 'q_prj'; there are"),
    "tokens": ({"lora": {"token_rows": ["<start_of_trun>"]}}, ModelError, "<start_of_trun>"),
    "a metric": ({"evaluate": {"metric": "f2"}}, RunError, "f2"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_model_or_the_task_does_not_have_is_refused_and_nothing_is_written(
    what: str, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    keys, error, words = REFUSED[what]
    recipe = write_recipe(**keys)
    with pytest.raises(error, match=words):
        stages.train(Job(recipe, say=lambda text: None))
    assert not (tmp_path / "runs" / "t" / "manifest.json").exists()


def test_a_tracker_that_is_not_installed_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.model_validate({"name": "t", "task": "emoji", "data": "e.csv", "track": ["tensorboard"]})
    monkeypatch.setattr("gemtune.pipeline.requirements.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"track: \[tensorboard\].*gemtune\[tensorboard\]"):
        require_trackers(recipe)
