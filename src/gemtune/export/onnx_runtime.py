"""An exported ONNX folder in ONNX Runtime on the CPU: greedy choices with the graph's key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from gemtune.errors import GemtuneError, MissingExtra
from gemtune.export.runtime import Choice
from gemtune.files import read_object


class OnnxRuntime:
    """The graph of a folder that `write_onnx` wrote."""

    def __init__(self, folder: Path, graph: str, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("running an ONNX graph", "onnx") from error
        from tokenizers import Tokenizer

        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(folder / graph, options, providers=["CPUExecutionProvider"])
        self._cache = {
            value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
            for value in self._session.get_inputs()
            if value.name.startswith("past_key_values.")
        }
        stops = read_object(folder / "generation_config.json")["eos_token_id"]
        self._stops = frozenset(stops if isinstance(stops, list) else [stops])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        del self._session

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, prompt: Sequence[int], limit: int, images: Sequence[Path] = ()) -> list[Choice]:
        if images:
            raise GemtuneError("an ONNX export is of the text model; it takes no images")
        choices: list[Choice] = []
        ids, cache, length = list(prompt), self._cache, 0
        while len(choices) < limit and not (choices and choices[-1].token in self._stops):
            logits, cache = self._step(ids, cache, length)
            best, second = (int(i) for i in np.argsort(-logits)[:2])
            choices.append(Choice(best, float(logits[best] - logits[second])))
            ids, length = [best], length + len(ids)
        return choices

    def _step(self, ids: list[int], cache: dict[str, np.ndarray], length: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The logits (V,) after `ids`, of which the first stands at position `length`, and the longer cache."""
        total = length + len(ids)
        inputs = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(length, total, dtype=np.int64)[None],
        }
        logits, *grown = self._session.run(None, inputs | cache)
        return logits[0, -1], dict(zip(cache, grown, strict=True))
