"""Attention over a packed row: each document sees itself only, and pays for itself only.

On a CPU short documents run in kernels/cpp, those of middle length (and all of them where it is not at hand) side by
side as plain batched products: PyTorch's flash kernel for CPUs takes five times as long to go back through rows of 27
tokens. Longer ones go through `scaled_dot_product_attention`, in bands where the layer's window is shorter than they
are. On a GPU of sm80 or later, PyTorch's flash kernel for packed rows takes them all at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gemtune.kernels import native

Spans = tuple[tuple[int, int], ...]  # (start, end) token positions

NAME = "gemtune"  # the attention implementation a model is loaded with
# The longest documents, in tokens, that are faster in kernels/cpp than as batched products, per instruction set.
# Best of 10, 1 thread, forward and backward, 4 heads of 256, batched / compiled in ms, on a Zen 4 with and without its
# AVX-512, for 16 documents of 15 to 45 tokens, 16 of 20 to 110, one of 250 and one of 500:
#   AVX-512, fp32: 8.06 / 6.43, 18.3 / 13.0, 9.5 / 6.6 and 35.9 / 22.7
#   AVX-512, bf16: 6.86 / 5.20, 13.3 / 12.2, 5.7 / 6.4 and 21.2 / 22.4
#   AVX2, fp32: 7.85 / 7.30, 18.2 / 17.1, 9.2 / 9.3 and 35.0 / 39.0; bf16, emulated by PyTorch: 20 / 6 for 16 of 27
# AMX: MICRO.md. Not measured: ARM (as AVX2), and bf16 on AVX-512 without BF16, which PyTorch emulates too.
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
BATCHED = 512  # the longest that are faster as batched products than by PyTorch's flash kernel: MICRO.md
# What transformers passes along and attention over documents has no use for: positions are in queries and keys already.
UNUSED = {"dropout", "is_causal", "position_ids", "use_cache"}
LIKE = 1.25  # documents are padded to each other up to this ratio of lengths


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    document_lengths: Sequence[int] | None = None,
    image_spans: Sequence[Spans] = (),
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query (B, heads, T, D), key and value (B, kv_heads, T, D) -> (B, T, heads, D).

    With `document_lengths`, the one row (B = 1) is that many documents in a row; without, this is transformers' `sdpa`.
    `image_spans` are, for each document, the (start, end) of tokens that see each other in both directions.
    """
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

    A token sees the last `window` tokens of its document, itself included; all of them without a window. The tokens of
    one of `image_spans` see each other, too.
    """
    spans = dict(enumerate(image_spans))
    kernel, most, most_seeing = packed_kernel(query, key, value)
    alone = {number for number, seen in spans.items() if seen and lengths[number] > most_seeing}
    groups = list(grouped(lengths, most, alone))
    sizes = [sum(group) for group in groups]
    outs: list[torch.Tensor] = []
    document = 0
    for q, k, v, group in zip(*(t.split(sizes) for t in (query, key, value)), groups, strict=True):
        longest, seen = max(group), tuple(spans.get(number, ()) for number in range(document, document + len(group)))
        if document in alone:
            outs.append(_attention_with_images(q, k, v, scale, window, seen[0]))
        elif longest <= most:
            outs.append(kernel(q, k, v, group, scale, window, *([seen] if any(seen) else [])))
        elif longest <= BATCHED:
            outs.append(BatchedAttention.apply(q, k, v, group, scale, window))
        else:
            outs.append(_long_attention(q, k, v, scale, window))
        document += len(group)
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def packed_kernel(*tensors: torch.Tensor) -> tuple[Callable[..., torch.Tensor], int, int]:
    """What takes documents together whatever their lengths, and up to how many tokens, without images and with."""
    query = tensors[0]
    if native.usable(*tensors):
        most = COMPILED.get((native.instruction_set(), query.dtype), 0)
        return CompiledAttention.apply, most, most
    half = query.dtype in (torch.bfloat16, torch.float16)
    if query.is_cuda and half and torch.cuda.get_device_capability(query.device) >= (8, 0):
        return varlen_attention, sys.maxsize, 0
    return CompiledAttention.apply, 0, 0


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
    before = -1 if window is None else window - 1  # tokens in front of a token that it sees
    asked: dict[str, Any] = {"scale": scale, "window_size": (before, 0), "enable_gqa": True}
    return cast(torch.Tensor, varlen_attn(query, key, value, ends, ends, longest, longest, **asked))


@lru_cache(maxsize=64)
def _varlen_ends(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """0 and where every document ends (documents + 1,) int32."""
    return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)


def grouped(lengths: Sequence[int], compiled: int, alone: Collection[int] = ()) -> Iterator[tuple[int, ...]]:
    """Neighbours to run side by side: all of up to `compiled` tokens, or like lengths of up to BATCHED.

    The documents of the numbers `alone` are groups by themselves.

    >>> list(grouped([900, 200, 180, 20, 5], compiled=128))
    [(900,), (200, 180), (20, 5)]
    >>> list(grouped([200, 180, 20, 5], compiled=0))
    [(200, 180), (20,), (5,)]
    >>> list(grouped([9, 9, 9, 9], compiled=128, alone={1}))
    [(9,), (9,), (9, 9)]
    """
    group: list[int] = []
    for number, length in enumerate(lengths):
        together = [*group, length]
        alike = compiled < min(together) and max(together) <= min(BATCHED, LIKE * min(together))
        apart = number in alone or number - 1 in alone
        if group and (apart or not (max(together) <= compiled or alike)):
            yield tuple(group)
            group = []
        group.append(length)
    if group:
        yield tuple(group)


class CompiledAttention(torch.autograd.Function):
    """documents_attention by kernels/cpp, document by document; the way back makes the scores again."""

    @staticmethod
    def forward(
        ctx: Any,
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
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        grads = [torch.empty(t.shape, dtype=t.dtype) for t in (query, key, value)]
        tensors = (d_out.contiguous(), query, key, value, *grads, ctx.documents, ctx.ends)
        native.call("attention_backward", query.dtype, *tensors, *ctx.sizes)
        return *grads, None, None, None, None


@lru_cache(maxsize=16)
def _ends(lengths: tuple[int, ...], image_spans: tuple[Spans, ...]) -> torch.Tensor:
    """How far each token sees, from its document's start (T,) int64: to itself, or to the end of its image.

    >>> _ends((4, 2), (((1, 3),), ())).tolist()
    [1, 3, 3, 4, 1, 2]
    """
    ends = [torch.arange(1, length + 1) for length in lengths]
    for own, spans in zip(ends, image_spans, strict=True):
        for start, end in spans:
            own[start:end] = end
    return torch.cat(ends)


def _heads_together(x: torch.Tensor) -> torch.Tensor:
    """x (T, K, D) whose heads lie one after another; tokens may lie apart, as columns of a wider product."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


