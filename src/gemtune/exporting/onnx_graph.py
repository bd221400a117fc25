"""A Gemma 3 text decoder as one ONNX graph with a key-value cache, written node by node.

Standard operators alone (opset 21), but for what a form of the weights brings: any ONNX runtime reads it. The weights
stream from the model's files into one data file beside the graph, so memory does not grow with the model. Inputs and
outputs have the names that Transformers.js and optimum use. The logits are those of the last position: at 262,144 words
a prompt of 1,000 tokens would otherwise give 1 GB of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import onnx
from onnx import TensorProto, helper

from gemtune.errors import ModelError
from gemtune.exporting.stored_weights import StoredWeight

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig

OPSET = 21
IR_VERSION = 10
PAGE = 4096  # the alignment at which runtimes map a weight from the data file
MASKED = np.float32(-1e30)

Array = np.ndarray  # of any type that a tensor in a file can have
StoredWeights = Mapping[str, StoredWeight]  # by their plain names


class Form(Protocol):
    """How the matrices of a model are stored and multiplied; `name` is that of a weight in the model's files."""

    def linear(self, graph: Graph, name: str, x: str) -> str:
        """(B, S, K) -> (B, S, N)"""
        ...

    def head(self, graph: Graph, name: str, x: str) -> str:
        """(B, K) -> (B, N), with the matrix of `embed` where they are tied."""
        ...

    def embed(self, graph: Graph, name: str, ids: str) -> str:
        """(B, S) -> (B, S, K)"""
        ...


