"""Attention for documents of like lengths: padded to the longest, as batched matrix products of PyTorch."""

from __future__ import annotations

from functools import lru_cache

import torch

from gemtune.kernels.autograd import Context


class _BatchedContext(Context):
    grid: Grid
    scale: float


class BatchedAttention(torch.autograd.Function):
    """attention.documents_attention for documents of like lengths."""

    @staticmethod
    def forward(
        ctx: _BatchedContext,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        grid = Grid(lengths, query.shape[1] // key.shape[1], query.device)
        q, k, v = grid.queries(query), grid.keys(key), grid.keys(value)
        # Scores are fp32, as in flash kernels: a score of 20 rounded to bf16 is off by 0.06.
        scores = torch.bmm(q.float(), k.float().transpose(1, 2))  # (B*K, T*g, T)
        weights = torch.softmax(scores.mul_(scale).add_(grid.mask(window)), -1).to(query.dtype)
        ctx.save_for_backward(q, k, v, weights)
        ctx.grid, ctx.scale = grid, scale
        return grid.rows(torch.bmm(weights, v), query.shape[1])

    @staticmethod
    def backward(ctx: _BatchedContext, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        grid, kv_heads = ctx.grid, k.shape[0] // len(ctx.grid.lengths)
        d_o = grid.queries(d_out, pad=0.0)
        d_v = torch.bmm(weights.transpose(1, 2), d_o)
        d_weights = torch.bmm(d_o, v.transpose(1, 2)).float()
        fp32_weights = weights.float()
        d_scores = d_weights.mul_(fp32_weights)
        d_scores.sub_(fp32_weights.mul_(d_scores.sum(-1, keepdim=True))).mul_(ctx.scale)
        d_scores = d_scores.to(q.dtype)
        d_q, d_k = torch.bmm(d_scores, k), torch.bmm(d_scores.transpose(1, 2), q)
        heads = d_out.shape[1]
        return grid.rows(d_q, heads), grid.rows(d_k, kv_heads), grid.rows(d_v, kv_heads), None, None, None


class Grid:
    """B documents, packed as rows (sum of lengths, heads, D) and padded on the right as (B * kv_heads, T * g, D).

    g query heads share a key head; they are neighbouring rows of one product.
    """

    def __init__(self, lengths: tuple[int, ...], shared: int, device: torch.device):
        self.lengths, self.shared, self.width, self.device = lengths, shared, max(lengths), device
        self.is_full = min(lengths) == self.width

    def queries(self, rows: torch.Tensor, pad: float | None = None) -> torch.Tensor:
        """(sum of lengths, heads, D) -> (B*K, T*g, D); padding repeats a token, or is `pad` where that is given."""
        return self._padded(rows, self.shared, pad)

    def keys(self, rows: torch.Tensor) -> torch.Tensor:
        """(sum of lengths, K, D) -> (B*K, T, D)."""
        return self._padded(rows, 1, None)

    def _padded(self, rows: torch.Tensor, shared: int, pad: float | None) -> torch.Tensor:
        if not self.is_full:
            index, is_token = _padding(self.lengths, self.device)
            rows = rows.index_select(0, index)
            if pad is not None:
                rows[~is_token] = pad
        batch, kv_heads = len(self.lengths), rows.shape[1] // shared
        rows = rows.reshape(batch, self.width, kv_heads, shared, -1).transpose(1, 2)  # (B, K, T, g, D)
        return rows.reshape(batch * kv_heads, self.width * shared, -1)

    def rows(self, padded: torch.Tensor, heads: int) -> torch.Tensor:
        """(B*K, T*g, D) -> (sum of lengths, heads, D)."""
        batch = len(self.lengths)
        kv_heads = padded.shape[0] // batch
        rows = padded.view(batch, kv_heads, self.width, heads // kv_heads, -1).transpose(1, 2)  # (B, T, K, g, D)
        rows = rows.reshape(batch * self.width, heads, -1)
        return rows if self.is_full else rows[_padding(self.lengths, self.device)[1]]

    def mask(self, window: int | None) -> torch.Tensor:
        """What is added to scores (T*g, T): 0 where a token may attend, -inf where not."""
        return _mask(self.width, self.shared, window, self.device)


@lru_cache(maxsize=64)
def _padding(lengths: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For each position of the padded (B * T): the packed row that is put there, and whether it is no padding."""
    sizes = torch.tensor(lengths)[:, None]
    position = torch.arange(max(lengths))[None]
    start = sizes.cumsum(0) - sizes
    index = start + torch.minimum(position, sizes - 1)  # (B, T)
    return index.flatten().to(device), (position < sizes).flatten().to(device)


@lru_cache(maxsize=64)
def _mask(width: int, shared: int, window: int | None, device: torch.device) -> torch.Tensor:
    allowed = visible(torch.arange(width), torch.arange(width), window)
    mask = torch.zeros(width, width).masked_fill_(~allowed, float("-inf"))
    return mask.repeat_interleave(shared, 0).to(device)


def visible(queries: torch.Tensor, keys: torch.Tensor, window: int | None) -> torch.Tensor:
    """Whether the tokens at positions `queries` (Q,) may attend to those at `keys` (K,): (Q, K) bool."""
    distance = queries[:, None] - keys[None]
    return (distance >= 0) & (distance < window) if window is not None else distance >= 0
