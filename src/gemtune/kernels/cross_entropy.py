"""Cross-entropy at the labelled positions only, with its gradient computed in the forward pass.

Gemma has 262,144 words: at 270M the head is 58 % of LoRA's arithmetic when every position is scored, and the logits
of 512 tokens are half a gigabyte. Here only labelled rows are multiplied by the head, a chunk of tokens at a time.
Probabilities are fp32 inside the processor's cache only, and the gradient is computed together with the loss, so that
logits are computed once and never saved. Where the head is frozen and products run on tiles, they never reach memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch

from gemtune.kernels import native
from gemtune.kernels.autograd import Context

CHUNK = 128  # labelled tokens per chunk: 128 x 262,144 bf16 logits are 67 MB; with fewer the product loses speed
WORDS = 1 << 15  # words whose gradient is in memory at a time on a CPU: 4 MB for 64 tokens
IN_CACHE = 1 << 20  # logits that are fp32 at a time on a CPU: 4 MiB, the second-level cache of two cores

# Where kernels/cpp scores logits faster than PyTorch does. Best of 5, 2 threads of a Xeon with AVX512-BF16 and no AMX,
# loss and gradient of 30, 60 and 128 tokens over 262,144 words by 640, compiled / PyTorch in ms: fp32 163 / 163,
# 309 / 296, 505 / 467; held to AVX2 289 / 277, 452 / 397, 778 / 856, where whole steps on rows of `emoji` and `sql`
# are 3 and 2 % slower.
SCORED: set[tuple[str | None, torch.dtype]] = {
    ("narrow", torch.bfloat16),
    ("avx512", torch.bfloat16),
    ("avx512_bf16", torch.bfloat16),
    ("amx", torch.bfloat16),
    ("amx", torch.float32),
}

Rows = tuple[torch.Tensor, torch.Tensor]  # ids (k,) and values (k, H) that replace rows of the head


def labelled_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    rows: Rows | None = None,
    softcap: float | None = None,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed cross-entropy in nats (fp32 scalar) and the number of targets with the highest logit (int64 scalar).

    hidden (N, H) are the labelled positions' last hidden states, weight (V, H) is the head, targets (N,) the next
    tokens; a row with a negative target is ignored. `rows` = (ids (k,), values (k, H)) replace those rows of the head
    and have a gradient of their own where the head is frozen. `softcap` is Gemma 2's final logit soft-capping.
    Gradients flow to hidden, weight and the values of rows.
    """
    ids, values = rows if rows is not None else (None, None)
    if not torch.is_grad_enabled():  # needs_input_grad looks at the tensors alone
        hidden, weight, values = hidden.detach(), weight.detach(), values.detach() if values is not None else None
    loss, right = _LabelledCrossEntropy.apply(hidden, weight, targets, ids, values, softcap, chunk)
    return loss, right


class _LossContext(Context):
    hidden_dtype: torch.dtype
    weight_dtype: torch.dtype
    values_dtype: torch.dtype | None


class _LabelledCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _LossContext,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        ids: torch.Tensor | None,
        values: torch.Tensor | None,
        softcap: float | None,
        chunk: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        trains_hidden, trains_weight, trains_rows = (ctx.needs_input_grad[i] for i in (0, 1, 4))
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        right = torch.zeros((), dtype=torch.int64, device=hidden.device)
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32) if trains_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if trains_weight else None
        d_values = torch.zeros_like(values, dtype=torch.float32) if trains_rows and values is not None else None
        rows = (ids, values.to(hidden.dtype)) if ids is not None and values is not None else None
        is_sweep = softcap is None and d_weight is None and sweeps(hidden, weight)
        for start in range(0, hidden.shape[0], chunk):
            tokens = slice(start, start + chunk)
            gradients = Gradients(d_hidden[tokens] if d_hidden is not None else None, d_weight, d_values)
            h, gold = hidden[tokens], targets[tokens]
            if is_sweep:
                chunk_loss, chunk_right = _by_sweep(h, weight, gold, rows, gradients)
            else:
                chunk_loss, chunk_right = _by_products(h, weight, gold, rows, softcap, gradients)
            loss += chunk_loss
            right += chunk_right
        ctx.save_for_backward(d_hidden, d_weight, d_values)
        ctx.hidden_dtype, ctx.weight_dtype = hidden.dtype, weight.dtype
        ctx.values_dtype = values.dtype if values is not None else None
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: _LossContext, d_loss: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
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
    """Where a chunk adds its gradients, in fp32; None where none is needed."""

    hidden: torch.Tensor | None  # (n, H), of the chunk alone
    weight: torch.Tensor | None  # (V, H)
    values: torch.Tensor | None  # (k, H)


