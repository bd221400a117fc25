"""The weights that `base`, `tuned` and `step-N` stand for, and what tells one from another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file

from gemtune.errors import RunError
from gemtune.models.loading import load_model
from gemtune.pipeline.job import Job
from gemtune.pipeline.tuned_models import model_named, weights_key
from gemtune.training.checkpoint import WEIGHTS
from training_jobs import adapter, trained

WriteRecipe = Callable[..., Path]
STEPS = {"train": {"epochs": 1, "eval_steps": 4, "early_stopping": None, "learning_rate": 1e-3, "max_steps": 8}}


def test_each_name_of_a_lora_run_has_its_weights(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(**STEPS))
    base = load_model(job.folder).state_dict()
    assert all(torch.equal(base[name], value) for name, value in model_named(job, "base").state_dict().items())
    for step in (4, 8):
        saved = load_file(job.run.checkpoint(step) / WEIGHTS)
        loaded = get_peft_model_state_dict(model_named(job, f"step-{step}"), save_embedding_layers=False)
        assert loaded.keys() == saved.keys()
        assert all(torch.equal(loaded[name], value) for name, value in saved.items())
    tuned = get_peft_model_state_dict(model_named(job, "tuned"), save_embedding_layers=False)
    assert all(torch.equal(tuned[name], value) for name, value in adapter(job).items())


def test_each_name_of_a_fully_trained_run_has_its_weights(write_recipe: WriteRecipe) -> None:
    job = trained(write_recipe(lora="none", **STEPS))
    best = job.run.manifest["training"]["best_step"]
    tuned, step = (dict(model_named(job, name).named_parameters()) for name in ("tuned", f"step-{best}"))
    saved = load_file(job.run.checkpoint(best) / WEIGHTS)
    assert tuned.keys() == step.keys() == saved.keys()
    for name, value in saved.items():
        assert torch.equal(tuned[name], value) and torch.equal(step[name], value)


def test_other_weights_have_another_key_and_the_same_the_same(write_recipe: WriteRecipe, tiny_model: Path) -> None:
    path = write_recipe(**STEPS)
    job = trained(path)
    names = ("base", "step-4", "step-8")
    keys = {name: weights_key(job, name) for name in names}
    assert len(set(keys.values())) == len(names)
    assert {name: weights_key(Job(job.run.root), name) for name in names} == keys
    assert weights_key(Job(path, ["train.precision=bf16"]), "base") != keys["base"]


@pytest.mark.parametrize(
    ("name", "words"), [("step-5", r"step-5: no such folder; there are step-4, step-8"), ("best", "best")]
)
def test_weights_that_are_not_there_are_named_with_those_that_are(
    name: str, words: str, write_recipe: WriteRecipe
) -> None:
    job = trained(write_recipe(**STEPS))
    for ask in (weights_key, model_named):
        with pytest.raises(RunError, match=words):
            ask(job, name)
