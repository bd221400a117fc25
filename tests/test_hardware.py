"""What this machine is, against what the system itself says; and what is chosen for it, with the reason."""

from __future__ import annotations

from importlib.metadata import version

import psutil
import pytest
import torch

from gemtune import hardware
from gemtune.errors import ModelError
from gemtune.hardware import choose_device, choose_precision, instruction_sets

NO_GPU = not torch.cuda.is_available() and not torch.backends.mps.is_available()


def test_versions_are_those_that_are_installed() -> None:
    versions = hardware.installed_versions()
    assert versions["torch"] == version("torch") and versions["gemtune"] == hardware.gemtune_version()


def test_memory_is_what_the_system_says() -> None:
    assert hardware.memory_gb() == pytest.approx(psutil.virtual_memory().total / 1e9)
    assert 0 < hardware.free_bytes("cpu") <= psutil.virtual_memory().total


def test_the_peak_never_falls_and_sees_what_was_held() -> None:
    before = hardware.peak_memory_gb("cpu")
    held = torch.ones(75_000_000)  # 0.3 GB
    during = hardware.peak_memory_gb("cpu")
    resident = psutil.Process().memory_info().rss / 1e9
    del held
    assert before <= during == hardware.peak_memory_gb("cpu")
    assert during >= resident * 0.99


@pytest.mark.parametrize(
    ("flags", "sets"),
    [
        ("fpu sse2", ()),
        ("avx2", ("AVX2",)),
        ("avx2 avx512f", ("AVX512", "AVX2")),
        ("amx_bf16 avx2 avx512_bf16 avx512f", ("AMX", "AVX512-BF16", "AVX512", "AVX2")),
        ("avx2x xavx512f", ()),
    ],
)
def test_instruction_sets_are_read_from_the_flags_widest_first(flags: str, sets: tuple[str, ...]) -> None:
    assert instruction_sets(f"processor : 0\nflags : {flags}\n") == sets


@pytest.mark.skipif(not NO_GPU, reason="a GPU is here")
def test_without_a_gpu_it_is_the_cpu_and_no_other_can_be_asked_for() -> None:
    assert choose_device("auto") == ("cpu", "no GPU is here")
    for device in ("cuda", "mps"):
        with pytest.raises(ModelError, match=f"train.device: {device}, but torch sees no"):
            choose_device(device)


def test_what_the_recipe_says_is_taken_and_what_is_chosen_has_a_reason() -> None:
    assert choose_device("cpu") == ("cpu", "the recipe says so")
    assert choose_precision("fp16", "cpu") == ("fp16", "the recipe says so")
    precision, why = choose_precision("auto", "cpu")
    native = "AVX512-BF16" in instruction_sets() or "AMX" in instruction_sets()
    assert precision in (("bf16", "fp32") if native else ("fp32",)) and "CPU" in why
    assert choose_precision("auto", "mps")[0] == "fp32"
