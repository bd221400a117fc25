"""A training that diverges: it stops, says why, keeps what was good, and its exit code and report say so."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import command
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.runs import Run
from gemtune.training.divergence import DivergenceWatch, good_steps

WriteRecipe = Callable[..., Path]
# Good after a step, while the rate is still low, on every processor: later losses differ with the last digit of a sum.
LATE = {"epochs": 3, "learning_rate": 10.0, "warmup_ratio": 0.95, "eval_steps": 1, "early_stopping": 99}
# what -> (keys of the recipe, what is said of it, whether there are weights to keep)
CASES: dict[str, tuple[dict[str, Any], str, bool]] = {
    "at once": ({"train": {"learning_rate": 50.0}}, "the val loss is", False),
    "in a single step": ({"train": {"learning_rate": 100.0, "max_steps": 1}}, "step 1: the val loss is", False),
    "late": ({"train": LATE}, "the val loss is", True),
    "late, without val rows": ({"split": {"val": 0}, "train": LATE}, "on train rows", True),
    "between evaluations": (
        {"train": {**LATE, "eval_steps": 99, "save_steps": 1, "keep_checkpoints": 1}},
        "the loss on train rows is",
        True,
    ),
    "every weight, between evaluations": (
        {"lora": "none", "train": {"learning_rate": 100.0, "eval_steps": 99, "epochs": 3}},
        "batches in a row is above",
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_a_run_that_diverges_stops_and_says_so(
    what: str, write_recipe: WriteRecipe, capfd: pytest.CaptureFixture[str]
) -> None:
    keys, reason, has_result = CASES[what]
    recipe = write_recipe(**keys)
    answer = command.gemtune(capfd, "run", recipe)
    run = Run(recipe.parent / "runs" / "t")
    training = run.training
    assert answer.code == 3 and training is not None and training.diverged
    assert training.steps < training.planned_steps or training.planned_steps == 1
    assert reason in training.stopped and f"{run.root} {training.stopped}" in answer.err
    assert "fit: diverged. The run diverged at step" in answer.out
    assert "**Diverged.** The run diverged at step" in run.report_markdown.read_text(encoding="utf-8")
    weights = run.adapter if keys.get("lora") != "none" else run.full_model
    assert weights.is_dir() == run.replies("tuned").is_file() == (training.best_step is not None) == has_result
    if has_result:
        assert training.best_step in good_steps(run.metrics())
    for line in run.metrics_file.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN is no JSON


def test_the_same_command_again_gives_the_same_code(
    write_recipe: WriteRecipe, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(train=LATE)
    first = command.gemtune(capfd, "train", recipe, "--json")
    again = command.gemtune(capfd, "train", recipe, "--json")
    assert (first.code, again.code) == (3, 3)
    assert json.loads(first.out) == json.loads(again.out)
    assert "is already trained" not in first.err


def test_a_high_loss_that_comes_down_again_goes_on() -> None:
    watch = DivergenceWatch(chance=12.5)
    assert watch.of_evaluation(0, {"eval_loss": 3.0, "probe_loss": 3.0}) is None
    for step, loss in enumerate([3.0, 40.0, 40.0, 3.0, 40.0, 40.0, 2.0], 1):  # single batches
        assert watch.of_step(step, loss) is None
    assert watch.of_evaluation(8, {"eval_loss": 7.9, "probe_loss": 7.9}) is None  # unsteady, not gone
    assert watch.of_evaluation(9, {"eval_loss": 8.1, "probe_loss": 7.9})
    assert watch.of_evaluation(9, {"eval_loss": math.inf})


def test_a_run_that_goes_on_knows_the_loss_it_began_with(write_recipe: WriteRecipe) -> None:
    """Stopped after its first checkpoint, as by a kill, it diverges where it would have."""
    whole = Job(write_recipe("whole", train=LATE), say=lambda text: None)
    stages.train(whole)
    cut = Job(write_recipe("cut", train=LATE), say=lambda text: None)
    stages.train(cut)
    cut.run.forget("training")
    said: list[str] = []
    stages.train(Job(cut.run.root, say=said.append))
    assert any("Resuming from step" in line for line in said)
    assert _but_time(cut.run) == _but_time(whole.run)


def _but_time(run: Run) -> dict[str, Any]:
    assert run.training is not None
    return {name: value for name, value in run.training.to_json().items() if name not in ("seconds", "peak_memory_gb")}
