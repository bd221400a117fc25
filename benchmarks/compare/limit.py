"""The limit: the matrix products that a LoRA step cannot do without, and nothing else, by plain PyTorch."""

from __future__ import annotations

import time

import torch

from gemtune.training.planner import ModelShape


class Products:
    """A step's tokens through the frozen weights of each layer, forward and backward; labelled ones through the head.

    No adapters, no attention, no elementwise work, no optimizer.
    """

    def __init__(self, shape: ModelShape, most_tokens: int, dtype: torch.dtype):
        self._layers = [_random(out, size, dtype) for _ in range(shape.layers) for size, out in shape.linear]
        self._head = _random(shape.vocab, shape.hidden, dtype)
        self._inputs = {size: _random(most_tokens, size, dtype) for size, _ in shape.linear}

    def seconds(self, tokens: int, labelled: int) -> float:
        """How long they take now."""
        began = time.perf_counter()
        for weight in self._layers:
            _forward_and_backward(self._inputs[weight.shape[1]][:tokens], weight)
        _forward_and_backward(self._inputs[self._head.shape[1]][:labelled], self._head)
        return time.perf_counter() - began


def shares(times: dict[str, list[float]]) -> list[float]:
    """What share of each step but the first its products take, where the arm of gemtune took them in turn."""
    pairs = zip(times["products"][1:], times["step_seconds"][1:], strict=True)
    return [products / step for products, step in pairs]


def _random(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(rows, columns).to(dtype)


def _forward_and_backward(x: torch.Tensor, weight: torch.Tensor) -> None:
    out = x @ weight.t()
    out @ weight