class BatchedAttention(torch.autograd.Function):
    """documents_attention for documents of like lengths: padded to each other, two batched matrix products each way."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        grid = Grid(lengths, query.shape[1] // key.shape[1], query.device)
        q, k, v = grid.queries(query), grid.keys(key), grid.keys(value)
        # In fp32: a score of 20 rounded to bf16 is off by 0.06, which flash kernels do not do either.
        scores = torch.bmm(q.float(), k.float().transpose(1, 2))  # (B*K, T*g, T)
        weights = torch.softmax(scores.mul_(scale).add_(grid.mask(window)), -1).to(query.dtype)
        ctx.save_for_backward(q, k, v, weights)
        ctx.grid, ctx.scale = grid, scale
        return grid.rows(torch.bmm(weights, v), query.shape[1])

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        grid, kv_heads = ctx.grid, k.shape[0] // len(ctx.grid.lengths)
        d_o = grid.queries(d_out, pad=0.0)
        d_v = torch.bmm(weights.transpose(1, 2), d_o)
        d_weights = torch.bmm(d_o, v.transpose(1, 2)).float()
        exact = weights.float()
        d_scores = d_weights.mul_(exact)
        d_scores.sub_(exact.mul_(d_scores.sum(-1, keepdim=True))).mul_(ctx.scale)
        d_scores = d_scores.to(q.dtype)
        d_q, d_k = torch.bmm(d_scores, k), torch.bmm(d_scores.transpose(1, 2), q)
        heads = d_out.shape[1]
        return grid.rows(d_q, heads), grid.rows(d_k, kv_heads), grid.rows(d_v, kv_heads), None, None, None


class Grid:
    """B documents, packed as rows (sum of lengths, heads, D) and padded on the right as (B * kv_heads, T * g, D).

    g query heads share a key head; they stand beside each other as rows of one product.
    """

    def __init__(self, lengths: tuple[int, ...], shared: int, device: torch.device):
        self.lengths, self.shared, self.width, self.device = lengths, shared, max(lengths), device
        self.full = min(lengths) == self.width

    def queries(self, rows: torch.Tensor, pad: float | None = None) -> torch.Tensor:
        """(sum of lengths, heads, D) -> (B*K, T*g, D); pads repeat a token, or are `pad` where it matters."""
        return self._padded(rows, self.shared, pad)

    def keys(self, rows: torch.Tensor) -> torch.Tensor:
        """(sum of lengths, K, D) -> (B*K, T, D)."""
        return self._padded(rows, 1, None)

    def _padded(self, rows: torch.Tensor, shared: int, pad: float | None) -> torch.Tensor:
        if not self.full:
            index, real = _padding(self.lengths, self.device)
            rows = rows.index_select(0, index)
            if pad is not None:
                rows[~real] = pad
        batch, kv_heads = len(self.lengths), rows.shape[1] // shared
        rows = rows.reshape(batch, self.width, kv_heads, shared, -1).transpose(1, 2)  # (B, K, T, g, D)
        return rows.reshape(batch * kv_heads, self.width * shared, -1)

    def rows(self, padded: torch.Tensor, heads: int) -> torch.Tensor:
        """(B*K, T*g, D) -> (sum of lengths, heads, D)."""
        batch = len(self.lengths)
        kv_heads = padded.shape[0] // batch
        rows = padded.view(batch, kv_heads, self.width, heads // kv_heads, -1).transpose(1, 2)  # (B, T, K, g, D)
        rows = rows.reshape(batch * self.width, heads, -1)
        return rows if self.full else rows[_padding(self.lengths, self.device)[1]]

    def mask(self, window: int | None) -> torch.Tensor:
        """What is added to scores (T*g, T): 0 where a token may look, -inf where not."""
        return _mask(self.width, self.shared, window, self.device)


@lru_cache(maxsize=64)
def _padding(lengths: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For each place of the padded (B * T): the packed row that stands there, and whether it is its own (not a pad)."""
    sizes = torch.tensor(lengths)[:, None]
    place = torch.arange(max(lengths))[None]
    start = sizes.cumsum(0) - sizes
    index = start + torch.minimum(place, sizes - 1)  # (B, T)
    return index.flatten().to(device), (place < sizes).flatten().to(device)


