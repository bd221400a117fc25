"""What this machine is, for the manifest, the doctor and the plan."""

from __future__ import annotations

import contextlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from gemtune.errors import ModelError

CPUINFO = Path("/proc/cpuinfo")
# What the kernels are compiled for, widest first, and the flag by which Linux names it.
INSTRUCTION_SETS = {"AMX": "amx_bf16", "AVX512-BF16": "avx512_bf16", "AVX512": "avx512f", "AVX2": "avx2"}
REPORTED = ("gemtune", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy", "tokenizers")


def gemtune_version() -> str:
    """gemtune's version, from the metadata that its installation wrote."""
    return version("gemtune")


def installed_versions() -> dict[str, str]:
    """Package -> version, of those whose version matters."""
    versions = {}
    for package in REPORTED:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def choose_device(wanted: str) -> tuple[str, str]:
    """cuda, mps or cpu, and why."""
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError("train.device: cuda, but torch sees no CUDA device here; `gemtune doctor` says why")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise ModelError("train.device: mps, but torch sees no Apple GPU here; set train.device: auto")
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
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def instruction_sets(cpuinfo: str | None = None) -> tuple[str, ...]:
    """Those of INSTRUCTION_SETS that the processor has; of this machine where no text of /proc/cpuinfo is given.

    >>> instruction_sets("flags : fpu avx2 avx512f avx512_bf16")
    ('AVX512-BF16', 'AVX512', 'AVX2')
    """
    if cpuinfo is None:
        cpuinfo = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    flags = set(cpuinfo.split())
    return tuple(name for name, flag in INSTRUCTION_SETS.items() if flag in flags)


def memory_gb() -> float:
    """This machine's memory in GB."""
    return psutil.virtual_memory().total / 1e9


def free_bytes(device: str) -> int:
    """Memory that can still be had on a device, in bytes."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def peak_memory_gb(device: str) -> float:
    """The most memory that this process has held so far, on the GPU or else in main memory, in GB."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