class Graph:
    """Nodes and weights while they are written; a context manager, since it holds the data file open."""

    def __init__(self, data: Path, weights: StoredWeights) -> None:
        self._weights = weights
        self._data, self._out = data, data.open("wb")
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, TensorProto] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._out.close()

    def node(self, operator: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: object) -> str:
        """Adds a node and returns its output's name; with more outputs their common start, without the number."""
        name = f"{operator}_{len(self._nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, name=name, domain=domain, **attributes))
        return name

    def rename(self, value: str, name: str) -> None:
        """Gives an output of the graph its name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))

    def constant(self, values: object, dtype: type = np.int64) -> str:
        """A small tensor inside the graph; equal ones are stored once."""
        array: Array = np.asarray(values, dtype)
        name = f"{array.dtype}{list(array.shape)}{array.tolist()}"
        if name not in self._tensors:
            self._tensors[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str) -> StoredWeight:
        """A weight of the model, by its plain name."""
        if name not in self._weights:
            raise ModelError(f"no weight {name} in the model's files, {len(self._weights)} others; fetch it again")
        return self._weights[name]

    def has(self, name: str) -> bool:
        return name in self._tensors

    def store(self, name: str, pieces: Iterator[Array] | Array, shape: tuple[int, ...] | None = None) -> str:
        """Writes a tensor's bytes behind the others; in pieces along the first axis, with the whole's other sizes."""
        self._out.write(b"\0" * (-self._out.tell() % PAGE))
        start, rows = self._out.tell(), 0
        for piece in [pieces] if isinstance(pieces, np.ndarray) else pieces:
            self._out.write(np.ascontiguousarray(piece).data)
            rows += len(piece)
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(piece.dtype),
            dims=shape or (rows, *piece.shape[1:]),
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": self._data.name, "offset": start, "length": self._out.tell() - start}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._tensors[name] = tensor
        return name

    def model(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        graph = helper.make_graph(self._nodes, "decoder", inputs, outputs, list(self._tensors.values()))
        domains = sorted({node.domain for node in self._nodes} - {""})
        opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gemtune")


def whole(weight: StoredWeight) -> Array:
    """In float32."""
    return np.concatenate(list(weight.blocks()))


def write_decoder(path: Path, config: Gemma3TextConfig, weights: StoredWeights, form: Form, context: int) -> None:
    """Writes the graph to `path` and the weights to `path`_data; positions go to `context`."""
    with Graph(path.with_name(f"{path.name}_data"), weights) as graph:
        _decoder(graph, config, form, context)
        cache = ["batch_size", config.num_key_value_heads, "past_sequence_length", config.head_dim]
        grown = [*cache[:2], "total_sequence_length", cache[3]]
        layers = [(i, part) for i in range(config.num_hidden_layers) for part in ("key", "value")]
        whole = {
            "input_ids": ["batch_size", "sequence_length"],
            "attention_mask": ["batch_size", "total_sequence_length"],
            "position_ids": ["batch_size", "sequence_length"],
        }
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in whole.items()]
        inputs += [_floats(f"past_key_values.{i}.{part}", cache) for i, part in layers]
        outputs = [_floats("logits", ["batch_size", 1, config.vocab_size])]
        outputs += [_floats(f"present.{i}.{part}", grown) for i, part in layers]
        model = graph.model(inputs, outputs)
    path.write_bytes(model.SerializeToString())


def _floats(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _decoder(graph: Graph, config: Gemma3TextConfig, form: Form, context: int) -> None:
    x = form.embed(graph, "embed_tokens.weight", "input_ids")
    x = graph.node("Mul", x, graph.constant(config.hidden_size**0.5, np.float32))
    masks = _masks(graph, config.sliding_window)
    turns = {kind: _turns(graph, config, kind, context) for kind in sorted(set(config.layer_types))}
    for i, kind in enumerate(config.layer_types):
        layer = f"layers.{i}"
        y = _norm(graph, config, f"{layer}.input_layernorm", x)
        y = _attention(graph, config, form, i, y, masks[kind], turns[kind])
        x = graph.node("Add", x, _norm(graph, config, f"{layer}.post_attention_layernorm", y))
        y = _norm(graph, config, f"{layer}.pre_feedforward_layernorm", x)
        y = _mlp(graph, form, f"{layer}.mlp", y)
        x = graph.node("Add", x, _norm(graph, config, f"{layer}.post_feedforward_layernorm", y))
    last = graph.node("Gather", x, graph.constant(-1), axis=1)  # (B, S, K) -> (B, K)
    last = _norm(graph, config, "norm", last)
    head = "embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    graph.rename(graph.node("Unsqueeze", form.head(graph, head, last), graph.constant([1])), "logits")


def _norm(graph: Graph, config: Gemma3TextConfig, name: str, x: str, scale: float = 1.0) -> str:
    """Root mean square norm with weight 1 + w, in the shape that runtimes fuse into one kernel."""
    square = graph.node("Pow", x, graph.constant(2, np.float32))
    mean = graph.node("ReduceMean", square, graph.constant([-1]))
    root = graph.node("Sqrt", graph.node("Add", mean, graph.constant(config.rms_norm_eps, np.float32)))
    weight = graph.store(f"{name}.weight", (1 + whole(graph.weight(f"{name}.weight"))) * np.float32(scale))
    return graph.node("Mul", graph.node("Div", x, root), weight)


def _mlp(graph: Graph, form: Form, name: str, x: str) -> str:
    gate = form.linear(graph, f"{name}.gate_proj.weight", x)
    up = form.linear(graph, f"{name}.up_proj.weight", x)
    return form.linear(graph, f"{name}.down_proj.weight", graph.node("Mul", _gelu(graph, gate), up))


def _gelu(graph: Graph, x: str) -> str:
    """The tanh form, written out in the shape that runtimes fuse."""

    def number(value: float) -> str:
        return graph.constant(value, np.float32)

    cube = graph.node("Pow", x, number(3))
    inner = graph.node("Add", x, graph.node("Mul", cube, number(0.044715)))
    tanh = graph.node("Tanh", graph.node("Mul", inner, number((2 / np.pi) ** 0.5)))
    return graph.node("Mul", graph.node("Mul", x, number(0.5)), graph.node("Add", tanh, number(1)))


def _attention(
    graph: Graph, config: Gemma3TextConfig, form: Form, index: int, x: str, mask: str, turns: tuple[str, str]
) -> str:
    heads, shared, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    name = f"layers.{index}.self_attn"

    def split_heads(part: str, count: int) -> str:
        y = form.linear(graph, f"{name}.{part}_proj.weight", x)
        return graph.node("Reshape", y, graph.constant([0, 0, count, size]))

    def turned(part: str, count: int, scale: float) -> str:
        y = _norm(graph, config, f"{name}.{part}_norm", split_heads(part, count), scale)
        return _turn(graph, graph.node("Transpose", y, perm=[0, 2, 1, 3]), turns)  # (B, heads, S, size)

    def with_past(part: str, now: str) -> str:
        whole = graph.node("Concat", f"past_key_values.{index}.{part}", now, axis=2)
        graph.rename(whole, f"present.{index}.{part}")
        return graph.node("Unsqueeze", whole, graph.constant([2]))  # (B, shared, 1, T, size)

    query = turned("q", heads, config.query_pre_attn_scalar**-0.5)
    query = graph.node("Reshape", query, graph.constant([0, shared, heads // shared, -1, size]))
    key = with_past("key", turned("k", shared, 1.0))
    value = with_past("value", graph.node("Transpose", split_heads("v", shared), perm=[0, 2, 1, 3]))
    scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 2, 4, 3]))
    chances = graph.node("Softmax", graph.node("Add", scores, mask), axis=-1)  # (B, shared, groups, S, T)
    y = graph.node("Reshape", graph.node("MatMul", chances, value), graph.constant([0, heads, -1, size]))
    y = graph.node("Reshape", graph.node("Transpose", y, perm=[0, 2, 1, 3]), graph.constant([0, 0, heads * size]))
    return form.linear(graph, f"{name}.o_proj.weight", y)


def _turn(graph: Graph, x: str, turns: tuple[str, str]) -> str:
    """Rotates the two halves of each head by its position's angles."""
    cos, sin = turns
    halves = graph.node("Split", x, outputs=2, axis=-1, num_outputs=2)
    low, high = f"{halves}.0", f"{halves}.1"
    first = graph.node("Sub", graph.node("Mul", low, cos), graph.node("Mul", high, sin))
    second = graph.node("Add", graph.node("Mul", high, cos), graph.node("Mul", low, sin))
    return graph.node("Concat", first, second, axis=-1)


