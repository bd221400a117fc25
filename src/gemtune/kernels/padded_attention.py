"""Attention over documents by `scaled_dot_product_attention`: padded to each other, or a long one in bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch.nn.functional import scaled_dot_product_attention

from gemtune.kernels.batched_attention import visible

Spans = tuple[tuple[int, int], ...]  # (start, end) token positions

LIKE = 2  # documents up to this ratio of lengths are padded to the longest of them
MASKED = 1 << 24  # scores under one mask: 16 MB of it


def padded_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    scale: float,
    window: int | None = None,
    image_spans: Sequence[Spans] = (),
) -> torch.Tensor:
    """attention.documents_attention in few launches: neighbours of like lengths side by side, under one mask."""
    spans = tuple(image_spans) or ((),) * len(lengths)
    groups = list(neighbours(lengths))
    sizes = [sum(lengths[group]) for group in groups]
    outs = []
    for q, k, v, group in zip(*(t.split(sizes) for t in (query, key, value)), groups, strict=True):
        images, together = spans[group], tuple(lengths[group])
        if window is not None and len(together) == 1 and together[0] > 2 * window and not any(images):
            outs.append(banded_attention(q, k, v, scale, window))
        else:
            outs.append(_side_by_side(q, k, v, together, scale, window, images))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def neighbours(lengths: Sequence[int]) -> Iterator[slice]:
    """Groups of neighbouring documents that are padded to the longest of them.

    >>> [lengths[group] for lengths in ([900, 500, 400, 20, 15],) for group in neighbours(lengths)]
    [[900, 500], [400], [20, 15]]
    """
    start = 0
    for end in range(1, len(lengths) + 1):
        group = lengths[start : end + 1]
        is_last = end == len(lengths)
        if is_last or max(group) > LIKE * min(group) or len(group) * max(group) ** 2 > MASKED:
            yield slice(start, end)
            start = end


def _side_by_side(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None,
    images: tuple[Spans, ...],
) -> torch.Tensor:
    width, heads = max(lengths), query.shape[1]
    index, back = _places(lengths, query.device)
    q, k, v = (
        t.index_select(0, index).view(len(lengths), width, t.shape[1], -1).transpose(1, 2)  # (B, heads, W, D)
        for t in (query, key, value)
    )
    k, v = (t.repeat_interleave(heads // t.shape[1], 1) for t in (k, v))
    # What is padded comes after what is not, so that a causal mask hides it.
    mask = None
    if any(images):
        mask = _mask(lengths, window, images, query.device)
    elif window is not None and window < width:
        mask = _mask((width,), window, ((),), query.device)
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, back)


@lru_cache(maxsize=64)
def _places(lengths: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For each padded position (B * W) the token that is put there, and where each token (T,) was put."""
    sizes, position = torch.tensor(lengths)[:, None], torch.arange(max(lengths))[None]
    index = sizes.cumsum(0) - sizes + torch.minimum(position, sizes - 1)  # (B, W)
    back = (position < sizes).flatten().nonzero().flatten()
    return index.flatten().to(device), back.to(device)


@lru_cache(maxsize=8)
def _mask(
    lengths: tuple[int, ...], window: int | None, image_spans: tuple[Spans, ...], device: torch.device
) -> torch.Tensor:
    """Whether a token attends to another (B, 1, W, W): to earlier ones and within an image, both in the window."""
    positions = torch.arange(max(lengths))
    ends = (positions + 1).repeat(len(lengths), 1)  # (B, W): of what a token attends to
    for document, spans in zip(ends, image_spans, strict=True):
        for start, end in spans:
            document[start:end] = end
    positions, ends = positions.to(device), ends.to(device)
    mask = positions < ends[:, :, None]
    if window is not None:
        mask &= positions[:, None] - positions < window
    return mask[:, None]


def banded_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
) -> torch.Tensor:
    """One long document, in bands of `window` queries where a window is shorter than it."""
    length, shared = query.shape[0], query.shape[1] // key.shape[1]
    q, k, v = (t.transpose(0, 1)[None] for t in (query, key, value))  # (1, heads, T, D)
    k, v = (t.repeat_interleave(shared, 1) for t in (k, v))  # the CPU's flash kernel is slower with shared heads
    if window is None or length <= window:
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)[0].transpose(0, 1)
    outs = []
    for start in range(0, length, window):
        end, first = min(start + window, length), max(0, start - window + 1)
        positions = torch.arange(length, device=query.device)
        mask = visible(positions[start:end], positions[first:end], window)
        band = (q[:, :, start:end], k[:, :, first:end], v[:, :, first:end])
        outs.append(scaled_dot_product_attention(*band, attn_mask=mask, scale=scale))
    return torch.cat(outs, 2)[0].transpose(0, 1)
