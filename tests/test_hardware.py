"""What this machine is, against what the system itself says; and what is chosen for it, with the reason."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import torch

from gemtune import hardware
from gemtune.errors import ModelError
from gemtune.hardware import choose_device, instruction_sets, unused_gpu
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Recipe

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can forget it")
def test_the_peak_can_begin_again() -> None:
    block = b"x" * 300_000_000
    before = hardware.peak_memory_gb("cpu")
    del block
    hardware.forget_peak_memory()
    assert hardware.peak_memory_gb("cpu") < before - 0.2


def test_the_peak_of_children_is_of_those_that_have_ended() -> None:
    subprocess.run([sys.executable, "-c", "b'x' * 200_000_000"], check=True)
    assert hardware.peak_memory_of_children_gb() > 0.2 or sys.platform == "win32"


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


def test_workers_are_one_for_every_gpu_and_any_number_on_a_cpu() -> None:
    assert hardware.choose_workers(1, "cpu") == (1, "the default")
    assert hardware.choose_workers("auto", "cpu") == (1, "there is one cpu")
    assert hardware.choose_workers(3, "cpu") == (3, "the recipe says so")
    with pytest.raises(ModelError, match=r"scale\.workers: 2, and 1 GPUs are visible here; set scale.workers: auto"):
        hardware.choose_workers(2, "mps")


def test_the_device_that_the_recipe_says_is_taken() -> None:
    assert choose_device("cpu") == ("cpu", "the recipe says so")


@pytest.fixture
def with_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine whose driver has a GPU that PyTorch does not see."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$1" = "--query-gpu=name,driver_version" ] && echo "Tesla T4, 535.104.05"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_pytorch_without_cuda_is_named(with_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    device, why = choose_device("auto")
    assert device == "cpu" and why.startswith("Tesla T4 (driver 535.104.05) is here, but this PyTorch (")
    assert "is built without CUDA" in why
    unused = unused_gpu()
    assert unused and "pip install --force-reinstall torch --index-url" in unused.move


def test_a_driver_that_is_too_old_is_named(with_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020).\nPlease update")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    unused = unused_gpu()
    assert unused and unused.reason.endswith("is too old (found version 12020).") and "CUDA 13.0" in unused.move


def test_a_gpu_that_is_hidden_is_named(with_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    unused = unused_gpu()
    assert unused and unused.reason == "CUDA_VISIBLE_DEVICES is '', which hides it"


def test_a_run_that_goes_to_the_cpu_in_spite_of_a_gpu_says_so(
    with_a_gpu: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    said: list[str] = []
    recipe = Recipe.model_validate({"task": "emoji", "data": "e.csv", "runs_dir": str(tmp_path)})
    assert Job(recipe, say=said.append).device == "cpu"
    assert len(said) == 1 and said[0].startswith("Tesla T4 (driver 535.104.05) is not used: this PyTorch (")
    wanted = recipe.model_copy(update={"train": recipe.train.model_copy(update={"device": "cpu"})})
    assert Job(wanted, say=said.append).device == "cpu" and len(said) == 1


def test_no_gpu_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(hardware, "NVIDIA_DEVICE", tmp_path / "nvidia0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert unused_gpu() is None and choose_device("auto") == ("cpu", "no GPU is here")
    (tmp_path / "nvidia0").touch()
    unused = unused_gpu()
    assert unused and unused.name == "an NVIDIA GPU"


def test_a_second_gpu_stays_idle_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    device, why = choose_device("auto")
    assert device == "cuda" and "Tesla T4 is here" in why and "1 more idle: CUDA_VISIBLE_DEVICES" in why
