"""What this machine is, for the manifest, the doctor and the plan."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from gemtune.errors import ModelError

CPUINFO, NVIDIA_DEVICE = Path("/proc/cpuinfo"), Path("/dev/nvidia0")
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes there, KiB here
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
    unused = unused_gpu()
    return "cpu", f"{unused.name} is here, but {unused.reason}" if unused else "no GPU is here"


def choose_workers(wanted: int | Literal["auto"], device: str) -> tuple[int, str]:
    """How many processes train together on this machine, and why."""
    import torch

    gpus = torch.cuda.device_count() if device == "cuda" else 1
    if wanted == "auto":
        return gpus, f"each of {gpus} GPUs has one" if device == "cuda" else f"there is one {device}"
    if device != "cpu" and wanted > gpus:
        raise ModelError(f"scale.workers: {wanted}, and {gpus} GPUs are visible here; set scale.workers: auto")
    idle = f"; {gpus - wanted} more GPUs are idle: scale.workers: auto uses them" if gpus > wanted else ""
    return wanted, f"{'the default' if wanted == 1 else 'the recipe says so'}{idle}"


class UnusedGpu(NamedTuple):
    """An NVIDIA GPU that PyTorch does not see, why, and the next move."""

    name: str  # with its driver
    reason: str
    move: str


def unused_gpu() -> UnusedGpu | None:
    """What the driver's own tool knows of where PyTorch sees nothing; None where there is nothing."""
    import torch

    if torch.cuda.is_available() or (name := _nvidia_gpu()) is None:
        return None
    if torch.version.cuda is None:
        why = f"this PyTorch ({torch.__version__}) is built without CUDA"
        return UnusedGpu(
            name, why, "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip().lower() in ("", "-1", "none", "nodevfiles"):
        return UnusedGpu(name, f"CUDA_VISIBLE_DEVICES is {hidden!r}, which hides it", "unset CUDA_VISIBLE_DEVICES")
    try:
        torch.cuda.init()
        why = "PyTorch finds none"
    except (RuntimeError, AssertionError) as error:
        why = str(error).strip().splitlines()[0]
    move = f"update its driver to one for CUDA {torch.version.cuda}, or install a PyTorch for the CUDA that it has"
    return UnusedGpu(name, f"PyTorch {torch.__version__} for CUDA {torch.version.cuda} cannot use it: {why}", move)


def _nvidia_gpu() -> str | None:
    """The first NVIDIA GPU and its driver, by nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "an NVIDIA GPU" if NVIDIA_DEVICE.exists() else None
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        process = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603
        if process.returncode == 0 and process.stdout.strip():
            name, _, driver = process.stdout.strip().splitlines()[0].partition(", ")
            return f"{name} (driver {driver})"
    return None


def gpus() -> list[str]:
    """The GPUs that PyTorch sees, each with its capability and memory."""
    import torch

    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(number)
        free = torch.cuda.mem_get_info(number)[0] / 1e9
        memory = f"{free:.1f} of {properties.total_memory / 1e9:.1f} GB free"
        found.append(f"{properties.name}, sm{properties.major}{properties.minor}, {memory}")
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
    return psutil.virtual_memory().total / 1e9


def free_bytes(device: str) -> int:
    """Memory that this process can still have on a device, in bytes; workers of one machine share main memory."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def synchronize(device: str) -> None:
    """Waits until a GPU has done what it was told; a CPU has already."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def empty_cache(device: str) -> None:
    """Gives back the memory that PyTorch holds of a GPU and does not use."""
    import torch

    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def peak_memory_gb(device: str) -> float:
    """The most memory that this process has held so far, on the GPU or else in main memory, in GB."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e9


def peak_memory_of_children_gb() -> float:
    """The most main memory that one of this process's children has held, of those that have ended; in GB."""
    if sys.platform == "win32":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _RSS_UNIT / 1e9


def forget_peak_memory() -> None:
    """Has `peak_memory_gb` of main memory begin again with what is held now, where the system can: Linux."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
