"""The time of steps: of work that was done, not of work that was queued."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gemtune.training import clock
from training_jobs import trained

WriteRecipe = Callable[..., Path]


def test_a_step_has_ended_when_the_gpu_has(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU is told what to do long before it has done it; here that takes it a fifth of a second a line."""
    monkeypatch.setattr(clock, "synchronize", lambda device: time.sleep(0.2))
    job = trained(write_recipe(train={"max_steps": 5, "logging_steps": 2, "eval_steps": 5}))
    lines = [line for line in job.run.metrics() if "loss" in line]
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert all(line["seconds"] >= 0.2 for line in lines)
    for line in lines:
        assert line["tokens_per_s"] == pytest.approx(line["tokens"] / line["seconds"], rel=0.01)
