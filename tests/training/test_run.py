"""A training from its first step to what is saved of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from gemtune.models.loading import load_model
from training_jobs import trained

WriteRecipe = Callable[..., Path]


def test_full_training_moves_every_weight_and_reloads(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(lora="none", train={"learning_rate": 1e-3}))
    before, after = load_model(job.folder).state_dict(), load_model(job.run.full_model).state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert not still
    metrics = [line["eval_loss"] for line in job.run.metrics() if "eval_loss" in line]
    assert min(metrics[1:]) < metrics[0]


def test_without_val_rows_the_last_step_is_kept(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(split={"val": 0, "test": 0.2}))
    training = job.run.manifest["training"]
    assert training["best_step"] == training["steps"] == training["planned_steps"]
