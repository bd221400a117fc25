"""What this machine is, for the manifest, the doctor and the plan."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# What the kernels are compiled for, widest first, and the flag by which Linux names it.
INSTRUCTION_SETS = {"AMX": "amx_bf16", "AVX512-BF16": "avx512_bf16", "AVX512": "avx512f", "AVX2": "avx2"}
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
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
