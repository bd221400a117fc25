"""Memory and time before a run, against the weights and the optimizer state that a model of that shape really has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from gemtune.models.adapters import attach_adapters, train_every_weight
from gemtune.models.families import config_of, family_of, gemma3
from gemtune.models.loading import load_model
from gemtune.pipeline import stages
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Recipe
from gemtune.training.planner import GEMMA3, Estimate, ModelShape, choose_micro_tokens, elsewhere, estimate


def recipe(**keys: object) -> Recipe:
    return Recipe.model_validate({"name": "t", "task": "emoji", "data": "e.csv", **keys})


def plan_of(shape: ModelShape, wanted: Recipe, tokens: int = 1000) -> Estimate:
    settings = {"micro_tokens": 512, "tokens": tokens, "labelled": 0.25, "tflops": 1.0}
    return estimate(shape, wanted, device="cuda", precision="fp32", **settings)


def is_of_a_block(name: str) -> bool:
    return "layers." in name and "vision" not in name


def test_a_shape_has_the_weights_of_its_model(tiny_model: Path) -> None:
    shape, model = ModelShape.of(config_of(tiny_model)), load_model(tiny_model)
    blocks = [module for name, module in model.named_modules() if isinstance(module, nn.Linear) and is_of_a_block(name)]
    assert shape.block_weights == sum(layer.weight.numel() for layer in blocks)
    assert shape.embedding == model.get_input_embeddings().weight.numel()
    assert shape.vision_weights == 0


def test_the_tower_of_a_vision_language_model_is_counted(tmp_path: Path) -> None:
    folder = gemma3.write_tiny_vision(tmp_path / "model")
    shape, model = ModelShape.of(config_of(folder)), load_model(folder)
    tower = [p for name, p in model.named_parameters() if "vision_tower" in name and "layers." in name and p.dim() == 2]
    assert shape.vision_weights == sum(weight.numel() for weight in tower)


def test_the_optimizer_holds_four_numbers_of_every_trained_weight(tiny_model: Path) -> None:
    shape, model = ModelShape.of(config_of(tiny_model)), load_model(tiny_model)
    family, lora = family_of(tiny_model), recipe()
    adapters = attach_adapters(model, lora.lora, family, [], 0)  # type: ignore[arg-type]
    trained = sum(p.numel() for p in adapters.parameters() if p.requires_grad)
    assert plan_of(shape, lora).memory_gb["optimizer"] * 1e9 == pytest.approx(trained * 4 * 4)
    full = load_model(tiny_model)
    train_every_weight(full, family, "text")
    matrices = sum(p.numel() for p in full.parameters() if p.requires_grad and p.dim() == 2)
    # The weights are their own masters: a gradient and two moments beside them.
    assert plan_of(shape, recipe(lora="none")).memory_gb["optimizer"] * 1e9 == pytest.approx(matrices * 3 * 4)


def test_time_is_in_proportion_to_tokens_and_memory_is_not() -> None:
    shape = GEMMA3["gemma-3-270m"]
    once, twice = (plan_of(shape, recipe(), tokens=tokens) for tokens in (1000, 2000))
    assert twice.seconds == pytest.approx(2 * once.seconds)
    assert twice.memory_gb == once.memory_gb


def test_four_bits_are_advised_only_where_sixteen_do_not_fit() -> None:
    rows = {row["model"]: row["devices"] for row in elsewhere(recipe(), tokens=10**6, labelled=0.1)}
    assert rows.keys() == GEMMA3.keys()
    assert not any("nf4" in cell for cell in rows["gemma-3-270m"].values())
    assert "nf4" in rows["gemma-3-12b"]["L4"] and "nf4" not in rows["gemma-3-12b"]["H100 80"]
    assert rows["gemma-3-27b"]["T4"] == "-"
    every_weight = {row["model"]: row["devices"] for row in elsewhere(recipe(lora="none"), tokens=10**6, labelled=0.1)}
    assert every_weight["gemma-3-27b"].keys() == rows["gemma-3-27b"].keys()
    assert set(every_weight["gemma-3-27b"].values()) == {"-"}


def test_a_micro_step_holds_what_the_recipe_says_or_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = GEMMA3["gemma-3-4b"]
    assert choose_micro_tokens(recipe(train={"micro_tokens": 77}), shape, "cpu", "fp32") == (77, "the recipe says so")
    chosen = []
    for gigabytes in (0, 1, 2, 4, 500):
        monkeypatch.setattr("gemtune.training.planner.free_bytes", lambda device, free=gigabytes * 10**9: free)
        tokens, why = choose_micro_tokens(recipe(), shape, "cpu", "bf16")
        assert f"{gigabytes:.1f} GB free" in why
        chosen.append(tokens)
    assert chosen == sorted(set(chosen)) and chosen[0] == 1, "more memory, more tokens; never none"


def test_the_plan_counts_the_steps_and_tokens_that_training_takes(write_recipe: Callable[..., Path]) -> None:
    path = write_recipe(train={"epochs": 2, "early_stopping": None})
    plan = stages.plan(Job(path))
    training = stages.train(Job(path, say=lambda text: None))
    assert (plan["steps"], plan["tokens"]) == (training["planned_steps"], training["tokens"])
    assert plan["seconds"] > 0 and torch.isfinite(torch.tensor(list(plan["memory_gb"].values()))).all()
