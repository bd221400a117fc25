"""The C++ and the Python say the same of each other, and no kernel leaves its memory."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gemtune.kernels import native
from gemtune.kernels.attention import CompiledAttention
from gemtune.kernels.lora import Outer, OuterArguments, add_low, append_low, outers


def kinds_of(parameters: str) -> str:
    """C++ parameters or fields in the letters of SIGNATURES.

    >>> kinds_of("const T* x, float* out, int64_t rows, float eps")
    'ppif'
    """
    letters = {"int64_t": "i", "float": "f"}
    return "".join("p" if "*" in one else letters[one.split()[0]] for one in parameters.split(",") if one.strip())


def test_every_exported_function_takes_what_python_says() -> None:
    source = native.SOURCE.read_text(encoding="utf-8").replace("\\\n", " ")
    activations = re.findall(r"EXPORT_GATED\(T, S, (\w+), \w+\)", source[source.index("define EXPORT(") :])
    declared = {}
    for name, parameters in re.findall(r'extern "C" \w+ ([\w#]+)\(([^)]*)\)', source):
        stem = re.sub(r"(_##S|_bf16)$", "", name)
        for activation in activations if "##" in stem else [""]:
            declared[stem.replace("name##", activation)] = kinds_of(parameters)
    assert declared.pop("instruction_set") == "" and declared.pop("page_out") == "pi"
    assert declared == native.SIGNATURES


def test_the_structure_of_a_product_is_the_same_in_both() -> None:
    header = (native.SOURCE.parent / "lora.h").read_text(encoding="utf-8")
    [body] = re.findall(r"struct Outer \{(.*?)\n\n", header, re.DOTALL)
    fields = []
    for line in filter(str.strip, body.split(";")):
        assert "*" in line or line.split()[0] == "int64_t"
        fields += [(field.split("*")[-1].split()[-1], "*" in field) for field in line.split(",")]
    assert fields == [(name, kind is ctypes.c_void_p) for name, kind in OuterArguments._fields_]


def test_the_readme_names_every_file_and_every_kernel() -> None:
    readme = (native.SOURCE.parent / "README.md").read_text(encoding="utf-8")
    kernels = {name.removesuffix("_backward") for name in native.SIGNATURES}
    assert not {name for name in kernels if not re.search(rf"`{name}`|^ +{name} ", readme, re.MULTILINE)}
    assert {path.name for path in native.sources()} == set(re.findall(r"^\| `(.+?)` \|", readme, re.MULTILINE))


@pytest.mark.parametrize("dtype", native.SUFFIX)
def test_the_number_of_threads_changes_no_digit(dtype: torch.dtype) -> None:
    """As the README has it; head_loss is the exception."""
    if native.compiled()[0] is None:
        pytest.skip("no compiler is here")
    results = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append([tensor for lengths in ([40] * 6, [130, 3]) for tensor in every_sum(lengths, dtype)])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def every_sum(lengths: list[int], dtype: torch.dtype) -> list[torch.Tensor]:
    """What kernels make of the same random numbers, where they sum."""
    torch.manual_seed(0)
    tokens, words = sum(lengths), 5000
    query, key, value = (torch.randn(tokens, heads, 24).to(dtype).requires_grad_() for heads in (4, 2, 2))
    out = CompiledAttention.apply(query, key, value, tuple(lengths), 0.2, 32)
    grads = torch.autograd.grad(out.float().square().sum(), (query, key, value))
    x, low, a = (torch.randn(shape).to(dtype) for shape in ((tokens, 600), (tokens, 20), (600, 20)))
    products = outers([Outer(low, x), Outer(low, x, 2.0, transposed=True)])
    logits, gold = torch.randn(words, tokens).to(dtype), torch.randint(0, words, (tokens,))
    loss, top, share = torch.empty(3, tokens)
    right, slope = torch.empty(tokens, dtype=torch.int64), torch.empty(tokens, words, dtype=dtype)
    native.call("cross_entropy", dtype, logits, gold, loss, right, top, share, tokens, words)
    native.call("cross_entropy_backward", dtype, logits, gold, top, share, slope, tokens, words, 0)
    return [out.detach(), *grads, append_low(x, a), add_low(x, low, a.t()), *products, loss, right, slope]


def test_sanitizers_find_nothing_in_any_kernel(widest_flags: str, tmp_path: Path) -> None:
    """Addresses and undefined behaviour, in a process that loads the sanitizers before everything else."""
    compiler = native._compiler()[0]
    queries = [[compiler, f"-print-file-name=lib{part}.so"] for part in ("asan", "ubsan")]
    libraries = [subprocess.run(command, capture_output=True, text=True).stdout.strip() for command in queries]
    if not all(Path(library).is_absolute() for library in libraries):
        pytest.skip(f"{compiler} has no sanitizer libraries to load first")
    flags = widest_flags.replace("-O3", "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("every_kernel.py")), flags],
        env={
            **os.environ,
            "LD_PRELOAD": ":".join(libraries),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
            "GEMTUNE_CACHE": str(tmp_path),
            "OMP_NUM_THREADS": "2",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    instructions, *called = done.stdout.split()
    head = {"head_loss"} if instructions == "amx" else set()
    assert set(called) == native.SIGNATURES.keys() - {"head_loss"} | head
