"""Training against plain PyTorch, against itself cut differently, and against kill -9."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gemtune.models.adapters import attach_adapters
from gemtune.models.families import family_of
from gemtune.models.loading import load_model
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.rendering.token_table import ExampleTable
from gemtune.training import checkpoint as ckpt
from gemtune.training.order import Order
from training_jobs import adapter, full_logits_loss, trained

WriteRecipe = Callable[..., Path]


def test_training_equals_a_plain_pytorch_loop(write_recipe: WriteRecipe, tiny_model: Path) -> None:
    job = trained(
        write_recipe(
            train={
                "schedule": "constant",
                "warmup_ratio": 0.0,
                "learning_rate": 1e-3,
                "early_stopping": None,
                "keep_checkpoints": 99,
            }
        )
    )
    table = ExampleTable(job.run.table("train"))
    model = attach_adapters(
        load_model(tiny_model), job.recipe.lora, family_of(tiny_model), [105, 106], job.recipe.train.seed
    )
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    losses = []
    for rows in Order(table.weights, batch_size=8, epochs=1, seed=0):
        examples = [table[int(row)] for row in rows]
        labelled = sum(end - start for e in examples for start, end in e.spans)
        loss = sum(full_logits_loss(model, e.input_ids, e.spans) for e in examples) / labelled
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    logged = [line["loss"] for line in job.run.metrics() if "loss" in line]
    assert logged == pytest.approx(losses, rel=1e-4)
    last = ckpt.checkpoints(job.run)[0][1]
    ours = load_file(last / ckpt.WEIGHTS)
    plain = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    assert ours.keys() == plain.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, plain[name].detach(), rtol=1e-3, atol=2e-5)


def test_nf4_trains_after_an_evaluation(write_recipe: WriteRecipe) -> None:
    pytest.importorskip("bitsandbytes", reason="the qlora extra is optional")
    job = trained(write_recipe(quantize="nf4", train={"eval_steps": 3, "learning_rate": 3e-3}))
    lines = job.run.metrics()
    assert all(line["grad_norm"] > 0 for line in lines if "loss" in line)
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert losses[-1] < losses[0]
    moved = [name for name, value in adapter(job).items() if "lora_B" in name and value.abs().max() > 0]
    assert len(moved) == sum("lora_B" in name for name in adapter(job)), "every adapter got a gradient"


class SmallMachine(Job):
    """A machine whose memory takes `ROOM` tokens a micro-batch."""

    ROOM = 90

    def base_model(self) -> Any:
        model = super().base_model()

        def full(decoder: Any, args: Any, kwargs: dict[str, Any]) -> None:
            tokens = kwargs["input_ids"].shape[1] if kwargs.get("input_ids") is not None else 0
            if decoder.training and tokens > self.ROOM:
                raise torch.OutOfMemoryError(f"Tried to allocate {tokens} tokens.")

        model.model.register_forward_pre_hook(full, with_kwargs=True)
        return model


def test_out_of_memory_cuts_smaller_and_changes_nothing_else(write_recipe: WriteRecipe) -> None:
    plenty = trained(write_recipe("plenty"))
    said: list[str] = []
    job = SmallMachine(write_recipe("small"), say=said.append)
    stages.train(job)
    assert any("ran out of memory" in line and "Tried to allocate" in line for line in said)
    assert job.run.manifest["decisions"]["micro_tokens"]["value"] <= SmallMachine.ROOM
    pairs = zip(plenty.run.metrics(), job.run.metrics(), strict=True)
    for before, after in pairs:
        assert before["step"] == after["step"] and before.get("tokens") == after.get("tokens")
        if "loss" in before:
            assert after["loss"] == pytest.approx(before["loss"], rel=1e-5)
    assert len(adapter(plenty)) == len(adapter(job))
    for name, value in adapter(plenty).items():
        torch.testing.assert_close(adapter(job)[name], value, rtol=1e-4, atol=1e-5)


def test_a_single_row_that_does_not_fit_says_so(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmallMachine, "ROOM", 10)
    with pytest.raises(stages.RunError, match=r"out of memory with a single row of \d+ tokens.*train\.max_length"):
        stages.train(SmallMachine(write_recipe(), say=lambda text: None))
