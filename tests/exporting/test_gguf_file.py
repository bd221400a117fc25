"""A GGUF file: the bytes are those of the gguf package's own encoders, and a file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gemtune.errors import GemtuneError
from gemtune.exporting import stored_weights
from gemtune.exporting.gguf_file import Tensor, write_gguf
from gemtune.exporting.stored_weights import weights_of

gguf = pytest.importorskip("gguf", reason="the gguf extra is optional")


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, stored_weights.StoredWeight]:
    torch.manual_seed(0)
    save_file({"a": torch.randn(9, 64), "b": torch.randn(64), "c": torch.randn(3, 2, 64)}, tmp_path / "w.safetensors")
    return weights_of(tmp_path / "w.safetensors")


@pytest.mark.parametrize("encoding", ["f32", "f16", "bf16", "q8_0", "q5_0", "q5_1"])
def test_the_bytes_are_the_packages(
    encoding: str,
    weights: dict[str, stored_weights.StoredWeight],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_weights, "_BLOCK", 128)  # two rows at a time
    tensors = {"x": Tensor(weights["a"], encoding, rows=7), "y": Tensor(weights["b"], "f32", shift=1.0)}
    tensors["z"] = Tensor(weights["c"], encoding)
    path = write_gguf(tmp_path / "m.gguf", "gemma3", {"gemma3.block_count": 3, "x.y": [0.5], "z": "ü"}, tensors)
    reader = gguf.GGUFReader(path)
    assert reader.fields["gemma3.block_count"].contents() == 3 and reader.fields["z"].contents() == "ü"
    kind = gguf.GGMLQuantizationType[encoding.upper()]
    values = {"x": next(weights["a"].blocks(7)), "y": next(weights["b"].blocks()) + 1, "z": next(weights["c"].blocks())}
    values["x"] = np.concatenate(list(weights["a"].blocks(7)))
    values["z"] = np.concatenate(list(weights["c"].blocks()))
    for tensor in reader.tensors:
        whole = values[tensor.name]
        encoded = gguf.quantize(whole, kind if whole.ndim > 1 else gguf.GGMLQuantizationType.F32)
        assert tensor.data.tobytes() == encoded.tobytes(), tensor.name
        assert list(tensor.shape)[::-1] == list(whole.shape)


def test_what_cannot_be_read_leaves_no_file(weights: dict[str, stored_weights.StoredWeight], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (tmp_path / "w.safetensors").unlink()
    with pytest.raises(GemtuneError, match="No such file"):
        write_gguf(folder / "m.gguf", "gemma3", {}, {"x": Tensor(weights["a"], "f32")})
    assert list(folder.iterdir()) == []
