"""Attention over a packed row: each document attends to itself only, and costs only its own length.

On a CPU short documents run in kernels/cpp. Those of middle length, and short ones too where kernels/cpp is not
compiled, are plain batched products: in backward PyTorch's flash kernel for CPUs takes five times as long over rows of
27 tokens. Longer ones go through `scaled_dot_product_attention`, in bands where the layer's window is shorter than they
are. On a GPU, PyTorch's flash kernel for packed rows takes them all at once where it can; elsewhere, and with images,
they are padded to each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gemtune.kernels import native
from gemtune.kernels.autograd import Context
from gemtune.kernels.batched_attention import BatchedAttention
from gemtune.kernels.padded_attention import Spans, banded_attention, padded_attention

if TYPE_CHECKING:
    from typing import Any

NAME = "gemtune"  # the attention implementation a model is loaded with
# The longest documents, in tokens, that are faster in kernels/cpp than as batched products, by instruction set.
# Best of 10, 1 thread, forward and backward, 4 heads of 256, batched / compiled in ms, on a Zen 4 with and without its
# AVX-512, for 16 documents of 15 to 45 tokens, 16 of 20 to 110, one of 250 and one of 500:
#   AVX-512, fp32: 8.06 / 6.43, 18.3 / 13.0, 9.5 / 6.6 and 35.9 / 22.7
#   AVX-512, bf16: 6.86 / 5.20, 13.3 / 12.2, 5.7 / 6.4 and 21.2 / 22.4
#   AVX2, fp32: 7.85 / 7.30, 18.2 / 17.1, 9.2 / 9.3 and 35.0 / 39.0; bf16, emulated by PyTorch: 20 / 6 for 16 of 27
# AMX: micro.md of benchmarks/results. Not measured: ARM (taken as AVX2), and bf16 on AVX-512 without BF16, which
# PyTorch emulates too.
COMPILED: dict[tuple[str | None, torch.dtype], int] = {
    ("narrow", torch.float32): 128,
    ("narrow", torch.bfloat16): 512,
    ("avx512", torch.float32): 128,
    ("avx512", torch.bfloat16): 512,
    ("avx512_bf16", torch.float32): 128,
    ("avx512_bf16", torch.bfloat16): 128,
    ("amx", torch.float32): 128,
    ("amx", torch.bfloat16): 512,
}
# The longest that are faster as batched products than by PyTorch's flash kernel: micro.md of benchmarks/results.
BATCHED = 512
# What transformers passes along and attention over documents does not need: positions are in queries and keys already.
UNUSED = {"dropout", "is_causal", "position_ids", "use_cache"}
LIKE = 1.25  # documents up to this ratio of lengths are padded to the longest of them


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    document_lengths: Sequence[int] | None = None,
    image_spans: Sequence[Spans] = (),
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query (B, heads, T, D), key and value (B, kv_heads, T, D) -> (B, T, heads, D).

    With `document_lengths` the single row (B = 1) is a sequence of documents; without, this is transformers' `sdpa`.
    `image_spans` are, for each document, the (start, end) of tokens that attend to each other in both directions.
    """
    query, key = query.to(value.dtype), key.to(value.dtype)  # stock rotary positions are fp32 in a mixed model
    if document_lengths is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, sliding_window=sliding_window, **kwargs
        )
        return out, None
    unknown = sorted(kwargs.keys() - UNUSED)
    if unknown:
        raise TypeError(f"attention over documents got {', '.join(unknown)}; it knows {', '.join(sorted(UNUSED))}")
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, D)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    with torch.autocast(query.device.type, enabled=False):  # scores are fp32 where a kernel says so
        return documents_attention(q, k, v, document_lengths, scale, sliding_window, image_spans)[None], None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def documents_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    scale: float,
    window: int | None = None,
    image_spans: Sequence[Spans] = (),
) -> torch.Tensor:
    """Causal attention inside each of consecutive documents: query (T, N, D), key and value (T, K, D) -> (T, N, D).

    A token attends to the last `window` tokens of its document up to itself, or to all of them without a window. The
    tokens of each of `image_spans` also attend to each other.
    """
    if query.is_cuda:
        return _on_gpu(query, key, value, lengths, scale, window, image_spans)
    spans = dict(enumerate(image_spans))
    limit = COMPILED.get((native.instruction_set(), query.dtype), 0) if native.usable(query, key, value) else 0
    loners = {number for number, images in spans.items() if images and lengths[number] > limit}
    groups = list(grouped(lengths, limit, loners))
    sizes = [sum(group) for group in groups]
    outs: list[torch.Tensor] = []
    document = 0
    for q, k, v, group in zip(*(t.split(sizes) for t in (query, key, value)), groups, strict=True):
        longest, images = max(group), tuple(spans.get(number, ()) for number in range(document, document + len(group)))
        if document in loners:
            outs.append(_attention_with_images(q, k, v, scale, window, images[0]))
        elif longest <= limit:
            outs.append(CompiledAttention.apply(q, k, v, group, scale, window, *([images] if any(images) else [])))
        elif longest <= BATCHED:
            outs.append(BatchedAttention.apply(q, k, v, group, scale, window))
        else:
            outs.append(banded_attention(q, k, v, scale, window))
        document += len(group)
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _on_gpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    scale: float,
    window: int | None,
    image_spans: Sequence[Spans],
) -> torch.Tensor:
    if any(image_spans) or choose_gpu_attention(query.dtype, query.shape[-1])[0] == "padded":
        return padded_attention(query, key, value, lengths, scale, window, image_spans)
    return varlen_attention(query, key, value, tuple(lengths), scale, window)


