"""Cuts and padding: nobody lost, nobody twice, and padding changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemtune.models.adapters import attach_adapters
from gemtune.models.loading import load_model
from gemtune.models.patching import install_kernels
from gemtune.pipeline import stages
from gemtune.pipeline.stages import Job
from gemtune.recipe.schema import Lora
from gemtune.rendering.renderer import Example
from gemtune.rendering.token_table import ExampleTable
from gemtune.training.batching import cut, left_padded, micro_batch
from gemtune.training.loss import labelled_loss

rows = st.lists(st.integers(1, 200), min_size=1, max_size=60)


@given(lengths=rows, budget=st.integers(1, 400))
def test_a_cut_keeps_every_row_and_the_budget(lengths: list[int], budget: int) -> None:
    values = np.array(lengths)
    micros = list(cut(range(len(lengths)), values, budget))
    assert sorted(row for micro in micros for row in micro) == list(range(len(lengths)))
    for micro in micros:
        assert len(micro) == 1 or values[micro].sum() <= budget


def test_packing_changes_no_labelled_logit(tiny_model: Path) -> None:
    model = install_kernels(load_model(tiny_model))
    rng = np.random.default_rng(0)
    examples = []
    for length in (9, 40, 23, 61):  # longer than the sliding window of 24 too
        ids = [2, *rng.integers(110, 700, length - 1).tolist()]
        examples.append(Example(ids, ((length // 2, length),)))
    with torch.no_grad():
        together = labelled_loss(model, micro_batch(examples))[0].item()
        alone = sum(labelled_loss(model, micro_batch([e]))[0].item() for e in examples)
    assert abs(together - alone) < 1e-4 * alone


def test_left_padding_keeps_the_prompt_whole() -> None:
    ids, mask = left_padded([[2, 5, 6], [2]], 0)
    assert ids.tolist() == [[2, 5, 6], [0, 0, 2]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


WriteRecipe = Callable[..., Path]


@pytest.mark.parametrize("micro_tokens", [1, 150, 100_000], ids=["1 row at a time", "a few", "all at once"])
def test_how_a_batch_is_cut_changes_nothing(write_recipe: WriteRecipe, micro_tokens: int) -> None:
    job = Job(write_recipe(), say=lambda text: None)
    stages.prepare(job)
    table = ExampleTable(job.run.table("train"))

    def gradients(budget: int) -> dict[str, torch.Tensor]:
        from gemtune.training.batching import cut

        model = install_kernels(attach_adapters(load_model(job.folder), Lora(), job.family, [105, 106], 0)).train()
        rows = list(range(16))
        labelled = int(table.labelled[rows].sum())
        for micro in cut(rows, table.lengths, budget):
            loss, _ = labelled_loss(model, micro_batch([table[row] for row in micro]))
            (loss / labelled).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    whole, pieces = gradients(10**9), gradients(micro_tokens)
    assert whole.keys() == pieces.keys()
    for name in whole:
        torch.testing.assert_close(whole[name], pieces[name], rtol=1e-5, atol=1e-5)
