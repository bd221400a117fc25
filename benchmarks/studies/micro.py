"""Which way to compute a part is fastest? Small measurements at the shapes of Gemma 3 270M, in auto precision."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.compare.results import table
from benchmarks.machine import HELD_TO, hold_to, write_page
from gemtune.kernels import cross_entropy
from gemtune.kernels.attention import CompiledAttention
from gemtune.kernels.batched_attention import BatchedAttention
from gemtune.kernels.lora import LinearGroup, grouped_linear
from gemtune.kernels.mlp import gated, gated_backward
from gemtune.kernels.native import has_tiles
from gemtune.models.loading import DTYPES
from gemtune.training.precision import choose_precision

REPEATS = 30
HEADS, KV_HEADS, SIZE = 4, 1, 256
CAST = (("gate and up", 432, 640, 4096), ("down", 432, 2048, 640), ("head", 60, 640, 262_144))
BODY = """\
{threads} threads, {precision}; medians of {repeats}, milliseconds.

Attention, forward and backward, {heads} heads of {size} that share {kv} key head:

{attention}

A linear layer with LoRA r 16, 640 to 2,048, 432 tokens, forward and backward:

{lora}

Act(gate) * up, 432 x 2,048, forward and backward:

{gated}

The head W, 262,144 words by 640, for the hidden states h of so many tokens and the gradient g of their logits; then the
loss of gemtune's cross-entropy with the gradient of h:

{head}

The first product of a shape, for which oneDNN compiles a kernel, and the next; 640 to 4,096, forward and backward:

{first}

A frozen product of 432 tokens by PyTorch; its weight with an output per row, with an output per column, and packed for
oneDNN:

{packed}

A frozen weight that is kept in bf16 and cast to fp32 for each product, there and back, beside one that is kept in fp32,
at half the memory of weights; the head is met by labelled tokens alone:

{cast}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-to", choices=tuple(HELD_TO), default="", help="a smaller instruction set")
    args = parser.parse_args()
    if args.held_to:
        hold_to(args.held_to)
    torch.manual_seed(0)
    precision, _ = choose_precision("auto", "cpu")
    dtype = DTYPES[precision]
    body = BODY.format(
        threads=torch.get_num_threads(),
        precision=precision,
        repeats=REPEATS,
        heads=HEADS,
        size=SIZE,
        kv=KV_HEADS,
        attention=attention(dtype),
        lora=lora(dtype),
        gated=gated_products(dtype),
        head=head(dtype),
        first=first_of_a_shape(dtype),
        packed=packed(dtype),
        cast=cast_for_each_product(),
    )
    write_page(__file__, "Small measurements", body, args.held_to)


def milliseconds(work: Callable[[], object]) -> str:
    times = []
    for _ in range(REPEATS + 3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return f"{1e3 * median(times[3:]):.2f}"


def attention(dtype: torch.dtype) -> str:
    rows = []
    for documents, length in ((16, 27), (4, 64), (1, 128), (1, 192), (1, 256), (1, 512)):
        shapes = [(documents * length, heads, SIZE) for heads in (HEADS, KV_HEADS, KV_HEADS)]
        packed = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
        lengths = (length,) * documents

        def ours(how: Any, packed: list[torch.Tensor] = packed, lengths: tuple[int, ...] = lengths) -> None:
            out = how.apply(*packed, lengths, SIZE**-0.5, None)
            out.backward(out.detach())

        def flash(shared: bool, packed: list[torch.Tensor] = packed, length: int = length) -> None:
            q, k, v = (t.view(-1, length, t.shape[1], SIZE).transpose(1, 2) for t in packed)
            if not shared:
                k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
            out = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
            out.backward(out.detach())

        ways = [lambda f=ours, how=how: f(how) for how in (CompiledAttention, BatchedAttention)]
        times = [milliseconds(way) for way in (*ways, lambda f=flash: f(True), lambda f=flash: f(False))]
        rows.append([f"{documents} x {length}", *times])
    return table(
        "documents x tokens | kernels/cpp | batched products | PyTorch, heads shared | PyTorch, heads repeated", rows
    )


def lora(dtype: torch.dtype) -> str:
    model = get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(640, 2048, bias=False, dtype=dtype)),
        LoraConfig(r=16, target_modules=["0"]),
    )
    layer = model.base_model.model[0]
    x = torch.randn(432, 640).to(dtype).requires_grad_()
    frozen = torch.randn(2048, 640).to(dtype)

    def both(forward: Callable[[], torch.Tensor]) -> str:
        def work() -> None:
            out = forward()
            out.backward(out.detach())

        return milliseconds(work)

    peft = both(lambda: layer(x))
    group = LinearGroup([layer])
    rows = [
        ["the frozen weight alone", both(lambda: x @ frozen.t())],
        ["PEFT", peft],
        ["in one product with the frozen weight", both(lambda: grouped_linear(x, group))],
    ]
    return table("| ms", rows)


