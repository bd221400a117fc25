"""Which work the compiled kernels do on this processor, in words: each only where it is faster than PyTorch."""

from __future__ import annotations

import torch

from gemtune.kernels import native
from gemtune.kernels.attention import COMPILED
from gemtune.kernels.cross_entropy import scores_with, sweeps_with


def kernels_in_use(dtype: torch.dtype, instruction_set: str | None) -> str:
    """What kernels/cpp computes in training with weights of a type, and what it leaves to PyTorch.

    >>> kernels_in_use(torch.float32, "narrow")
    'norms, gates, attention in documents of up to 128 tokens; PyTorch: cross-entropy, products of LoRA'
    >>> kernels_in_use(torch.bfloat16, "amx")
    'norms, gates, head and cross-entropy in one sweep, products of LoRA, attention in documents of up to 512 tokens'
    """
    if instruction_set is None or dtype not in native.SUFFIX:
        return "none; PyTorch: everything"
    sweeps = sweeps_with(dtype, instruction_set)
    ours, theirs = ["norms", "gates"], list[str]()
    (ours if sweeps or scores_with(dtype, instruction_set) else theirs).append(
        "head and cross-entropy in one sweep" if sweeps else "cross-entropy"
    )
    (ours if (instruction_set, dtype) in native.SMALL_PRODUCTS else theirs).append("products of LoRA")
    longest = COMPILED.get((instruction_set, dtype), 0)
    (ours if longest else theirs).append("attention" + f" in documents of up to {longest} tokens" * bool(longest))
    return ", ".join(ours) + (f"; PyTorch: {', '.join(theirs)}" if theirs else "")
