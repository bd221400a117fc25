"""cpp/kernels.cpp, compiled for this machine at its first use; without a compiler PyTorch computes the same."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch

from gemtune.errors import GemtuneError
from gemtune.files import CACHING, cache_folder, os_errors, sha256_of, sha256_of_text, writable_cache

SOURCE = Path(__file__).with_name("cpp") / "kernels.cpp"
# No -ffast-math: it would flush subnormal numbers for every library in the process, and its reassociation costs exp_
# the digits that its two-part ln 2 is there for. Sums are vectorised where the sources say so.
FLAGS = "-O3 -march=native -std=c++17 -fPIC -fno-math-errno -fno-trapping-math"
if platform.machine() in ("x86_64", "AMD64"):
    FLAGS += " -mprefer-vector-width=512"  # GCC stays at 256 otherwise
INSTEAD = "PyTorch does the work of kernels.cpp, in more passes over memory"
MISSING = "no C++ compiler is here"
NO_COMPILER = f"{MISSING}: {INSTEAD}"
TIME_LIMIT = 300.0  # seconds for one run of the compiler, which takes about 15
SUFFIX = {torch.bfloat16: "bf16", torch.float32: "fp32"}
# What matmul.h is compiled for, in the order of kernels.cpp's instruction_set(), and what a user is told of it.
INSTRUCTION_SETS = {
    "narrow": "vectors of at most 256 bits (AVX2, NEON)",
    "avx512": "AVX512",
    "avx512_bf16": "AVX512-BF16",
    "amx": "AMX",
}
# Where LoRA's small products are faster in kernels/cpp than in PyTorch. Best of 12, 1 thread, 432 tokens, 640 -> 1,536,
# rank 64, PyTorch / compiled in ms, on a Zen 4 with and without its AVX-512: fp32 1.31 / 1.35 and its gradients 0.87 /
# 0.70; bf16 0.69 / 1.26 and 0.46 / 0.69. AVX2, fp32: 1.57 / 2.61 and 1.01 / 1.75; bf16, which PyTorch emulates there:
# 44.9 / 2.45 and 2.60 / 1.71. AMX: micro.md of benchmarks/results. bf16 on AVX-512 alone is not measured; PyTorch
# emulates it there too.
SMALL_PRODUCTS: set[tuple[str | None, torch.dtype]] = {
    ("narrow", torch.bfloat16),
    ("avx512", torch.bfloat16),
    ("avx512", torch.float32),
    ("avx512_bf16", torch.float32),
    ("amx", torch.bfloat16),
    ("amx", torch.float32),
}
# What the exported functions take: a pointer, an int64 or a float each, in the order of kernels.cpp, whose declarations
# tests/kernels/test_cpp.py reads. They are there per type, with one of SUFFIX; ONLY_WITH_TILES only for bf16 there.
SIGNATURES = {
    "norm": "ppppiif",
    "norm_backward": "pppppii",
    "norm_rope": "ppppppiiiiif",
    "norm_rope_backward": "pppppppiiiiii",
    "gelu": "ppii",
    "gelu_backward": "ppppii",
    "silu": "ppii",
    "silu_backward": "ppppii",
    "cross_entropy": "ppppppii",
    "cross_entropy_backward": "pppppiii",
    "head_loss": "ppppipppppiii",
    "append_low": "pppiiiii",
    "add_low": "ppppiiiiiii",
    "cast": "ppiiif",
    "outers": "ppii",
    "attention": "ppppppiiiiiiif",
    "attention_backward": "pppppppppiiiiiiif",
}
ONLY_WITH_TILES = "head_loss"
KINDS = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float}


def usable(*tensors: torch.Tensor) -> bool:
    """Whether the compiled functions can take these tensors: all on a CPU, all bf16 or all fp32."""
    dtype = tensors[0].dtype
    are_alike = all(tensor.is_cpu and tensor.dtype == dtype for tensor in tensors)
    return are_alike and dtype in SUFFIX and compiled()[0] is not None


def call(name: str, dtype: torch.dtype, *arguments: torch.Tensor | ctypes.Array | int | float | None) -> None:
    """Calls a function of SIGNATURES for a type: tensors and arrays are passed as pointers, None as null."""
    library, why = compiled()
    if library is None:
        raise RuntimeError(f"{name} was called, but {why}")
    function = getattr(library, f"{name}_{SUFFIX[dtype]}")
    function(*(value.data_ptr() if isinstance(value, torch.Tensor) else value for value in arguments))


def instruction_set() -> str | None:
    """The one of INSTRUCTION_SETS that the compiled products run on; None where nothing is compiled."""
    functions, _ = compiled()
    return _instruction_set(functions) if functions is not None else None


def _instruction_set(library: ctypes.CDLL) -> str:
    return list(INSTRUCTION_SETS)[library.instruction_set()]


def has_tiles() -> bool:
    """Whether the compiled bf16 products run on a matrix unit (AMX)."""
    return instruction_set() == "amx"


def fast_products(*tensors: torch.Tensor) -> bool:
    """Whether the compiled functions take these tensors, and multiply them faster than PyTorch does."""
    return usable(*tensors) and (instruction_set(), tensors[0].dtype) in SMALL_PRODUCTS


def page_out(tensor: torch.Tensor) -> None:
    """Lets the system page out the memory of a tensor that is not needed soon; its values stay."""
    functions, _ = compiled()
    if tensor.device.type == "cpu" and tensor.is_contiguous() and functions is not None:
        functions.page_out(tensor.data_ptr(), tensor.nbytes)


def release_memory() -> None:
    """Frees reference cycles (a Trainer and its callbacks are some) and returns freed memory to the system."""
    gc.collect()
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class CannotCompile(Exception):
    """Why kernels.cpp cannot be compiled here."""


@cache
def compiled() -> tuple[ctypes.CDLL | None, str]:
    """The functions of kernels.cpp for this processor, or None, and why."""
    return build(FLAGS)


def build(flags: str) -> tuple[ctypes.CDLL | None, str]:
    """The functions of kernels.cpp as these flags compile it, or None, and why."""
    try:
        path = _library(flags)
        library = _declared(ctypes.CDLL(str(path)))
    except (CannotCompile, OSError) as error:  # a folder that allows no programs refuses the library, too
        return None, f"{error}: {INSTEAD}"
    target = INSTRUCTION_SETS[_instruction_set(library)]
    return library, f"norms, gates, attention, LoRA and loss are compiled for {target} ({path})"


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions; AttributeError where one is missing that every build has."""
    library.instruction_set.argtypes, library.instruction_set.restype = [], ctypes.c_int64
    library.page_out.argtypes, library.page_out.restype = [ctypes.c_void_p, ctypes.c_int64], None
    for name, kinds in SIGNATURES.items():
        for symbol in (f"{name}_{suffix}" for suffix in SUFFIX.values()):
            if name == ONLY_WITH_TILES and not hasattr(library, symbol):
                continue
            function = getattr(library, symbol)
            function.argtypes, function.restype = [KINDS[kind] for kind in kinds], None
    return library