@lru_cache(maxsize=64)
def _mask(width: int, shared: int, window: int | None, device: torch.device) -> torch.Tensor:
    allowed = visible(torch.arange(width), torch.arange(width), window)
    mask = torch.zeros(width, width).masked_fill_(~allowed, float("-inf"))
    return mask.repeat_interleave(shared, 0).to(device)


def visible(queries: torch.Tensor, keys: torch.Tensor, window: int | None) -> torch.Tensor:
    """Whether the tokens at places `queries` (Q,) may look at those at `keys` (K,): (Q, K) bool."""
    behind = queries[:, None] - keys[None]
    return (behind >= 0) & (behind < window) if window is not None else behind >= 0


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
    """Whether a token (row) sees another (column): backwards, and within an image; both within the window."""
    places = torch.arange(length)
    seen = places[None] < _ends((length,), (spans,))[:, None]  # (T, T)
    if window is not None:
        seen &= places[:, None] - places[None] < window
    return seen.to(device)


def _long_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
) -> torch.Tensor:
    """documents_attention for one long document, in bands of `window` queries where a window is shorter than it."""
    length, shared = query.shape[0], query.shape[1] // key.shape[1]
    q, k, v = (t.transpose(0, 1)[None] for t in (query, key, value))  # (1, heads, T, D)
    k, v = (t.repeat_interleave(shared, 1) for t in (k, v))  # the CPU's flash kernel is slower with shared heads
    if window is None or length <= window:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)[0].transpose(0, 1)
    outs = []
    for start in range(0, length, window):
        end, first = min(start + window, length), max(0, start - window + 1)
        places = torch.arange(length, device=query.device)
        mask = visible(places[start:end], places[first:end], window)
        band = (q[:, :, start:end], k[:, :, first:end], v[:, :, first:end])
        outs.append(scaled_dot_product_attention(*band, attn_mask=mask, scale=scale))
    return torch.cat(outs, 2)[0].transpose(0, 1)
