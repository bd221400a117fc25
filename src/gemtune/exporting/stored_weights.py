"""The weights in a model folder's safetensors, read a few rows at a time: no model is ever in memory whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemtune.files import READING, os_errors
from gemtune.models.boundary import loading
from gemtune.models.weights import plain_name, stored_tensors, weight_files

_BLOCK = 1 << 24  # weights that are read at once: 64 MiB as float32
_NUMPY: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True)
class StoredWeight:
    """Where a weight lies in a file."""

    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]

    def blocks(self, rows: int | None = None) -> Iterator[np.ndarray]:
        """The weight, or its first `rows` rows, in float32, some rows at a time: (R, ...) each."""
        dtype, width = _NUMPY[self.dtype], math.prod(self.shape[1:])
        count = self.shape[0] if rows is None else rows
        step = max(1, _BLOCK // width)
        with os_errors(self.path, READING), self.path.open("rb") as file:
            file.seek(self.offset)
            for start in range(0, count, step):
                size = min(step, count - start)
                values = np.frombuffer(file.read(size * width * dtype.itemsize), dtype)
                if self.dtype == "BF16":  # the upper half of a float32
                    values = (values.astype("<u4") << 16).view("<f4")
                yield values.astype(np.float32, copy=False).reshape(size, *self.shape[1:])


def stored_weights(folder: Path) -> dict[str, StoredWeight]:
    """Every weight of a model folder, by its plain name; ModelError when a file is damaged.

    >>> plain_name("model.language_model.norm.weight"), plain_name("vision_tower.vision_model.post_layernorm.bias")
    ('norm.weight', 'vision_tower.post_layernorm.bias')
    """
    stored_tensors(folder)  # safetensors reads each header, and finds what is damaged
    return {name: weight for path in weight_files(folder) for name, weight in weights_of(path).items()}


def weights_of(path: Path) -> dict[str, StoredWeight]:
    """Every weight in a safetensors file, by its plain name."""
    with os_errors(path, READING), loading(path), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        plain_name(name): StoredWeight(
            path, 8 + length + entry["data_offsets"][0], entry["dtype"], tuple(entry["shape"])
        )
        for name, entry in header.items()
        if entry.get("dtype") in _NUMPY
    }