def sweeps(hidden: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the loss over a frozen head is computed in one sweep over it, by kernels/cpp/head.h."""
    return native.usable(hidden, weight) and weight.is_contiguous() and sweeps_over(weight.dtype, weight.shape[1])


def sweeps_over(dtype: torch.dtype, size: int) -> bool:
    """Whether this machine sweeps over heads of a type and a hidden size that are on its CPU."""
    return size % 32 == 0 and sweeps_with(dtype, native.instruction_set())


def sweeps_with(dtype: torch.dtype, instruction_set: str | None) -> bool:
    """Whether one of native.INSTRUCTION_SETS is enough for the sweep."""
    return dtype == torch.bfloat16 and instruction_set == "amx"


def scores_with(dtype: torch.dtype, instruction_set: str | None) -> bool:
    """Whether kernels/cpp scores logits of a type on one of native.INSTRUCTION_SETS."""
    return (instruction_set, dtype) in SCORED


def _by_sweep(
    h: torch.Tensor, weight: torch.Tensor, gold: torch.Tensor, rows: Rows | None, gradients: Gradients
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of h (n, H) for gold (n,), and the number of right tokens."""
    h, gold, n = h.contiguous(), gold.contiguous(), len(h)
    ids, values = rows if rows is not None else (gold.new_empty(0), h.new_empty(0, h.shape[1]))
    loss, log_sum, right = torch.empty(n), torch.empty(n), torch.empty(n, dtype=torch.int64)
    replaced = (ids.contiguous(), values.contiguous(), len(ids))
    results = (loss, right, log_sum, gradients.hidden)
    native.call("head_loss", h.dtype, h, weight, *replaced, gold, *results, n, *weight.shape)
    if gradients.values is not None:
        slope = (values.float() @ h.float().t() - log_sum).exp() - (ids[:, None] == gold).float()  # (k, n)
        gradients.values.add_(slope.mul_(gold >= 0) @ h.float())
    return loss.sum(), right.sum()


def _by_products(
    h: torch.Tensor,
    weight: torch.Tensor,
    gold: torch.Tensor,
    rows: Rows | None,
    softcap: float | None,
    gradients: Gradients,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As _by_sweep, for every head, trained ones and soft-capped logits too."""
    is_compiled = softcap is None and native.usable(h, weight) and scores_with(h.dtype, native.instruction_set())
    score = _score_compiled if is_compiled else _score_in_pytorch
    needs_gradient = any(gradient is not None for gradient in gradients)
    loss, right, logit_gradients = score(h, weight, gold, rows, softcap, needs_gradient)
    for first, g in logit_gradients:  # of the words from `first` on: (n, W)
        words = slice(first, first + g.shape[1])
        if rows is not None:
            ids, values = rows
            here = slice(None) if g.shape[1] == len(weight) else (ids >= first) & (ids < words.stop)
            columns = ids[here] - first
            g_rows = g[:, columns]  # (n, k)
            g[:, columns] = 0  # these rows of the head are replaced
            if gradients.values is not None:
                gradients.values[here] += g_rows.t() @ h
            if gradients.hidden is not None:
                gradients.hidden.add_(g_rows @ values[here])
        if gradients.hidden is not None:
            gradients.hidden.add_(g @ weight[words])
        if gradients.weight is not None:
            gradients.weight[words] += g.t() @ h
    return loss, right


LogitGradients = Iterable[tuple[int, torch.Tensor]]  # (first word, d loss / d logits of the words from there on (n, W))


def _score_compiled(
    h: torch.Tensor,
    weight: torch.Tensor,
    gold: torch.Tensor,
    rows: Rows | None,
    _: float | None,
    needs_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, LogitGradients]:
    """The loss of h (n, H) for gold (n,), the number of right tokens, and the gradient of the logits if needed.

    The logits are one column per token: that product need not transpose the head and takes half the time of the other.
    """
    words, n = len(weight), len(h)
    z = _logits_memory(words, -(-n // 64) * 64, h.dtype)[: words * n].view(words, n)
    torch.mm(weight, h.t(), out=z)
    if rows is not None:
        z[rows[0]] = rows[1] @ h.t()
    gold = gold.contiguous()
    loss, top, share, right = torch.empty(n), torch.empty(n), torch.empty(n), torch.empty(n, dtype=torch.int64)
    native.call("cross_entropy", z.dtype, z, gold, loss, right, top, share, n, words)

    def gradients() -> Iterator[tuple[int, torch.Tensor]]:
        for first in range(0, words, WORDS):
            block = z[first : first + WORDS]
            g = block.new_empty(n, len(block))
            native.call("cross_entropy_backward", z.dtype, block, gold, top, share, g, n, len(block), first)
            yield first, g

    return loss.sum(), right.sum(), gradients() if needs_gradient else ()


@lru_cache(maxsize=1)
def _logits_memory(words: int, tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """Memory for logits, allocated once: 32 MB and more allocated at every step is mapped and zeroed each time."""
    return torch.empty(words * tokens, dtype=dtype)


def _score_in_pytorch(
    h: torch.Tensor,
    weight: torch.Tensor,
    gold: torch.Tensor,
    rows: Rows | None,
    softcap: float | None,
    needs_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor, LogitGradients]:
    """As _score_compiled, on any device, with soft-capping; logits are one row per token and become their gradient."""
    z = h @ weight.t()  # (n, V)
    if rows is not None:
        z[:, rows[0]] = h @ rows[1].t()
    loss, right = _score_logits(z, gold[:, None], softcap, needs_gradient)
    return loss, right, [(0, z)] if needs_gradient else ()


def _score_logits(
    logits: torch.Tensor, gold: torch.Tensor, softcap: float | None, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of logits (n, V) for gold (n, 1), and the number of right tokens; logits may become their gradient.

    On a CPU only as many rows as its cache holds are fp32 at a time.
    """
    size = max(1, IN_CACHE // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    blocks = zip(logits.split(size), gold.split(size), strict=True)
    parts = [_score_block(z, y, softcap, needs_gradient) for z, y in blocks]
    return torch.stack([loss for loss, _ in parts]).sum(), torch.stack([right for _, right in parts]).sum()


def _score_block(
    logits: torch.Tensor, gold: torch.Tensor, softcap: float | None, needs_gradient: bool
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
    if not needs_gradient:
        return ((scores.logsumexp(-1, keepdim=True) - score) * counts).sum(), right
    share = torch.softmax(scores, -1)
    loss = (
        (top - share.amax(-1, keepdim=True).log() - score) * counts
    ).sum()  # log-sum-exp from the likeliest word's probability
    share.scatter_add_(1, gold, torch.full_like(score, -1.0)).mul_(counts)
    logits.copy_(share if slope is None else share.mul_(slope))
    return loss, right
