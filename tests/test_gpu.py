"""The same training on a CUDA device: near the CPU's fp32 losses in every precision, and resumable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gemtune import stages
from gemtune.stages import Job

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]

TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 1e-2}  # relative: the rounding of each type over three tiny layers


def losses(recipe: Path, *overrides: str) -> list[float]:
    job = Job.of(recipe, overrides, say=lambda text: None)
    stages.train(job)
    return [line["loss"] for line in job.run.metrics() if "loss" in line]


@pytest.mark.parametrize("precision", TOLERANCE)
def test_losses_on_the_gpu_follow_those_on_the_cpu(write_recipe: Callable[..., Path], precision: str) -> None:
    keys = {"train": {"max_steps": 8, "learning_rate": 1e-3}}
    reference = losses(write_recipe("cpu", **keys))
    found = losses(write_recipe("gpu", **keys), "train.device=cuda", f"train.precision={precision}")
    assert found == pytest.approx(reference, rel=TOLERANCE[precision])


def test_a_gpu_run_is_evaluated_and_reported(write_recipe: Callable[..., Path]) -> None:
    job = Job.of(write_recipe("gpu"), ("train.device=cuda", "train.precision=auto"), say=lambda text: None)
    page = stages.run(job)
    assert page.is_file()
    assert job.run.manifest["decisions"]["device"]["value"] == "cuda"
    assert all(line["peak_memory_gb"] > 0 for line in job.run.metrics() if "loss" in line)
