"""Learning rates: never 0, and those of transformers where it has no warm-up to begin at 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import get_scheduler

from gemtune.pipeline import stages
from gemtune.training.schedule import AFTER_WARMUP, rate_share


@pytest.mark.parametrize("schedule", AFTER_WARMUP)
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.05, 0.5, 0.99])
def test_no_step_is_taken_at_a_rate_of_0_and_the_full_rate_is_reached(schedule: str, warmup_ratio: float) -> None:
    for steps in (1, 2, 3, 7, 20, 1000):
        shares = [rate_share(step, steps, warmup_ratio, schedule) for step in range(steps)]
        assert min(shares) > 0 and max(shares) == 1
        top = shares.index(1)
        assert shares[:top] == sorted(shares[:top]) and shares[top:] == sorted(shares[top:], reverse=True)


@pytest.mark.parametrize("schedule", AFTER_WARMUP)
def test_without_warm_up_the_rates_are_those_of_transformers(schedule: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    stock = get_scheduler(schedule, optimizer, num_warmup_steps=0, num_training_steps=25)
    for step in range(25):
        assert rate_share(step, 25, 0.0, schedule) == pytest.approx(stock.get_last_lr()[0])
        optimizer.step()
        stock.step()


def test_a_run_of_one_step_trains(write_recipe: Callable[..., Path]) -> None:
    job = stages.Job(write_recipe(train={"max_steps": 1}), say=lambda text: None)
    stages.train(job)
    (line,) = (line for line in job.run.metrics() if "loss" in line)
    assert line["learning_rate"] == job.run.decided("learning_rate") == 2e-4
    weights = load_file(job.run.adapter / "adapter_model.safetensors")
    assert all(weight.any() for name, weight in weights.items() if "lora_B" in name)
