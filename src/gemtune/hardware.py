"""What this machine is, for the manifest, the doctor and the plan."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gemtune.errors import ModelError

REPORTED = ("gemtune", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy", "tokenizers")


def gemtune_version() -> str:
    """gemtune's version, from the metadata that its installation wrote."""
    return version("gemtune")


def installed_versions() -> dict[str, str]:
    """Package -> version, of those whose version matters."""
    found = {}
    for package in REPORTED:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def choose_device(wanted: str) -> tuple[str, str]:
    """cuda, mps or cpu, and why."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("train.device: cuda, but torch sees no CUDA device here; `gemtune doctor` says why")
    if wanted != "auto":
        return wanted, "the recipe says so"
    if torch.cuda.is_available():
        return "cuda", f"{torch.cuda.get_device_name()} is here"
    if torch.backends.mps.is_available():
        return "mps", "an Apple GPU is here"
    return "cpu", "no GPU is here"


def choose_precision(wanted: str, device: str) -> tuple[str, str]:
    """bf16, fp16 or fp32, and why."""
    import torch

    if wanted != "auto":
        return wanted, "the recipe says so"
    if device == "cuda":
        if torch.cuda.get_device_capability() >= (8, 0):
            return "bf16", "this GPU computes in bf16 natively"
        return (
            "fp16",
            "this GPU has no bf16; fp16 matrix products over an fp32 residual stream, which fp16 would overflow",
        )
    if device == "mps":
        return "fp32", "bf16 is not reliable on this device"
    # oneDNN runs bf16 matrix products natively from AVX512-BF16 or AMX on; below, it emulates them slower than fp32.
    if torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported():
        return "bf16", "this CPU has AVX512-BF16: twice the speed and half the memory of fp32"
    return "fp32", "this CPU has no native bf16"


def device_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    import torch

    if device == "cuda":
        return str(torch.cuda.get_device_name())
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_gb() -> float:
    """This machine's memory in GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
