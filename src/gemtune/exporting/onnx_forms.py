"""The forms in which an ONNX graph holds the matrices of a model: float32, and 8 bits for three kinds of runtime.

8 bits means one scale per 32 weights of a row, the same integers in every form; embedding and head share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from gemtune.exporting.onnx_graph import Array, Form, Graph, whole

BLOCK = 32
MIDDLE = 128  # what MatMulNBits takes off an unsigned byte


def quantised(rows: Array) -> tuple[Array, Array]:
    """Rows (N, K) as signed bytes (N, K / 32, 32) and scales (N, K / 32); the last block is filled up with zeros.

    >>> integers, scales = quantised(np.array([[0.5, -1.0, 0.25]], np.float32))
    >>> integers[0, 0, :4].tolist(), (scales * 127).tolist()
    ([64, -127, 32, 0], [[1.0]])
    """
    count, width = rows.shape
    filled = np.zeros((count, -(-width // BLOCK) * BLOCK), np.float32)
    filled[:, :width] = rows
    blocks = filled.reshape(count, -1, BLOCK)
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    return np.rint(blocks * inverse[..., None]).astype(np.int8), scales


class Float32:
    """The weights as they are, widened to float32."""

    def linear(self, graph: Graph, name: str, x: str) -> str:
        return graph.node("MatMul", x, graph.store(name, whole(graph.weight(name)).T))

    def head(self, graph: Graph, name: str, x: str) -> str:
        return graph.node("Gemm", x, self._stored(graph, name), transB=1)

    def embed(self, graph: Graph, name: str, ids: str) -> str:
        return graph.node("Gather", self._stored(graph, name), ids)

    def _stored(self, graph: Graph, name: str) -> str:
        return name if graph.has(name) else graph.store(name, graph.weight(name).blocks())


@dataclass(frozen=True)
class Blocks:
    """MatMulNBits, ONNX Runtime's own product with 8-bit weights.

    `accuracy_level` 4 rounds what enters a product to 8 bits, too, and is the fast one on a CPU (1.1 ms against 277 for
    640 x 16384); 0 keeps it in float32, which WebGPU computes exactly.
    """

    accuracy_level: int

    def linear(self, graph: Graph, name: str, x: str) -> str:
        count, width = graph.weight(name).shape
        sizes = {"N": count, "K": width, "bits": 8, "block_size": BLOCK, "accuracy_level": self.accuracy_level}
        return graph.node("MatMulNBits", x, *self._stored(graph, name), domain="com.microsoft", **sizes)

    head = linear

    def embed(self, graph: Graph, name: str, ids: str) -> str:
        integers, scales = self._stored(graph, name)
        rows = graph.node("Cast", graph.node("Gather", integers, ids), to=TensorProto.FLOAT)  # (B, S, blocks, 32)
        rows = graph.node("Sub", rows, graph.constant(MIDDLE, np.float32))
        return _widened(graph, name, rows, graph.node("Gather", scales, ids), [0, 0, -1])

    def _stored(self, graph: Graph, name: str) -> tuple[str, str]:
        return _store_blocks(graph, name, MIDDLE)


class Folded:
    """Signed bytes that the runtime widens once, when it loads: float32 speed and memory from a file of a quarter.

    For runtimes without a fast MatMulNBits: ONNX Runtime's WASM took 245 ms for 640 x 16384, and 8 ms in this form.
    """

    def linear(self, graph: Graph, name: str, x: str) -> str:
        return graph.node("MatMul", x, graph.node("Transpose", self._whole(graph, name), perm=[1, 0]))

    def head(self, graph: Graph, name: str, x: str) -> str:
        return graph.node("Gemm", x, self._whole(graph, name), transB=1)

    def embed(self, graph: Graph, name: str, ids: str) -> str:
        integers, scales = _store_blocks(graph, name)
        rows = graph.node("Cast", graph.node("Gather", integers, ids), to=TensorProto.FLOAT)
        return _widened(graph, name, rows, graph.node("Gather", scales, ids), [0, 0, -1])

    def _whole(self, graph: Graph, name: str) -> str:
        """The matrix (N, K)."""
        integers, scales = _store_blocks(graph, name)
        return _widened(graph, name, graph.node("Cast", integers, to=TensorProto.FLOAT), scales, [0, -1])


def _store_blocks(graph: Graph, name: str, middle: int = 0) -> tuple[str, str]:
    """The names of a matrix's integers (N, blocks, 32), `middle` added where they are unsigned, and of its scales."""
    scales = f"{name}_scale"
    if not graph.has(name):
        parts = []

        def integers() -> Iterator[Array]:
            for rows in graph.weight(name).blocks():
                values, part = quantised(rows)
                parts.append(part)
                yield (values.astype(np.int16) + middle).astype(np.uint8) if middle else values

        graph.store(name, integers())
        graph.store(scales, np.concatenate(parts))
    return name, scales


def _widened(graph: Graph, name: str, integers: str, scales: str, shape: list[int]) -> str:
    """Rows of a matrix in float32 from their integers (..., blocks, 32) and scales (..., blocks)."""
    rows = graph.node("Mul", integers, graph.node("Unsqueeze", scales, graph.constant([-1])))
    rows = graph.node("Reshape", rows, graph.constant(shape))
    width = graph.weight(name).shape[1]
    if width % BLOCK == 0:
        return rows
    start, end, axis = (graph.constant([value]) for value in (0, width, -1))
    return graph.node("Slice", rows, start, end, axis)


FORMS: dict[str, Form] = {"fp32": Float32(), "q8": Blocks(4), "q8-webgpu": Blocks(0), "q8-wasm": Folded()}
