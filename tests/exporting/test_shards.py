"""Files that are written tensor by tensor are those that safetensors itself reads and writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gemtune.exporting.shards import write_shards
from gemtune.models.weights import StoredTensor, stored_tensors

TENSORS = {
    "a": torch.randn(3, 5).bfloat16(),
    "b": torch.randn(7),
    "c.position_ids": torch.arange(4),
    "one": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "z": torch.randn(2, 2, 2).half(),
}
NAMES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.int64: "I64", torch.float16: "F16"}
STORED = {name: StoredTensor(NAMES[value.dtype], tuple(value.shape)) for name, value in TENSORS.items()}


@pytest.mark.parametrize("most", [1, 40, 64, 10**9])
def test_they_are_read_as_they_were(most: int, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_shards(tmp_path, STORED, TENSORS.__getitem__, most, lambda done, total: seen.append((done, total)))
    files = sorted(tmp_path.glob("*.safetensors"))
    read = {name: value for path in files for name, value in load_file(path).items()}
    assert read.keys() == TENSORS.keys() and all(torch.equal(read[name], value) for name, value in TENSORS.items())
    assert stored_tensors(tmp_path) == STORED and seen[-1] == (6, 6)
    assert (len(files) == 1) == (most == 10**9)
    for path in files:
        header = int.from_bytes(path.read_bytes()[:8], "little")
        entries = json.loads(path.read_bytes()[8 : 8 + header])
        starts = [entry["data_offsets"][0] for name, entry in entries.items() if name != "__metadata__"]
        sizes = [TENSORS[name].element_size() for name in entries if name != "__metadata__"]
        assert header % 8 == 0 and all(start % size == 0 for start, size in zip(starts, sizes, strict=True))


def test_a_value_is_asked_for_when_its_turn_comes(tmp_path: Path) -> None:
    """So that memory holds one of them."""
    alive = 0

    def value(name: str) -> torch.Tensor:
        nonlocal alive
        alive += 1
        return TENSORS[name]

    write_shards(tmp_path, STORED, value, tick=lambda done, total: pytest.fail("early") if alive != done else None)
    assert alive == len(STORED)