def sources() -> list[Path]:
    """What is compiled: the C++ files beside kernels.cpp."""
    return sorted(path for path in SOURCE.parent.iterdir() if path.suffix in (".h", ".cpp"))


def _library(flags: str) -> Path:
    """The shared library of kernels.cpp under these flags, compiled unless the cache folder has it."""
    compiler, openmp = _compiler(), _openmp()
    version = _run([*compiler, "--version"], "be asked its version").stdout
    texts = (path.read_text(encoding="utf-8") for path in sources())
    key = sha256_of_text(*texts, flags, *compiler, version, str(openmp), _processor())
    try:
        return _whole(cache_folder(), key) or _compiled_into(
            writable_cache(), key, partial(_compile, compiler, flags, openmp)
        )
    except GemtuneError as error:
        raise CannotCompile(str(error)) from error


def _whole(folder: Path, key: str) -> Path | None:
    """The library of a key whose bytes are those that were compiled: to load a cut one kills the process."""
    for path in folder.glob(f"native-{key[:16]}-*.so"):
        if path.stem.endswith(f"-{sha256_of(path)[:16]}"):
            return path
    return None


def _compiled_into(folder: Path, key: str, compile_to: Callable[[Path], Path]) -> Path:
    """Compiles the library of a key and names it after its bytes."""
    with os_errors(folder, CACHING), tempfile.TemporaryDirectory(dir=folder) as temporary:
        library = compile_to(Path(temporary) / "native.so")
        for damaged in folder.glob(f"native-{key[:16]}-*.so"):
            damaged.unlink(missing_ok=True)
        return library.replace(folder / f"native-{key[:16]}-{sha256_of(library)[:16]}.so")


def _compile(compiler: list[str], flags: str, openmp: Path, library: Path) -> Path:
    """Writes the shared library, with OpenMP but linked to PyTorch's own copy: two thread pools fight for the cores."""
    steps = (
        [*compiler, *flags.split(), "-fopenmp", "-c", str(SOURCE), "-o", f"{library}.o"],
        [
            *compiler,
            *flags.split(),
            "-shared",
            f"{library}.o",
            str(openmp),
            f"-Wl,-rpath,{openmp.parent}",
            "-o",
            str(library),
        ],
    )
    for step in steps:
        process = _run(step, f"compile {SOURCE.name} here")
        if process.returncode:
            why = (process.stderr.strip().splitlines() or ["no message"])[0]
            raise CannotCompile(f"{' '.join(compiler)} cannot compile {SOURCE.name} here ({why})")
    return library


def _run(command: list[str], purpose: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIME_LIMIT)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise CannotCompile(f"{command[0]} cannot {purpose} within {TIME_LIMIT:g} s") from error
    except OSError as error:
        raise CannotCompile(f"{command[0]} cannot {purpose} ({error.strerror}); CXX names the compiler") from error


def _compiler() -> list[str]:
    """The command of the C++ compiler: $CXX, which may have arguments, as "ccache g++" has, or the system's."""
    command = os.environ.get("CXX")
    if command:
        try:
            return shlex.split(command)
        except ValueError as error:
            raise CannotCompile(f"CXX is {command}, which is no command ({error})") from error
    path = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if path is None:
        raise CannotCompile(MISSING)
    return [path]


def _openmp() -> Path:
    """PyTorch's own copy of GCC's OpenMP library."""
    folder = Path(torch.__file__).parent / "lib"
    library = next(folder.glob("libgomp*"), None)
    if library is None:
        substitute = next((path.name for path in sorted(folder.glob("lib*omp*"))), "none")
        raise CannotCompile(
            f"kernels.cpp shares GCC's OpenMP library, libgomp, with PyTorch; its builds for Linux bring it, this one "
            f"for {platform.system()} brings {substitute}"
        )
    return library


def _processor() -> str:
    """What -march=native depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else [platform.processor()]
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
