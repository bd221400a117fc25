"""What the headers of a folder's weight files say is what is in them, in one file or in several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gemtune.errors import ModelError
from gemtune.files import write_json
from gemtune.models.loading import load_model
from gemtune.models.weights import INDEX, SINGLE, require_size, stored_tensors


def sharded(folder: Path, target: Path) -> Path:
    """The weights of a folder in two files with an index."""
    tensors = load_file(folder / SINGLE)
    target.mkdir()
    shards = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for file in set(shards.values()):
        save_file({name: tensors[name] for name in tensors if shards[name] == file}, target / file)
    write_json(target / INDEX, {"weight_map": shards})
    return target


def test_headers_say_what_the_files_hold(tiny_model: Path, tmp_path: Path) -> None:
    tensors = load_file(tiny_model / SINGLE)
    stored = stored_tensors(tiny_model)
    assert {name: tensor.shape for name, tensor in stored.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    assert {tensor.dtype for tensor in stored.values()} == {"F32"}
    assert stored_tensors(sharded(tiny_model, tmp_path / "shards")) == stored


def test_a_config_may_describe_as_many_weights_as_there_are_and_no_more(tiny_model: Path) -> None:
    stored, weights = stored_tensors(tiny_model), sum(p.numel() for p in load_model(tiny_model).parameters())
    require_size(stored, weights, tiny_model)
    with pytest.raises(ModelError, match=f"describes {weights + 1:,} weights, its files hold {weights:,}"):
        require_size(stored, weights + 1, tiny_model)


def test_weights_in_another_form_are_refused_and_counters_are_not(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model\.safetensors in it"):
        stored_tensors(tmp_path)
    save_file({"a.weight": torch.ones(2), "position_ids": torch.arange(3)}, tmp_path / SINGLE)
    assert stored_tensors(tmp_path)["position_ids"].dtype == "I64"
    save_file({"a.weight": torch.ones(2, dtype=torch.int8)}, tmp_path / SINGLE)
    with pytest.raises(ModelError, match=r"the tensor a\.weight is I8; wanted one of F64"):
        stored_tensors(tmp_path)