def _turns(graph: Graph, config: Gemma3TextConfig, kind: str, context: int) -> tuple[str, str]:
    """Cosine and sine of the input's positions, (B, 1, S, size / 2), from tables that transformers computes."""
    import torch
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

    tables = Gemma3RotaryEmbedding(config)(torch.zeros(1), torch.arange(context)[None], kind)
    cos, sin = (
        graph.node(
            "Unsqueeze",
            graph.node(
                "Gather", graph.store(f"{kind}.{name}", table[0, :, : config.head_dim // 2].numpy()), "position_ids"
            ),
            graph.constant([1]),
        )
        for name, table in zip(("cos", "sin"), tables, strict=True)
    )
    return cos, sin


def _masks(graph: Graph, window: int) -> dict[str, str]:
    """What is added to the scores, (B, 1, 1, S, T), by kind of attention: 0, or MASKED for the future and padding."""
    total = graph.node("Shape", "attention_mask", start=1)
    total = graph.node("Squeeze", total, graph.constant([0]))
    now = graph.node("Squeeze", graph.node("Shape", "input_ids", start=1), graph.constant([0]))
    one, zero = graph.constant(1), graph.constant(0)
    rows = graph.node("Range", graph.node("Sub", total, now), total, one)
    rows = graph.node("Unsqueeze", rows, graph.constant([1]))  # (S, 1)
    behind = graph.node("Sub", rows, graph.node("Range", zero, total, one))  # (S, T)
    there = graph.node("Cast", "attention_mask", to=TensorProto.BOOL)
    there = graph.node("Unsqueeze", there, graph.constant([1, 2, 3]))  # (B, 1, 1, 1, T)
    full = graph.node("And", graph.node("GreaterOrEqual", behind, zero), there)
    near = graph.node("And", graph.node("Less", behind, graph.constant(window)), full)
    visible, hidden = graph.constant(0, np.float32), graph.constant(MASKED, np.float32)
    kinds = {"full_attention": full, "sliding_attention": near}
    return {kind: graph.node("Where", seen, visible, hidden) for kind, seen in kinds.items()}
