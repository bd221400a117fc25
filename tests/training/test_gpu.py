"""The same training on a CUDA device: near the CPU's fp32 losses in every precision, and resumable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gemtune.kernels.attention import documents_attention
from gemtune.models.loading import DTYPES
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]

TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 1e-2}  # relative: the rounding of each type over three tiny layers


def losses(recipe: Path, *overrides: str) -> list[float]:
    job = Job(recipe, overrides, say=lambda text: None)
    stages.train(job)
    return [line["loss"] for line in job.run.metrics() if "loss" in line]


@pytest.mark.parametrize("precision", TOLERANCE)
def test_losses_on_the_gpu_follow_those_on_the_cpu(write_recipe: Callable[..., Path], precision: str) -> None:
    keys = {"train": {"max_steps": 8, "learning_rate": 1e-3}}
    reference = losses(write_recipe("cpu", **keys))
    found = losses(write_recipe("gpu", **keys), "train.device=cuda", f"train.precision={precision}")
    assert found == pytest.approx(reference, rel=TOLERANCE[precision])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("window", [None, 24])
def test_packed_attention_and_its_gradients_follow_the_cpu(precision: str, window: int | None) -> None:
    lengths, spans = (5, 70, 33, 128, 1), ((), (), ((2, 18), (20, 30)), (), ())
    torch.manual_seed(0)
    tensors = [torch.randn(sum(lengths), heads, 256) for heads in (4, 1, 1)]
    d_out = torch.randn(sum(lengths), 4, 256)

    def found(device: str, dtype: torch.dtype) -> list[torch.Tensor]:
        query, key, value = (t.to(device, dtype).requires_grad_() for t in tensors)
        out = documents_attention(query, key, value, lengths, 256**-0.5, window, spans)
        out.backward(d_out.to(device, dtype))
        return [t.detach().float().cpu() for t in (out, *(t.grad for t in (query, key, value) if t.grad is not None))]

    for ours, reference in zip(found("cuda", DTYPES[precision]), found("cpu", torch.float32), strict=True):
        assert (ours - reference).norm() < 1e-2 * reference.norm()


def test_a_gpu_run_is_evaluated_and_reported(write_recipe: Callable[..., Path]) -> None:
    job = Job(write_recipe("gpu"), ("train.device=cuda", "train.precision=auto"), say=lambda text: None)
    page = stages.run(job)
    assert page.is_file()
    assert job.run.manifest["decisions"]["device"]["value"] == "cuda"
    assert all(line["peak_memory_gb"] > 0 for line in job.run.metrics() if "loss" in line)
