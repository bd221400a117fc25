"""A recipe trained to its end, what its adapter holds, and the loss that plain PyTorch gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job


def trained(recipe: Path, *overrides: str) -> Job:
    job = Job(recipe, overrides, say=lambda text: None)
    stages.train(job)
    return job


def adapter(job: Job) -> dict[str, torch.Tensor]:
    return load_file(job.run.adapter / "adapter_model.safetensors")


def full_logits_loss(model: Any, ids: list[int], spans: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """The reference: one row, full logits, PyTorch's own cross-entropy over labels shifted by one."""
    labels = torch.full((len(ids),), -100)
    for start, end in spans:
        labels[start:end] = torch.tensor(ids[start:end])
    logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    return F.cross_entropy(logits[:-1], labels[1:], reduction="sum")
