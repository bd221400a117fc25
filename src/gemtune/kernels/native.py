"""kernels.cpp, compiled for this machine when it is first wanted; without a compiler PyTorch does the same work."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from gemtune.files import cache_folder, sha256_of_text

SOURCE = Path(__file__).with_name("cpp") / "kernels.cpp"
# No -ffast-math: it would flush subnormal numbers for every library in the process, and its reassociation costs exp_
# the digits that its two-part ln 2 is there for. Sums are vectorised where the sources say so.
FLAGS = "-O3 -march=native -std=c++17 -fPIC -fno-math-errno -fno-trapping-math"
if platform.machine() in ("x86_64", "AMD64"):
    FLAGS += " -mprefer-vector-width=512"  # GCC stays at 256 otherwise
NO_COMPILER = "no C++ compiler is here: PyTorch does the work of kernels.cpp, in more passes over memory"
SUFFIX = {torch.bfloat16: "bf16", torch.float32: "fp32"}
# What products.h is compiled for: AVX2 and ARM's NEON, AVX-512, AVX-512 with products of bf16, and matrix tiles.
INSTRUCTION_SETS = ("narrow", "avx512", "avx512_bf16", "amx")
# Where LoRA's small products are faster in kernels/cpp than in PyTorch. Best of 12, 1 thread, 432 tokens, 640 -> 1,536,
# rank 64, PyTorch / compiled in ms, on a Zen 4 with and without its AVX-512: fp32 1.31 / 1.35 and its gradients 0.87 /
# 0.70; bf16 0.69 / 1.26 and 0.46 / 0.69. AVX2, fp32: 1.57 / 2.61 and 1.01 / 1.75; bf16, which PyTorch emulates there:
# 44.9 / 2.45 and 2.60 / 1.71. AMX: MICRO.md. bf16 on AVX-512 alone is not measured; PyTorch emulates it there too.
SMALL_PRODUCTS: set[tuple[str | None, torch.dtype]] = {
    ("narrow", torch.bfloat16),
    ("avx512", torch.bfloat16),
    ("avx512", torch.float32),
    ("avx512_bf16", torch.float32),
    ("amx", torch.bfloat16),
    ("amx", torch.float32),
}
KINDS = {int: ctypes.c_int64, float: ctypes.c_float}


def usable(*tensors: torch.Tensor) -> bool:
    """Whether the compiled functions are here and take these tensors: all on a CPU, all bf16 or all fp32."""
    dtype = tensors[0].dtype
    alike = all(tensor.is_cpu and tensor.dtype == dtype for tensor in tensors)
    return alike and dtype in SUFFIX and compiled()[0] is not None


def call(name: str, dtype: torch.dtype, *arguments: torch.Tensor | int | float | None) -> None:
    """Calls a function of kernels.cpp for a type: tensors go as pointers, None as null, numbers as int64 and float."""
    function = getattr(compiled()[0], f"{name}_{SUFFIX[dtype]}")
    if function.argtypes is None:  # its first call shows what it takes
        function.argtypes = [KINDS.get(type(value), ctypes.c_void_p) for value in arguments]
    function(*(value.data_ptr() if isinstance(value, torch.Tensor) else value for value in arguments))


def instruction_set() -> str | None:
    """The one of INSTRUCTION_SETS that the compiled products run on; None where nothing is compiled."""
    functions, _ = compiled()
    return INSTRUCTION_SETS[functions.instruction_set()] if functions is not None else None


def has_tiles() -> bool:
    """Whether the compiled bf16 products run on a matrix unit (AMX)."""
    return instruction_set() == "amx"


def fast_products(*tensors: torch.Tensor) -> bool:
    """Whether the compiled functions take these tensors, and multiply them faster than PyTorch does."""
    return usable(*tensors) and (instruction_set(), tensors[0].dtype) in SMALL_PRODUCTS


def page_out(tensor: torch.Tensor) -> None:
    """Lets the system take back the memory of a tensor that is not needed soon; its values stay."""
    functions, _ = compiled()
    if tensor.device.type == "cpu" and tensor.is_contiguous() and functions is not None:
        functions.page_out(ctypes.c_void_p(tensor.data_ptr()), ctypes.c_int64(tensor.nbytes))


def release_memory() -> None:
    """Frees what only cycles hold (a Trainer and its callbacks do) and gives freed memory back to the system."""
    gc.collect()
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@cache
def compiled() -> tuple[Any | None, str]:
    """The functions of kernels.cpp for this processor, or None, and why."""
    return build(FLAGS)


def build(flags: str) -> tuple[Any | None, str]:
    """The functions of kernels.cpp as these flags compile it, or None, and why."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        return None, NO_COMPILER
    openmp = next((Path(torch.__file__).parent / "lib").glob("libgomp*"), None)
    if openmp is None:
        return None, "this PyTorch brings no OpenMP library to share: it does the work of kernels.cpp itself"
    texts = (path.read_text(encoding="utf-8") for path in sorted(SOURCE.parent.iterdir()))
    key = sha256_of_text(*texts, flags, compiler, str(openmp), _processor())
    path = cache_folder() / f"native-{key[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            # Compiled with OpenMP but linked to PyTorch's own copy: two thread pools would fight for the cores.
            steps = (
                [compiler, *flags.split(), "-fopenmp", "-c", str(SOURCE), "-o", f"{made}.o"],
                [compiler, "-shared", f"{made}.o", str(openmp), f"-Wl,-rpath,{openmp.parent}", "-o", str(made)],
            )
            for step in steps:
                done = subprocess.run(step, capture_output=True, text=True, check=False)  # noqa: S603
                if done.returncode:
                    why = (done.stderr.strip().splitlines() or ["no message"])[0]
                    return None, f"{compiler} cannot compile {SOURCE.name} here ({why}): PyTorch does its work"
            made.replace(path)
    return ctypes.CDLL(str(path)), f"norms, gates, attention, LoRA and loss are compiled for this processor ({path})"


def _processor() -> str:
    """What -march=native depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else [platform.processor()]
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