def choose_gpu_attention(dtype: torch.dtype, head_size: int) -> tuple[str, str]:
    """How documents without images attend to themselves on this GPU, `packed` or `padded`, and why."""
    if dtype not in (torch.bfloat16, torch.float16):
        return "padded", "PyTorch's flash kernel for packed rows takes bf16 and fp16 alone"
    if torch.cuda.get_device_capability() < (8, 0):
        return "padded", "PyTorch's flash kernel for packed rows needs a GPU of sm80 or later"
    if head_size % 8 or head_size > 256:
        return "padded", f"heads of {head_size}: PyTorch's flash kernel takes multiples of 8 up to 256"
    if not _varlen_parameters() >= {"scale", "window_size"}:
        return "padded", f"torch {torch.__version__} has no flash kernel for packed rows with windows; 2.11 has"
    return "packed", "PyTorch's flash kernel takes all documents at once"


def _varlen_parameters() -> frozenset[str]:
    """What this PyTorch's flash kernel for packed rows can be told: nothing in 2.9, more with each version."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return _parameters(varlen_attn)


@cache
def _parameters(function: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def varlen_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """documents_attention without images by PyTorch's flash kernel for packed rows."""
    from torch.nn.attention.varlen import varlen_attn

    ends, longest = _varlen_ends(lengths, query.device), max(lengths)
    sizes = (-1 if window is None else window - 1, 0)  # earlier and later tokens that a token attends to
    arguments: dict[str, Any] = {"scale": scale, "window_size": sizes}
    if "enable_gqa" in _varlen_parameters():  # torch 2.11 shares heads without being told
        arguments["enable_gqa"] = True
    return cast(torch.Tensor, varlen_attn(query, key, value, ends, ends, longest, longest, **arguments))


@lru_cache(maxsize=64)
def _varlen_ends(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """0 and the end of every document (documents + 1,) int32."""
    return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)


