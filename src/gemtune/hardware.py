"""What this machine is, for the manifest, the doctor and the plan."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_gb() -> float:
    """This machine's memory in GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
