"""bf16, fp16 or fp32: what a device computes fast in, and the reason for the manifest."""

from __future__ import annotations

import time
from statistics import median

import torch

from gemtune.hardware import memory_gb
from gemtune.models.loading import DTYPES

FASTER = 1.25  # times: from there on the speed of fp32 is worth twice the memory of bf16
OF_MEMORY = 0.25  # of the machine's memory: what weights in fp32 may take, as activations and the user need the rest
PAIRS, TOKENS, SIZE, OUT = 5, 512, 640, 8192
# Where a processor has both. The same words whenever they are chosen: they are kept in the manifest.
BOTH = {
    "fp32": "this CPU multiplies matrices faster in fp32 than in bf16",
    "bf16": "this CPU multiplies matrices in bf16 about as fast as in fp32, or faster, in half the memory",
}


def choose_precision(wanted: str, device: str, fp32_bytes: float = 0, begun: str | None = None) -> tuple[str, str]:
    """bf16, fp16 or fp32, and why.

    `fp32_bytes` are those of the model's weights in fp32; `begun` is the precision that the run began with, which is
    kept where both would do, since a speed that is measured again may come out otherwise.
    """
    if wanted != "auto":
        slow = device == "cuda" and wanted == "fp32"
        return wanted, "the recipe says so" + ("; it leaves a GPU's fast matrix units unused" if slow else "")
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
    # PyTorch for macOS has no oneDNN.
    has_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if not has_bf16 or not torch.cpu._is_avx512_bf16_supported():
        return "fp32", "this CPU has no native bf16"
    if torch.cpu._is_amx_tile_supported():
        return "bf16", "this CPU has AMX: several times the speed and half the memory of fp32"
    if fp32_bytes > OF_MEMORY * memory_gb() * 1e9:
        return "bf16", f"this CPU has AVX512-BF16, and in fp32 the weights would take {fp32_bytes / 1e9:.1f} GB"
    chosen = begun if begun in BOTH else "fp32" if fp32_advantage() > FASTER else "bf16"
    return chosen, BOTH[chosen]


def fp32_advantage() -> float:
    """How many times as fast as bf16's the matrix products of fp32 are here.

    Processors with AVX512-BF16 differ: 1.8 on an Intel Xeon whose AMX is hidden, 0.5 on an AMD Zen 4. The two are timed
    in turn, so that other work takes as much of both.
    """
    operands = {p: [torch.randn(rows, SIZE, dtype=DTYPES[p]) for rows in (TOKENS, OUT)] for p in BOTH}
    seconds = {precision: list[float]() for precision in BOTH}
    for _ in range(1 + PAIRS):  # the first prepares the kernels
        for precision, (x, weight) in operands.items():
            began = time.perf_counter()
            torch.mm(torch.mm(x, weight.t()), weight)
            seconds[precision].append(time.perf_counter() - began)
    return median(bf16 / fp32 for bf16, fp32 in zip(seconds["bf16"][1:], seconds["fp32"][1:], strict=True))
