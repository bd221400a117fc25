"""An exported ONNX graph in ONNX Runtime on the CPU: greedy choices with its key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from gemtune.errors import GemtuneError, MissingExtra
from gemtune.exporting.runtime import Choice
from gemtune.files import read_object
from gemtune.models.boundary import loading

Cache = dict[str, np.ndarray]  # by the name of the graph's input, (1, heads, positions, size) each


class OnnxRuntime:
    """A graph of a folder that `write_onnx` wrote, with that folder's tokenizer."""

    def __init__(self, graph: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("running an ONNX graph", "onnx") from error
        from tokenizers import Tokenizer

        folder = graph.parent.parent
        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        self._context = int(read_object(folder / "config.json")["max_position_embeddings"])
        stops = read_object(folder / "generation_config.json")["eos_token_id"]
        self.stops = frozenset(stops if isinstance(stops, list) else [stops])
        with loading(graph):
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self._empty: Cache = {
            value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
            for value in self._session.get_inputs()
            if value.name.startswith("past_key_values.")
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del self._session

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, prompt: Sequence[int], limit: int, images: Sequence[Path] = ()) -> list[Choice]:
        if images:
            raise GemtuneError("an ONNX export is a text model; it takes no images")
        if len(prompt) + limit > self._context:
            raise GemtuneError(
                f"a prompt of {len(prompt)} tokens and {limit} more; the ONNX graph has {self._context} positions"
            )
        choices: list[Choice] = []
        ids, cache, length = list(prompt), self._empty, 0
        while len(choices) < limit and not (choices and choices[-1].token in self.stops):
            logits, cache = self._step(ids, cache, length)
            second, best = (int(i) for i in np.argpartition(logits, -2)[-2:])
            choices.append(Choice(best, float(logits[best] - logits[second])))
            ids, length = [best], length + len(ids)
        return choices

    def _step(self, ids: list[int], cache: Cache, length: int) -> tuple[np.ndarray, Cache]:
        """The logits (V,) after `ids`, of which the first stands at position `length`, and the longer cache."""
        total = length + len(ids)
        inputs = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(length, total, dtype=np.int64)[None],
        }
        logits, *grown = self._session.run(None, inputs | cache)
        return logits[0, -1], dict(zip(cache, grown, strict=True))
