"""What this machine is, and why a GPU that it has is not used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemtune import hardware
from gemtune.hardware import choose_device, choose_precision, unused_gpu
from gemtune.pipeline.job import Job
from gemtune.recipe.schema import Recipe


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


def test_a_cpu_whose_pytorch_has_no_onednn_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch for macOS has no such operator."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    assert choose_precision("auto", "cpu")[0] == "fp32"
