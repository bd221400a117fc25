"""Whether a folder's safetensors are the weights of its config: every one there, with its shape and a float type."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gemtune.errors import ModelError
from gemtune.files import READING, JsonObject, os_errors
from gemtune.models.boundary import loading

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
PEFT = "base_model.model."  # before the name of a model's module in an adapter's file
_WRAPPERS = {"model", "language_model", "vision_model"}  # parts of names that come and go between releases
COUNTERS = ("position_ids",)  # buffers of whole numbers that some checkpoints keep, and no model needs


class StoredTensor(NamedTuple):
    """What a file's header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor in a folder's weight files, by the headers alone; ModelError when they are damaged or no weights."""
    tensors = {name: tensor for path in weight_files(folder) for name, tensor in tensors_of(path).items()}
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS and not name.endswith(COUNTERS):
            raise ModelError(
                f"{folder}: the tensor {name} is {tensor.dtype}; wanted one of {', '.join(FLOATS)}: give the model "
                "that these weights were made from"
            )
    return tensors


def tensors_of(path: Path) -> dict[str, StoredTensor]:
    """What the header of one safetensors file says."""
    from safetensors import safe_open

    tensors = {}
    with os_errors(path, READING), loading(path), safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118  # not a dict
            piece = file.get_slice(name)
            tensors[name] = StoredTensor(piece.get_dtype(), tuple(piece.get_shape()))
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder; ModelError when one is not there."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        raise ModelError(
            f"{folder}: no {SINGLE} in it; gemtune reads safetensors alone: convert the weights, or fetch them again"
        )
    with os_errors(index, READING), loading(index):
        value: JsonObject = json.loads(index.read_text(encoding="utf-8"))
        names = sorted({str(name) for name in value["weight_map"].values()})
    there = {path.name for path in folder.iterdir() if path.is_file()}
    for name in names:
        if name not in there:
            raise ModelError(f"{index}: names {name!r}, which is no file in the folder; fetch the model again")
    if not names:
        raise ModelError(f"{index}: names no file; fetch the model again")
    return [folder / name for name in names]


def require_size(tensors: Mapping[str, StoredTensor], wanted: int, folder: Path) -> None:
    """ModelError when a config describes more weights than the files hold, before memory is taken for them."""
    stored = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if stored < wanted:
        raise ModelError(
            f"{folder}: its config describes {wanted:,} weights, its files hold {stored:,}; they are not of one model: "
            "fetch it again"
        )


def require_whole(missing: set[str], unexpected: set[str], folder: Path) -> None:
    """ModelError when weights of the architecture did not come from the files: they would be random."""
    if missing:
        others = f", and {len(unexpected)} that it does not know, first {min(unexpected)}" if unexpected else ""
        raise ModelError(
            f"{folder}: {len(missing)} of the model's weights are not in its files, first {min(missing)}{others}; they "
            "are of another model, or cut: fetch it again"
        )


def plain_name(name: str) -> str:
    """A tensor's name without what wraps the same module in one release of transformers and not in another.

    >>> plain_name("language_model.model.layers.0.mlp.up_proj.weight")
    'layers.0.mlp.up_proj.weight'
    >>> plain_name("base_model.model.model.language_model.layers.0.mlp.up_proj.weight")
    'layers.0.mlp.up_proj.weight'
    """
    return ".".join(part for part in name.removeprefix(PEFT).split(".") if part not in _WRAPPERS)
