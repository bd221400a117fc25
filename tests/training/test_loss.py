"""The loss equals plain cross-entropy over full logits, in train and in eval mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gemtune.models.adapters import attach_adapters
from gemtune.models.families import family_of
from gemtune.models.loading import load_model
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.recipe.schema import Lora
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.batching import micro_batch
from gemtune.training.loss import labelled_loss
from training_jobs import full_logits_loss

WriteRecipe = Callable[..., Path]


def test_loss_equals_plain_cross_entropy_over_full_logits(write_recipe: WriteRecipe, tiny_model: Path) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    stages.prepare(job)
    table = ExampleTable(job.run.table("train"))
    model = install_kernels(attach_adapters(load_model(tiny_model), Lora(), family_of(tiny_model), [105, 106], 0))
    examples = [table[row] for row in range(24)]
    ours, _ = labelled_loss(model, micro_batch(examples))
    reference = sum(full_logits_loss(model, e.input_ids, e.spans) for e in examples)
    assert ours.item() == pytest.approx(reference.item(), rel=1e-6)
