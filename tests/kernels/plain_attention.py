"""The attention of documents that every kernel is compared with, and images for some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gemtune.kernels.padded_attention import Spans


def plain_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: list[int],
    window: int | None,
    images: Sequence[Spans] = (),
) -> Any:
    """Each document alone, every score written out, an image's tokens seeing each other: (T, N, D)."""
    outs = []
    for number, (one_q, one_k, one_v) in enumerate(zip(*(t.split(lengths) for t in (q, k, v)), strict=True)):
        places = torch.arange(len(one_q))
        behind = places[:, None] - places[None]
        seen = behind >= 0
        for start, end in images[number] if images else ():
            seen[start:end, start:end] = True
        seen &= behind < (window or len(one_q))
        shared = q.shape[1] // k.shape[1]
        keys, values = (t.repeat_interleave(shared, 1).transpose(0, 1) for t in (one_k, one_v))
        scores = (one_q.transpose(0, 1) @ keys.transpose(1, 2) / 4).masked_fill(~seen, float("-inf"))
        outs.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(outs)


def some_images(lengths: list[int], draw: int) -> tuple[Spans, ...]:
    """Up to three runs of tokens in every other document; none at all for 0."""
    random = np.random.default_rng(draw)
    edges = [sorted(set(random.integers(0, length + 1, 6).tolist())) for length in lengths]
    found = [tuple(zip(cut[::2], cut[1::2], strict=False)) if random.random() < 0.5 else () for cut in edges]
    return tuple(found) if draw else ()
