"""A GGUF file, written tensor by tensor: peak memory is that of one block of rows, whatever the model's size."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gemtune.errors import MissingExtra
from gemtune.exporting.gguf_encodings import encoded
from gemtune.exporting.stored_weights import StoredWeight
from gemtune.files import os_errors

if TYPE_CHECKING:
    from gguf import GGUFWriter

FieldValue = bool | int | float | str | list[str] | list[int] | list[float]
Fields = dict[str, FieldValue]  # a GGUF's metadata by its keys; numbers are written as uint32 and float32


@dataclass(frozen=True)
class Tensor:
    """A tensor of a GGUF file: the stored weight it is made of, and what changes on the way."""

    weight: StoredWeight
    encoding: str
    rows: int | None = None  # the first rows alone, of more
    shift: float = 0.0  # added to each value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape if self.rows is None else (self.rows, *self.weight.shape[1:])

    def blocks(self) -> Iterator[np.ndarray]:
        """Its values in float32, some rows at a time."""
        for block in self.weight.blocks(self.rows):
            yield block + np.float32(self.shift) if self.shift else block


def write_gguf(path: Path, architecture: str, fields: Fields, tensors: Mapping[str, Tensor]) -> Path:
    """Writes a whole GGUF file, or leaves what is there."""
    try:
        from gguf import GGMLQuantizationType, GGUFWriter
    except ImportError as error:
        raise MissingExtra("writing a GGUF file", "gguf") from error
    kinds = {name: GGMLQuantizationType[tensor.encoding.upper()] for name, tensor in tensors.items()}
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            writer = GGUFWriter(temporary, architecture)
            for key, value in fields.items():
                _add(writer, key, value)
            for name, tensor in tensors.items():
                size = _bytes(tensor.shape, kinds[name])
                writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size, raw_dtype=kinds[name])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            (out,) = writer.fout
            for tensor in tensors.values():
                writer.write_padding(out, out.tell())
                for block in tensor.blocks():
                    encoded(block, tensor.encoding).tofile(out)
            writer.write_padding(out, out.tell())
            writer.close()
            temporary.replace(path)
    return path


def _add(writer: GGUFWriter, key: str, value: FieldValue) -> None:
    add = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    add[type(value)](key, value)


def _bytes(shape: tuple[int, ...], kind: int) -> int:
    from gguf import GGML_QUANT_SIZES

    values, size = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // values * size
