"""Calls every compiled kernel through its Python, in both types: `python every_kernel.py FLAGS`, under sanitizers.

tests/kernels/test_cpp.py runs it in a process of its own; tensors of odd sizes end where their memory ends.
"""

from __future__ import annotations

import sys

import torch

from gemtune.kernels import native
from gemtune.kernels.attention import documents_attention
from gemtune.kernels.cross_entropy import labelled_cross_entropy
from gemtune.kernels.lora import Outer, add_low, append_low, outers, round_into
from gemtune.kernels.mlp import ACTIVATIONS, gated, gated_backward
from gemtune.kernels.norms import RmsNorm, RmsNormRope

LENGTHS = [1, 33, 40, 130]


def main() -> None:
    built = native.build(sys.argv[1])
    if built[0] is None:
        raise SystemExit(built[1])
    native.compiled = lambda: built
    native.SMALL_PRODUCTS = {(name, dtype) for name in native.INSTRUCTION_SETS for dtype in native.SUFFIX}
    called, call = set(), native.call

    def noted(name: str, *arguments: object) -> None:
        called.add(name)
        call(name, *arguments)

    native.call = noted
    for dtype in native.SUFFIX:
        everything(dtype)
    print(native.instruction_set(), *sorted(called))


def everything(dtype: torch.dtype) -> None:
    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape).to(dtype).requires_grad_()

    for softcap_free_head in (some(301, 32), some(301, 32).detach()):
        loss, _ = labelled_cross_entropy(some(37, 32), softcap_free_head, torch.randint(0, 301, (37,)))
        loss.backward()
    tokens = sum(LENGTHS)
    for window, images in ((None, ()), (16, ((), ((3, 30),), (), ((0, 5), (90, 130))))):
        query, key, value = some(tokens, 4, 24), some(tokens, 2, 24), some(tokens, 2, 24)
        documents_attention(query, key, value, LENGTHS, 0.2, window, images).float().sum().backward()
    RmsNorm.apply(some(7, 40), torch.zeros(40), 1e-6).float().sum().backward()
    angles = torch.rand(1, 9, 8).to(dtype)
    RmsNormRope.apply(some(1, 9, 3, 16), torch.zeros(16), angles, angles, 1e-6).float().sum().backward()
    with torch.no_grad():
        for activation in ACTIVATIONS:
            gated(some(5, 2 * 19), activation)
            gated_backward(some(5, 2 * 19), some(5, 19), activation)
        round_into(torch.empty(3, 7, dtype=dtype), torch.randn(3, 7), 0.5)
        append_low(some(37, 45), some(45, 5))
        add_low(some(37, 45), some(37, 5), some(5, 45))
        outers([Outer(some(37, 5), some(37, 45)), Outer(some(37, 20), some(37, 300), 2.0, transposed=True)])


if __name__ == "__main__":
    main()
