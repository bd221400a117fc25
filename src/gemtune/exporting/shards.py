"""Safetensors written tensor by tensor: a folder of weights larger than memory, in files of a size."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor, uint8

from gemtune.files import write_json
from gemtune.models.weights import INDEX, SINGLE, StoredTensor

SHARD_BYTES = 5_000_000_000  # of one file at most, as transformers cuts them
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

Tensors = Mapping[str, StoredTensor]


def write_shards(
    folder: Path,
    tensors: Tensors,
    value_of: Callable[[str], Tensor],
    most: int = SHARD_BYTES,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes tensors in their order, each asked for when its turn comes; with an index where there are several files.

    `most` is the bytes of a file, unless a single tensor has more.
    """
    shards = list(_cut(tensors, most))
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else [SINGLE]
    done = 0
    for file, shard in zip(names, shards, strict=True):
        with (folder / file).open("wb") as out:
            out.write(_header(shard))
            for name in shard:
                value = value_of(name)
                out.write(value.contiguous().reshape(-1).view(uint8).numpy().data)
                done += 1
                tick(done, len(tensors))
    if len(shards) > 1:
        weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        write_json(
            folder / INDEX,
            {"metadata": {"total_size": sum(map(_bytes_of, tensors.values()))}, "weight_map": weight_map},
        )


def _cut(tensors: Tensors, most: int) -> Iterator[dict[str, StoredTensor]]:
    """The tensors of each file; within it the widest type first, which keeps all of them aligned."""
    shard: dict[str, StoredTensor] = {}
    size = 0
    for name, tensor in tensors.items():
        if shard and size + _bytes_of(tensor) > most:
            yield _aligned(shard)
            shard, size = {}, 0
        shard[name] = tensor
        size += _bytes_of(tensor)
    yield _aligned(shard)


def _aligned(shard: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    return dict(sorted(shard.items(), key=lambda entry: -_ITEM_BYTES[entry[1].dtype]))


def _bytes_of(tensor: StoredTensor) -> int:
    """
    >>> _bytes_of(StoredTensor("BF16", (3, 2)))
    12
    """
    return math.prod(tensor.shape) * _ITEM_BYTES[tensor.dtype]


def _header(shard: Tensors) -> bytes:
    """The length of what follows in 8 bytes, then each tensor's type, shape and place as JSON, filled with blanks."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor in shard.items():
        end = start + _bytes_of(tensor)
        entries[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
