"""The weights in a model folder's safetensors, read a few rows at a time: no model is ever in memory whole."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemtune.files import READING, os_errors
from gemtune.models.weights import stored_tensors, weight_files

# The names that transformers 5 has in memory, and those of Google's own files: both as the text models have them.
_SPELLINGS = (
    (re.compile(r"^(model\.language_model|language_model\.model)\."), "model."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^model\.(?=vision_tower\.|multi_modal_projector\.)"), ""),
    (re.compile(r"^vision_tower\.(?!vision_model\.)"), "vision_tower.vision_model."),
)
_BLOCK = 1 << 24  # weights that are read at once: 64 MiB as float32
_NUMPY = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


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
    """Every weight of a model folder, by the names of a text model; ModelError when a file is damaged.

    A vision-language model's tower is `vision_tower.vision_model.*`, its projector `multi_modal_projector.*`.
    """
    stored_tensors(folder)  # each header is read by safetensors, which finds what is damaged
    weights = {}
    for path in weight_files(folder):
        with os_errors(path, READING), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if entry.get("dtype") in _NUMPY:
                offset = 8 + length + entry["data_offsets"][0]
                weights[text_name(name)] = StoredWeight(path, offset, entry["dtype"], tuple(entry["shape"]))
    return weights


def text_name(name: str) -> str:
    """A weight's name as a text model has it, whatever it is called on disk.

    >>> text_name("language_model.model.norm.weight"), text_name("model.language_model.norm.weight")
    ('model.norm.weight', 'model.norm.weight')
    >>> text_name("model.vision_tower.encoder.layers.0.mlp.fc1.bias")
    'vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias'
    """
    for spelling, plain in _SPELLINGS:
        name = spelling.sub(plain, name)
    return name
