"""Forms of the weights: what 8 bits lose, and that every form holds the same integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import load_external_data_for_model

from gemtune.exporting.onnx_forms import BLOCK, MIDDLE, quantised
from onnx_graphs import IDS, logits_of, write

EIGHT_BITS = ("q8", "q8-webgpu", "q8-wasm")


def tensors(path: Path) -> dict[str, np.ndarray]:
    model = onnx.load(path, load_external_data=False)
    load_external_data_for_model(model, str(path.parent))
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_a_weight_is_off_by_half_a_step_at_most() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3 * BLOCK + 5)).astype(np.float32)
    rows[2, :BLOCK] = 0
    integers, scales = quantised(rows)
    assert integers.shape == (7, 4, BLOCK)
    assert not integers[2, 0].any()
    assert not integers[:, 3, 5:].any(), "the fill is zero"
    restored = (integers * scales[..., None]).reshape(7, -1)[:, : rows.shape[1]]
    assert (np.abs(restored - rows) <= np.repeat(scales, BLOCK, axis=1)[:, : rows.shape[1]] * 0.5001).all()


def test_forms_of_8_bits_hold_the_same_integers(tiny_model: Path, tmp_path: Path) -> None:
    native, webgpu, wasm = (tensors(write(tiny_model, tmp_path, form)) for form in EIGHT_BITS)
    matrices = [name for name in wasm if f"{name}_scale" in wasm]
    assert len(matrices) == 1 + 7 * 3
    for name in matrices:
        assert (native[name] == webgpu[name]).all()
        assert (wasm[name].astype(int) + MIDDLE == native[name]).all()
        assert (wasm[f"{name}_scale"] == native[f"{name}_scale"]).all()


@pytest.mark.parametrize("form", EIGHT_BITS)
def test_8_bits_stay_near_float32(tiny_model: Path, tmp_path: Path, form: str) -> None:
    wanted = np.stack(logits_of(write(tiny_model, tmp_path), IDS, [40, 60]))
    found = np.stack(logits_of(write(tiny_model, tmp_path, form), IDS, [40, 60]))
    assert 0 < np.abs(found - wanted).max() < 0.03 * np.ptp(wanted)


def test_both_web_forms_compute_the_same(tiny_model: Path, tmp_path: Path) -> None:
    webgpu, wasm = (logits_of(write(tiny_model, tmp_path, form), IDS, [40, 60]) for form in EIGHT_BITS[1:])
    np.testing.assert_allclose(np.stack(webgpu), np.stack(wasm), atol=2e-5)
