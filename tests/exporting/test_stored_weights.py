"""Weights read from safetensors a few rows at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gemtune.errors import ModelError
from gemtune.exporting import stored_weights as module
from gemtune.exporting.stored_weights import stored_weights, weights_of


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_rows_are_those_of_the_tensor(dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 15)  # so that a tensor is read in several pieces
    torch.manual_seed(0)
    tensors = {"model.embed_tokens.weight": torch.randn(7, 5).to(dtype), "model.norm.weight": torch.randn(40).to(dtype)}
    save_file(tensors, tmp_path / "x.safetensors")
    weights = weights_of(tmp_path / "x.safetensors")
    for name, tensor in tensors.items():
        blocks = list(weights[name.removeprefix("model.")].blocks())
        assert len(blocks) == 3 and all(block.dtype == np.float32 for block in blocks)
        assert np.array_equal(np.concatenate(blocks), tensor.float().numpy())
    (first,) = weights["embed_tokens.weight"].blocks(rows=2)
    assert np.array_equal(first, tensors["model.embed_tokens.weight"][:2].float().numpy())


def test_a_damaged_file_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ModelError, match="fetch the model again"):
        stored_weights(tmp_path)
