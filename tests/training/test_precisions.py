"""Training in bf16 and fp16 beside fp32, on a CPU: what is rounded, what is kept whole, what fp16 cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gemtune.models.families import write_tiny
from gemtune.models.loading import load_model
from gemtune.pipeline.stages import Job
from gemtune.training import checkpoint, trainer
from training_jobs import trained

WriteRecipe = Callable[..., Path]
STEPS = {"max_steps": 6, "learning_rate": 1e-3, "eval_steps": 3}


def losses(job: Job) -> list[float]:
    return [line[name] for line in job.run.metrics() for name in ("loss", "eval_loss") if name in line]


MODELS: dict[str, dict[str, Any]] = {
    "adapters": {},
    "with dropout, so in plain PyTorch": {"lora": {"dropout": 0.001}},
    "over NF4": {"quantize": "nf4"},
    "every weight": {"lora": "none"},
    "qwen3": {"model": "qwen3"},
}


@pytest.mark.parametrize("keys", MODELS.values(), ids=MODELS)
def test_fp16_follows_fp32(write_recipe: WriteRecipe, tmp_path: Path, keys: dict[str, Any]) -> None:
    if "quantize" in keys:
        pytest.importorskip("bitsandbytes", reason="the qlora extra is optional")
    if "model" in keys:
        keys = {**keys, "model": str(write_tiny(keys["model"], tmp_path / "model"))}
    whole = trained(write_recipe("whole", **keys, train=STEPS))
    half = trained(write_recipe("half", **keys, train=STEPS), "train.precision=fp16")
    assert losses(half) == pytest.approx(losses(whole), rel=5e-3)
    lines = [line for line in half.run.metrics() if "loss" in line]
    assert [line["skipped_steps"] for line in lines] == [0] * len(lines)
    assert all(line["grad_norm"] > 0 for line in lines)


def test_a_step_whose_gradients_overflow_is_skipped_and_said(
    write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "FIRST_SCALE", 2.0**24)
    job = trained(write_recipe(train=STEPS), "train.precision=fp16", "train.logging_steps=2", "train.max_steps=14")
    lines = [line for line in job.run.metrics() if "loss" in line]
    assert lines[0]["skipped_steps"] == 2 and lines[0]["grad_norm"] is None
    assert lines[-1]["skipped_steps"] == 0 and lines[-1]["grad_norm"] > 0
    text = (job.run.root / "metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text


def test_every_weight_moves_in_bf16_as_in_fp32(write_recipe: WriteRecipe) -> None:
    """Weights that were their own masters in bf16 stood still where a step is under half of their last digit."""
    constant = {"max_steps": 20, "learning_rate": 2e-5, "schedule": "constant", "warmup_ratio": 0.0, "eval_steps": 20}
    moved = {}
    for precision in ("fp32", "bf16"):
        job = trained(write_recipe(precision, lora="none", train=constant), f"train.precision={precision}")
        before = dict(load_model(job.folder).named_parameters())
        masters = load_file(checkpoint.checkpoints(job.run)[0][1] / checkpoint.WEIGHTS)
        assert {weight.dtype for weight in masters.values()} == {torch.float32}
        changed = [masters[name] != weight for name, weight in before.items()]
        moved[precision] = (sum(int(c.sum()) for c in changed) / sum(c.numel() for c in changed), losses(job)[-1])
        saved = {weight.dtype for weight in load_file(job.run.full_model / "model.safetensors").values()}
        assert saved == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert moved["bf16"][0] == pytest.approx(moved["fp32"][0], rel=0.01)
    assert moved["bf16"][1] == pytest.approx(moved["fp32"][1], rel=5e-3)