def gated_products(dtype: torch.dtype) -> str:
    both = torch.randn(432, 4096).to(dtype)
    slope = torch.randn(432, 2048).to(dtype)
    leaf = both.clone().requires_grad_()

    def plain() -> None:
        gate, up = leaf.chunk(2, 1)
        (torch.nn.functional.gelu(gate, approximate="tanh") * up).backward(slope)

    def ours() -> None:
        gated(both, "gelu_pytorch_tanh")
        gated_backward(both, slope, "gelu_pytorch_tanh")

    return table("| ms", [["PyTorch", milliseconds(plain)], ["kernels/cpp", milliseconds(ours)]])


def head(dtype: torch.dtype) -> str:
    weight, rows = torch.randn(262_144, 640).to(dtype), []
    for tokens in (16, 48, 64, 128):
        h, g = torch.randn(tokens, 640).to(dtype), torch.randn(tokens, 262_144).to(dtype)
        leaf, gold = h.clone().requires_grad_(), torch.randint(0, 262_144, (tokens,))

        def loss(swept: bool, leaf: torch.Tensor = leaf, gold: torch.Tensor = gold) -> None:
            with patch.object(cross_entropy, "sweeps", lambda hidden, weight: swept):
                cross_entropy.labelled_cross_entropy(leaf, weight, gold)[0].backward()

        ways = (lambda h=h: h @ weight.t(), lambda h=h: weight @ h.t(), lambda g=g: g @ weight)
        swept = milliseconds(lambda f=loss: f(True)) if has_tiles() else "needs AMX"
        rows.append([str(tokens), *map(milliseconds, (*ways, lambda f=loss: f(False))), swept])
    return table(
        "tokens | h W^T, a row per token | W h^T, a column per token | g W | loss by products | in one sweep", rows
    )


def first_of_a_shape(dtype: torch.dtype) -> str:
    weight, rows = torch.randn(4096, 640).to(dtype), []
    for tokens in (401, 402, 403):
        x, d = torch.randn(tokens, 640).to(dtype), torch.randn(tokens, 4096).to(dtype)
        cells = []
        for way in (lambda x=x: x @ weight.t(), lambda d=d: d @ weight):
            began = time.perf_counter()
            way()
            cells += [f"{1e3 * (time.perf_counter() - began):.2f}", milliseconds(way)]
        rows.append([str(tokens), *cells])
    return table("tokens | forward, first | next | backward, first | next", rows)


def packed(dtype: torch.dtype) -> str:
    rows = []
    for size, out in ((704, 1536), (672, 4096), (1024, 672), (2048, 672)):
        x, weight = torch.randn(432, size).to(dtype), torch.randn(out, size).to(dtype)
        turned = weight.t().contiguous()
        ways = (lambda x=x, weight=weight: x @ weight.t(), lambda x=x, turned=turned: x @ turned)
        rows.append([f"{size} to {out}", *(milliseconds(way) for way in ways), _ready(x, weight)])
    return table("| by rows | by columns | packed beforehand", rows)


def _ready(x: torch.Tensor, weight: torch.Tensor) -> str:
    """The product with a weight that is packed for oneDNN, which does that for bf16."""
    if weight.dtype != torch.bfloat16:
        return "bf16 only"
    ready = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    return milliseconds(lambda: torch.ops.mkldnn._linear_pointwise(x, ready, None, "none", [], ""))


def cast_for_each_product() -> str:
    rows = []
    for name, tokens, size, out in (
        ("gate and up", 432, 640, 4096),
        ("down", 432, 2048, 640),
        ("head", 60, 640, 262_144),
    ):
        x, d = torch.randn(tokens, size), torch.randn(tokens, out)
        kept = torch.randn(out, size)
        stored = kept.bfloat16()

        def there_and_back(weight: Callable[[], torch.Tensor], x: torch.Tensor = x, d: torch.Tensor = d) -> None:
            x @ weight().t()
            d @ weight()

        ways = (lambda f=there_and_back, w=kept: f(lambda: w), lambda f=there_and_back, w=stored: f(lambda: w.float()))
        rows.append([f"{name}, {tokens} tokens", *(milliseconds(way) for way in ways)])
    return table("| kept in fp32 | kept in bf16, cast", rows)


if __name__ == "__main__":
    main()
