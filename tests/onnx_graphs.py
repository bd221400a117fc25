"""Graphs over the tiny model and what they answer, for tests of the ONNX export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import AutoModelForCausalLM

from gemtune.exporting.onnx_folder import text_config
from gemtune.exporting.onnx_forms import FORMS
from gemtune.exporting.onnx_graph import write_decoder
from gemtune.exporting.stored_weights import stored_weights

IDS = np.random.default_rng(0).integers(5, 300, (1, 60))  # more than twice the tiny model's window


def write(model: Path, folder: Path, form: str = "fp32", context: int = 128) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{form}.onnx"
    write_decoder(path, text_config(model), stored_weights(model), FORMS[form], context)
    return path


def logits_of(graph: Path, ids: np.ndarray, cuts: list[int], mask: np.ndarray | None = None) -> list[np.ndarray]:
    """The logits (V,) after each of `cuts`, the ids given to the graph in pieces that end there."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    past = [value for value in session.get_inputs() if value.name.startswith("past_key_values.")]
    cache = {v.name: np.zeros((len(ids), v.shape[1], 0, v.shape[3]), np.float32) for v in past}
    mask = np.ones(ids.shape, np.int64) if mask is None else mask
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    found, start = [], 0
    for end in cuts:
        inputs = {
            "input_ids": ids[:, start:end],
            "attention_mask": mask[:, :end],
            "position_ids": positions[:, start:end],
        }
        logits, *grown = session.run(None, inputs | cache)
        cache, start = dict(zip(cache, grown, strict=True)), end
        found.append(logits[:, -1])
    return found


def reference(model: Path, ids: np.ndarray) -> np.ndarray:
    """(S, V)"""
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.no_grad():
        return np.asarray(plain(torch.from_numpy(ids)).logits[0])
