"""The precision that is chosen for a device, with its reason; by what the processor multiplies fast, and its memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch

from gemtune.hardware import instruction_sets, memory_gb
from gemtune.pipeline.job import Job
from gemtune.training import precision
from gemtune.training.precision import BOTH, FASTER, choose_precision, fp32_advantage
from training_jobs import trained


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A processor with AVX512-BF16 and without AMX."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return monkeypatch


def test_what_the_recipe_says_is_taken_and_what_is_chosen_has_a_reason() -> None:
    assert choose_precision("fp16", "cpu") == ("fp16", "the recipe says so")
    chosen, why = choose_precision("auto", "cpu")
    native = "AVX512-BF16" in instruction_sets() or "AMX" in instruction_sets()
    assert chosen in (("bf16", "fp32") if native else ("fp32",)) and "CPU" in why
    assert choose_precision("auto", "mps")[0] == "fp32"


def test_a_cpu_whose_pytorch_has_no_onednn_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch for macOS has no such operator."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    assert choose_precision("auto", "cpu")[0] == "fp32"


def test_with_amx_nothing_is_measured(both: pytest.MonkeyPatch) -> None:
    both.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    both.setattr(precision, "fp32_advantage", lambda: pytest.fail("was measured"))
    assert choose_precision("auto", "cpu")[0] == "bf16"


@pytest.mark.parametrize(("advantage", "chosen"), [(1.8, "fp32"), (FASTER, "bf16"), (0.5, "bf16")])
def test_where_both_are_native_the_faster_one_is_taken(both: pytest.MonkeyPatch, advantage: float, chosen: str) -> None:
    both.setattr(precision, "fp32_advantage", lambda: advantage)
    assert choose_precision("auto", "cpu") == (chosen, BOTH[chosen])


def test_weights_that_would_fill_the_memory_stay_in_bf16(both: pytest.MonkeyPatch) -> None:
    both.setattr(precision, "fp32_advantage", lambda: 1.8)
    a_quarter = memory_gb() * 1e9 / 4
    assert choose_precision("auto", "cpu", fp32_bytes=0.99 * a_quarter)[0] == "fp32"
    chosen, why = choose_precision("auto", "cpu", fp32_bytes=1.01 * a_quarter)
    assert chosen == "bf16" and f"would take {1.01 * a_quarter / 1e9:.1f} GB" in why


def test_a_run_keeps_the_precision_that_it_began_with(both: pytest.MonkeyPatch) -> None:
    for advantage, begun in product((0.5, 1.8), ("bf16", "fp32")):
        both.setattr(precision, "fp32_advantage", lambda advantage=advantage: advantage)
        assert choose_precision("auto", "cpu", begun=begun) == (begun, BOTH[begun])
    assert choose_precision("fp32", "cpu", begun="bf16")[0] == "fp32"  # another recipe is another run
    both.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert choose_precision("auto", "cpu", begun="bf16")[0] == "fp32"  # another machine, where bf16 is emulated


def test_a_job_asks_with_its_model_and_what_its_run_began_with(
    both: pytest.MonkeyPatch, write_recipe: Callable[..., Path]
) -> None:
    recipe = write_recipe(train={"precision": "auto"})
    both.setattr(precision, "fp32_advantage", lambda: 0.5)
    assert Job(recipe).precision == "bf16"
    began = trained(write_recipe(train={"precision": "auto", "max_steps": 1}))
    both.setattr(precision, "fp32_advantage", lambda: 1.8)
    assert Job(recipe).precision == began.precision == "bf16"
    assert Job(recipe, fresh=True).precision == "fp32"
    both.setattr(precision, "OF_MEMORY", 0.0)
    assert Job(recipe, fresh=True).precision == "bf16"


@pytest.mark.skipif("AVX512-BF16" not in instruction_sets(), reason="this processor emulates bf16")
def test_the_advantage_is_a_ratio_of_two_times() -> None:
    assert 0.02 < fp32_advantage() < 50
