"""Cross-entropy at the labelled positions only, with its gradient computed in the forward pass.

Gemma has 262,144 words: at 270M the head is 58 % of LoRA's arithmetic when every position is scored, and the logits
of 512 tokens are half a gigabyte. Here the labelled rows alone meet the head, a chunk of tokens at a time; the
probabilities are fp32 inside the processor's cache only, and the gradient leaves with the loss: logits are computed
once and never kept. Where the head is frozen and products run on tiles, they never reach memory at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from gemtune.kernels import native

CHUNK = 128  # labelled tokens a chunk: 128 x 262,144 bf16 logits are 67 MB; with fewer the product loses speed
WORDS = 1 << 15  # whose gradient is at hand at a time on a CPU: 4 MB of 64 tokens
IN_CACHE = 1 << 20  # logits that are fp32 at a time on a CPU: 4 MiB, two cores' second-level cache

Rows = tuple[torch.Tensor, torch.Tensor]  # ids (k,) and values (k, H) that stand in for rows of the head


def labelled_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    rows: Rows | None = None,
    softcap: float | None = None,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed cross-entropy in nats (fp32 scalar) and how many targets no other word outscores (int64 scalar).

    hidden (N, H) are the labelled positions' last hidden states, weight (V, H) is the head, targets (N,) the next
    tokens; a row whose target is negative counts for nothing. `rows` = (ids (k,), values (k, H)) stand in for those
    rows of the head and get the only gradient of it when the head is frozen. `softcap` is Gemma 2's final logit
    soft-capping. Gradients flow to hidden, weight and the rows.
    """
    ids, values = rows if rows is not None else (None, None)
    if not torch.is_grad_enabled():  # a function's needs_input_grad asks the tensors alone
        hidden, weight, values = hidden.detach(), weight.detach(), values.detach() if values is not None else None
    loss, right = _LabelledCrossEntropy.apply(hidden, weight, targets, ids, values, softcap, chunk)
    return loss, right


class _LabelledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        ids: torch.Tensor | None,
        values: torch.Tensor | None,
        softcap: float | None,
        chunk: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        want_hidden, want_weight, want_rows = (ctx.needs_input_grad[i] for i in (0, 1, 4))
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        right = torch.zeros((), dtype=torch.int64, device=hidden.device)
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32) if want_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if want_weight else None
        d_values = torch.zeros_like(values, dtype=torch.float32) if want_rows and values is not None else None
        rows = (ids, values.to(hidden.dtype)) if ids is not None and values is not None else None
        swept = softcap is None and d_weight is None and sweeps(hidden, weight)
        for start in range(0, hidden.shape[0], chunk):
            some = slice(start, start + chunk)
            ours = Gradients(d_hidden[some] if d_hidden is not None else None, d_weight, d_values)
            h, gold = hidden[some], targets[some]
            if swept:
                part, right_here = _swept(h, weight, gold, rows, ours)
            else:
                part, right_here = _by_products(h, weight, gold, rows, softcap, ours)
            loss += part
            right += right_here
        ctx.save_for_backward(d_hidden, d_weight, d_values)
        ctx.hidden_dtype, ctx.weight_dtype = hidden.dtype, weight.dtype
        ctx.values_dtype = values.dtype if values is not None else None
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, d_loss: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        d_hidden, d_weight, d_values = ctx.saved_tensors
        return (
            (d_hidden * d_loss).to(ctx.hidden_dtype) if d_hidden is not None else None,
            (d_weight * d_loss).to(ctx.weight_dtype) if d_weight is not None else None,
            None,
            None,
            (d_values * d_loss).to(ctx.values_dtype) if d_values is not None else None,
            None,
            None,
        )


class Gradients(NamedTuple):
    """Where a chunk adds its gradients, in fp32; None where none is wanted."""

    hidden: torch.Tensor | None  # (n, H), the chunk's own
    weight: torch.Tensor | None  # (V, H)
    values: torch.Tensor | None  # (k, H)


