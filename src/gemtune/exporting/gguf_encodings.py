"""How a GGUF file stores its matrices: which encoding each gets, and the bytes of rows in it.

The gguf package writes all but K-quants. Those are written by llama.cpp's own quantiser, in the library of xllamacpp.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemtune.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np

# By the name of a whole file, what most of its matrices are stored as: general.file_type.
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18, "bf16": 32}
EXACT = ("f32", "f16", "bf16")
# Of K-quants: the encoding of most matrices, and of those on which the answers hang most.
_MIXES = {"q4_k_m": ("q4_k", "q6_k"), "q5_k_m": ("q5_k", "q6_k"), "q6_k": ("q6_k", "q6_k")}
# Values of a row that are stored together, and what is taken where a row is no whole number of them.
_BLOCKS = {"q4_k": 256, "q5_k": 256, "q6_k": 256, "q5_0": 32, "q5_1": 32, "q8_0": 32}
_INSTEAD = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "q5_0": "f16", "q5_1": "f16", "q8_0": "f16"}
_ROWS = 256  # that a thread quantises at once


def matrix_encoding(file: str, name: str, width: int, layers: int, head: str) -> str:
    """How a file stores a matrix with rows of `width` values; of K-quants as llama.cpp's own tool would.

    `head` is the name of the matrix that scores the words: the embedding's, where the two are one.

    >>> [matrix_encoding("q8_0", "blk.0.ffn_up.weight", width, 18, "") for width in (640, 48)]
    ['q8_0', 'f16']
    >>> [matrix_encoding("q4_k_m", f"blk.{layer}.ffn_down.weight", 2048, 18, "") for layer in (1, 2, 3, 4)]
    ['q6_k', 'q4_k', 'q4_k', 'q6_k']
    """
    encoding = file
    if file in _MIXES:
        most, best = _MIXES[file]
        encoding = best if name == head or _is_weighty(name, layers) else most
    while width % _BLOCKS.get(encoding, 1):
        encoding = _INSTEAD[encoding]
    return encoding


def _is_weighty(name: str, layers: int) -> bool:
    """Whether llama.cpp spends more bits on a matrix: of the first and the last layers, and of each third."""
    place, _, matrix = name.removeprefix("blk.").partition(".")
    if matrix not in ("attn_v.weight", "ffn_down.weight"):
        return False
    layer, eighth = int(place), layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def encoded(rows: np.ndarray, encoding: str) -> np.ndarray:
    """The bytes of rows (..., K) in float32."""
    from gguf import GGMLQuantizationType, quantize

    kind = GGMLQuantizationType[encoding.upper()]
    return _k_quantised(rows, kind) if encoding.endswith("_k") else quantize(rows, kind)


def _k_quantised(rows: np.ndarray, kind: int) -> np.ndarray:
    """By llama.cpp, some rows in each thread: it takes a fifth of a second per million values."""
    import numpy as np
    from gguf import quant_shape_to_byte_shape

    values = np.ascontiguousarray(rows, np.float32)
    count, width = values.size // values.shape[-1], values.shape[-1]
    out = np.empty(quant_shape_to_byte_shape(values.shape, kind), np.uint8)
    quantise, pointers = _quantiser(), (values.ctypes.data, out.ctypes.data)

    def piece(first: int) -> None:
        quantise(int(kind), *pointers, first * width, min(_ROWS, count - first), width, None)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(piece, range(0, count, _ROWS)))
    return out


@cache
def _quantiser() -> Any:
    """`ggml_quantize_chunk`: (type, values, bytes, first value, rows, values of a row, importance)."""
    spec = find_spec("xllamacpp")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise MissingExtra("writing K-quants", "gguf")
    (library,) = Path(folders[0]).glob("xllamacpp*.so")
    function = ctypes.CDLL(str(library)).ggml_quantize_chunk
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    function.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    function.restype = ctypes.c_size_t
    return function
