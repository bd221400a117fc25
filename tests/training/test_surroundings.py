"""What a machine brings that is not the recipe's: launchers, a second GPU, memory that runs out, work still queued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gemtune.errors import RunError
from gemtune.evaluation.generate import replies
from gemtune.models.adapters import attach_adapters
from gemtune.models.families import FAMILIES
from gemtune.models.loading import load_model
from gemtune.models.patching import install_kernels
from gemtune.models.structure import checkpoint_blocks, parts_of
from gemtune.pipeline import stages
from gemtune.pipeline.decisions import decide
from gemtune.pipeline.stages import Job
from gemtune.recipe.schema import Evaluate, Lora, Recipe
from gemtune.rendering.renderer import Example
from gemtune.training import run
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from gemtune.training.planner import GEMMA3, activation_bytes, choose_checkpointing, optimizer_bytes
from training_jobs import trained

WriteRecipe = Callable[..., Path]


def losses(job: Job) -> list[float]:
    return [line["loss"] for line in job.run.metrics() if "loss" in line]


def test_what_a_launcher_has_set_is_not_the_recipes(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"max_steps": 3}
    plain = losses(trained(write_recipe("plain", train=steps)))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert losses(trained(write_recipe("launched", train=steps))) == plain
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="WORLD_SIZE is 2: gemtune starts its workers itself"):
        trained(write_recipe("two"))


def test_a_second_gpu_stays_idle(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Trainer of transformers wraps a model in nn.DataParallel where its arguments count two GPUs."""
    job = Job(write_recipe(), say=lambda text: None)
    stages.prepare(job)
    setup = decide(job, job.base_model(), job.run.prepared_data().to_json())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    arguments = run._arguments(replace(setup, device="cuda"))
    assert arguments.device == torch.device("cuda:0") and arguments.n_gpu == 1


@pytest.mark.parametrize("family", [*FAMILIES])
def test_blocks_computed_twice_give_the_same_gradients(family: str, tmp_path: Path) -> None:
    """To the digit, whatever the family's blocks are; with adapters in them."""
    folder = FAMILIES[family].write_tiny(tmp_path / "model")
    examples = [Example([2, *range(300, 300 + length)], ((3, length),)) for length in (9, 40, 17)]

    def gradients(again: bool) -> dict[str, torch.Tensor]:
        model = install_kernels(attach_adapters(load_model(folder), Lora(), FAMILIES[family], [], 0)).train()
        if again:
            checkpoint_blocks(model)
        passes: list[int] = []
        decoder = parts_of(model)[0]
        block = getattr(decoder, "language_model", decoder).layers[1]
        block.self_attn.register_forward_pre_hook(lambda *_: passes.append(1))
        labelled_loss(model, micro_batch(examples))[0].backward()
        assert len(passes) == 1 + again
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    once, twice = gradients(False), gradients(True)
    assert once and once.keys() == twice.keys()
    assert all(torch.equal(twice[name], gradient) for name, gradient in once.items())


def test_blocks_are_computed_twice_where_the_longest_row_needs_it() -> None:
    recipe = Recipe(task="emoji", data=["rows.csv"])
    at_270m = GEMMA3["gemma-3-270m"]
    each = activation_bytes(recipe, at_270m, "bf16")
    trained_bytes = optimizer_bytes(recipe, at_270m)
    fits, why = choose_checkpointing(recipe, at_270m, "bf16", 1000, trained_bytes + 1000 * each / 0.8)
    assert not fits and "the longest row, 1000 tokens, needs" in why
    assert choose_checkpointing(recipe, at_270m, "bf16", 1000, trained_bytes + 1000 * each / 0.9)[0]
    assert activation_bytes(recipe, at_270m, "bf16", checkpointed=True) < each / 6


def test_a_row_that_does_not_fit_is_trained_in_blocks_computed_twice(write_recipe: WriteRecipe) -> None:
    plenty, said = trained(write_recipe("plenty")), list[str]()
    job = KeepsLittle(write_recipe("little", train={"micro_tokens": 1}), say=said.append)
    stages.train(job)
    assert any("a single row: the step is taken again, its blocks computed twice" in line for line in said)
    assert job.run.manifest["decisions"]["checkpointing"]["value"] is True
    assert losses(job) == pytest.approx(losses(plenty), rel=1e-5)


class KeepsLittle(Job):
    """A machine that cannot keep what the blocks of a step compute."""

    def base_model(self) -> Any:
        model = super().base_model()

        def full(block: Any, *_: Any) -> None:
            if block.training and not block.gradient_checkpointing:
                raise torch.OutOfMemoryError("Tried to allocate a block.")

        model.model.layers[1].register_forward_pre_hook(full)
        return model


def test_an_evaluation_that_does_not_fit_is_cut_smaller(write_recipe: WriteRecipe) -> None:
    plenty, said = trained(write_recipe("plenty")), list[str]()
    job = EvaluatesInLittle(write_recipe("little"), say=said.append)
    stages.train(job)
    assert any("evaluation ran out of memory with" in line for line in said)
    assert job.run.manifest["decisions"]["micro_tokens"]["value"] <= EvaluatesInLittle.ROOM
    for before, after in zip(plenty.run.metrics(), job.run.metrics(), strict=True):
        if "eval_loss" in before:
            assert after["eval_loss"] == pytest.approx(before["eval_loss"], rel=1e-5)


class EvaluatesInLittle(Job):
    """A machine with no room for evaluations of more than `ROOM` tokens; steps take what they need."""

    ROOM = 90

    def base_model(self) -> Any:
        model = super().base_model()

        def full(decoder: Any, args: Any, kwargs: dict[str, Any]) -> None:
            tokens = kwargs["input_ids"].shape[1] if kwargs.get("input_ids") is not None else 0
            is_evaluation = "document_lengths" in kwargs and not torch.is_grad_enabled()
            if is_evaluation and self.run.metrics_file.exists() and tokens > self.ROOM:
                raise torch.OutOfMemoryError(f"Tried to allocate {tokens} tokens.")

        model.model.register_forward_pre_hook(full, with_kwargs=True)
        return model


def test_replies_that_do_not_fit_side_by_side_are_fewer_at_a_time(write_recipe: WriteRecipe) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    asked = [job.task.asked(f"hello {number}") for number in range(7)]
    model, decoding = job.base_model(), Evaluate(max_new_tokens=4, batch_size=7)
    plenty = replies(model, job.renderer, asked, decoding)
    rows: list[int] = []

    def full(decoder: Any, args: Any, kwargs: dict[str, Any]) -> None:
        rows.append(len(kwargs["input_ids"]))
        if rows[-1] > 2:
            raise torch.OutOfMemoryError(f"Tried to allocate {rows[-1]} rows.")

    model.model.register_forward_pre_hook(full, with_kwargs=True)
    assert replies(model, job.renderer, asked, decoding) == plenty
    assert rows[:3] == [7, 3, 1] and max(rows[3:]) == 1
    model.model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none at all")))
    with pytest.raises(torch.OutOfMemoryError, match="none at all"):
        replies(model, job.renderer, asked, decoding)