def sweeps(hidden: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the loss over a frozen head is taken in one sweep over it, by kernels/cpp/head.h."""
    return native.usable(hidden, weight) and weight.is_contiguous() and sweeps_over(weight.dtype, weight.shape[1])


def sweeps_over(dtype: torch.dtype, size: int) -> bool:
    """Whether this machine sweeps over heads of a type and a hidden size, where they lie on its CPU."""
    return dtype == torch.bfloat16 and size % 32 == 0 and native.has_tiles()


def _swept(
    h: torch.Tensor, weight: torch.Tensor, gold: torch.Tensor, rows: Rows | None, to: Gradients
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of h (n, H) for gold (n,), and how many are right."""
    h, gold, n = h.contiguous(), gold.contiguous(), len(h)
    ids, values = rows if rows is not None else (gold.new_empty(0), h.new_empty(0, h.shape[1]))
    loss, log_sum, right = torch.empty(n), torch.empty(n), torch.empty(n, dtype=torch.int64)
    of_rows = (ids.contiguous(), values.contiguous(), len(ids))
    results = (loss, right, log_sum, to.hidden)
    native.call("head_loss", h.dtype, h, weight, *of_rows, gold, *results, n, *weight.shape)
    if to.values is not None:
        slope = (values.float() @ h.float().t() - log_sum).exp() - (ids[:, None] == gold).float()  # (k, n)
        to.values.add_(slope.mul_(gold >= 0) @ h.float())
    return loss.sum(), right.sum()


def _by_products(
    h: torch.Tensor, weight: torch.Tensor, gold: torch.Tensor, rows: Rows | None, softcap: float | None, to: Gradients
) -> tuple[torch.Tensor, torch.Tensor]:
    """As _swept, for every head, trained ones and soft-capped logits too."""
    scored = _compiled if softcap is None and native.usable(h, weight) else _in_pytorch
    wanted = any(gradient is not None for gradient in to)
    loss, right, gradients = scored(h, weight, gold, rows, softcap, wanted)
    for first, g in gradients:  # of the logits of some words: (n, W)
        words = slice(first, first + g.shape[1])
        if rows is not None:
            ids, values = rows
            some = slice(None) if g.shape[1] == len(weight) else (ids >= first) & (ids < words.stop)
            places = ids[some] - first
            g_rows = g[:, places]  # (n, k)
            g[:, places] = 0  # the head's own rows are not in use
            if to.values is not None:
                to.values[some] += g_rows.t() @ h
            if to.hidden is not None:
                to.hidden.add_(g_rows @ values[some])
        if to.hidden is not None:
            to.hidden.add_(g @ weight[words])
        if to.weight is not None:
            to.weight[words] += g.t() @ h
    return loss, right


LogitGradients = Iterable[tuple[int, torch.Tensor]]  # (first word, d loss / d logits of the words from there on (n, W))


def _compiled(
    h: torch.Tensor,
    weight: torch.Tensor,
    gold: torch.Tensor,
    rows: Rows | None,
    _: float | None,
    wanted: bool,
) -> tuple[torch.Tensor, torch.Tensor, LogitGradients]:
    """The loss of h (n, H) for gold (n,), how many are right, and, when `wanted`, the gradient of the logits.

    The logits are a column a token: that product leaves the head as it lies and takes half the time of the other.
    """
    words, n = len(weight), len(h)
    z = _room(words, -(-n // 64) * 64, h.dtype)[: words * n].view(words, n)
    torch.mm(weight, h.t(), out=z)
    if rows is not None:
        z[rows[0]] = rows[1] @ h.t()
    gold = gold.contiguous()
    loss, top, share, right = torch.empty(n), torch.empty(n), torch.empty(n), torch.empty(n, dtype=torch.int64)
    native.call("cross_entropy", z.dtype, z, gold, loss, right, top, share, n, words)

    def gradients() -> Iterator[tuple[int, torch.Tensor]]:
        for first in range(0, words, WORDS):
            some = z[first : first + WORDS]
            g = some.new_empty(n, len(some))
            native.call("cross_entropy_backward", z.dtype, some, gold, top, share, g, n, len(some), first)
            yield first, g

    return loss.sum(), right.sum(), gradients() if wanted else ()


@lru_cache(maxsize=1)
def _room(words: int, tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """Memory for logits that stays: 32 MB and more that is asked for at every step is mapped and zeroed each time."""
    return torch.empty(words * tokens, dtype=dtype)


def _in_pytorch(
    h: torch.Tensor,
    weight: torch.Tensor,
    gold: torch.Tensor,
    rows: Rows | None,
    softcap: float | None,
    wanted: bool,
) -> tuple[torch.Tensor, torch.Tensor, LogitGradients]:
    """As _compiled, on any device, with soft-capping; the logits are a row a token and become their gradient."""
    z = h @ weight.t()  # (n, V)
    if rows is not None:
        z[:, rows[0]] = h @ rows[1].t()
    loss, right = _scored(z, gold[:, None], softcap, wanted)
    return loss, right, [(0, z)] if wanted else ()


def _scored(
    logits: torch.Tensor, gold: torch.Tensor, softcap: float | None, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of logits (n, V) for gold (n, 1), and how many are right; with `wanted` logits become their gradient.

    On a CPU a few rows at a time are fp32, inside its cache.
    """
    few = max(1, IN_CACHE // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    parts = [_some_scored(z, y, softcap, wanted) for z, y in zip(logits.split(few), gold.split(few), strict=True)]
    return torch.stack([loss for loss, _ in parts]).sum(), torch.stack([right for _, right in parts]).sum()


def _some_scored(
    logits: torch.Tensor, gold: torch.Tensor, softcap: float | None, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = logits.float()
    slope = None
    if softcap is not None:
        scores = (scores / softcap).tanh_()
        slope = 1 - scores.square()
        scores.mul_(softcap)
    counts = gold >= 0  # (n, 1)
    gold = gold.clamp_min(0)
    top, score = scores.amax(-1, keepdim=True), scores.gather(1, gold)
    right = ((score == top) & counts).sum()
    if not wanted:
        return ((scores.logsumexp(-1, keepdim=True) - score) * counts).sum(), right
    share = torch.softmax(scores, -1)
    loss = ((top - share.amax(-1, keepdim=True).log() - score) * counts).sum()  # the likeliest word's log-sum-exp
    share.scatter_add_(1, gold, torch.full_like(score, -1.0)).mul_(counts)
    logits.copy_(share if slope is None else share.mul_(slope))
    return loss, right