def grouped(lengths: Sequence[int], compiled: int, loners: Collection[int] = ()) -> Iterator[tuple[int, ...]]:
    """Neighbours to run together: any of up to `compiled` tokens, or like lengths of up to BATCHED.

    The documents whose numbers are in `loners` are groups of one.

    >>> list(grouped([900, 200, 180, 20, 5], compiled=128))
    [(900,), (200, 180), (20, 5)]
    >>> list(grouped([200, 180, 20, 5], compiled=0))
    [(200, 180), (20,), (5,)]
    >>> list(grouped([9, 9, 9, 9], compiled=128, loners={1}))
    [(9,), (9,), (9, 9)]
    """
    group: list[int] = []
    for number, length in enumerate(lengths):
        shortest, longest = min([*group, length]), max([*group, length])
        are_like = compiled < shortest and longest <= min(BATCHED, LIKE * shortest)
        is_apart = number in loners or number - 1 in loners
        if group and (is_apart or not (longest <= compiled or are_like)):
            yield tuple(group)
            group = []
        group.append(length)
    if group:
        yield tuple(group)


class _CompiledContext(Context):
    documents: torch.Tensor  # their lengths
    ends: torch.Tensor | None
    sizes: tuple[int | float, ...]


class CompiledAttention(torch.autograd.Function):
    """documents_attention by kernels/cpp, document by document; backward recomputes the scores."""

    @staticmethod
    def forward(
        ctx: _CompiledContext,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
        window: int | None,
        image_spans: tuple[Spans, ...] = (),
    ) -> torch.Tensor:
        query, key, value = query.contiguous(), _heads_together(key), _heads_together(value)
        ctx.save_for_backward(query, key, value)
        ctx.documents = torch.tensor(lengths)
        heads, size = query.shape[1:]
        strides = (key.stride(0), value.stride(0))
        ctx.sizes = (len(lengths), heads, key.shape[1], size, *strides, window or 0, scale)
        out = torch.empty_like(query)
        ctx.ends = _ends(lengths, image_spans) if image_spans else None
        native.call("attention", query.dtype, query, key, value, out, ctx.documents, ctx.ends, *ctx.sizes)
        return out

    @staticmethod
    def backward(ctx: _CompiledContext, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        grads = [torch.empty(t.shape, dtype=t.dtype) for t in (query, key, value)]
        tensors = (d_out.contiguous(), query, key, value, *grads, ctx.documents, ctx.ends)
        native.call("attention_backward", query.dtype, *tensors, *ctx.sizes)
        return *grads, None, None, None, None


@lru_cache(maxsize=16)
def _ends(lengths: tuple[int, ...], image_spans: tuple[Spans, ...]) -> torch.Tensor:
    """The end of what each token attends to, from its document's start (T,) int64: itself, or its image's end.

    >>> _ends((4, 2), (((1, 3),), ())).tolist()
    [1, 3, 3, 4, 1, 2]
    """
    ends = [torch.arange(1, length + 1) for length in lengths]
    for document, spans in zip(ends, image_spans, strict=True):
        for start, end in spans:
            document[start:end] = end
    return torch.cat(ends)


def _heads_together(x: torch.Tensor) -> torch.Tensor:
    """x (T, K, D) with contiguous heads; tokens may be further apart, as columns of a wider product are."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


def _attention_with_images(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None, spans: Spans
) -> torch.Tensor:
    """documents_attention for one document with images, under a mask of its own."""
    shared = query.shape[1] // key.shape[1]
    q, k, v = (t.transpose(0, 1)[None] for t in (query, key, value))  # (1, heads, T, D)
    k, v = (t.repeat_interleave(shared, 1) for t in (k, v))
    mask = _image_mask(query.shape[0], window, spans, query.device)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)[0].transpose(0, 1)


@lru_cache(maxsize=16)
def _image_mask(length: int, window: int | None, spans: Spans, device: torch.device) -> torch.Tensor:
    """Whether a token (row) attends to another (column): to earlier ones and within an image, both in the window."""
    positions = torch.arange(length)
    mask = positions[None] < _ends((length,), (spans,))[:, None]  # (T, T)
    if window is not None:
        mask &= positions[:, None] - positions[None] < window
    return mask.to(device)
