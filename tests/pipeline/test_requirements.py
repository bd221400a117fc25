"""What this machine, this model or this task does not have is refused, or said, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import command

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
