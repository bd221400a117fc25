"""Cross-entropy at the labelled positions only, with its gradient computed in the forward pass.

Gemma has 262,144 words: at 270M the head is 58 % of LoRA's arithmetic when every position is scored, and the logits
of 512 tokens are half a gigabyte. Here the labelled rows alone meet the head, a chunk of tokens at a time, and the
gradient leaves with the loss, so that logits are computed once and never kept.
"""

from __future__ import annotations

from typing import Any

import torch

CHUNK = 256  # labelled tokens a chunk: 256 x 262,144 fp32 logits are 268 MB; below 128 the matrix product loses speed


def labelled_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    rows: tuple[torch.Tensor, torch.Tensor] | None = None,
    softcap: float | None = None,
    chunk: int = CHUNK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed cross-entropy in nats (fp32 scalar) and the number of right argmaxes (int64 scalar).

    hidden (N, H) are the labelled positions' last hidden states, weight (V, H) is the head, targets (N,) the next
    tokens. `rows` = (ids (k,), values (k, H)) stand in for those rows of the head and get the only gradient of it when
    the head is frozen. `softcap` is Gemma 2's final logit soft-capping. Gradients flow to hidden, weight and the rows.
    """
    ids, values = rows if rows is not None else (None, None)
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
        d_hidden = torch.empty_like(hidden) if want_hidden else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if want_weight else None
        d_values = torch.zeros_like(values, dtype=torch.float32) if want_rows and values is not None else None
        cast = values.to(hidden.dtype) if values is not None else None
        for start in range(0, hidden.shape[0], chunk):
            h = hidden[start : start + chunk]  # (n, H)
            y = targets[start : start + chunk]  # (n,)
            z = (h @ weight.t()).float()  # (n, V)
            if ids is not None and cast is not None:
                z[:, ids] = (h @ cast.t()).float()
            if softcap is not None:
                z.div_(softcap).tanh_().mul_(softcap)
            right += (z.argmax(-1) == y).sum()
            gold = z.gather(1, y[:, None])  # (n, 1)
            slope = 1 - (z / softcap).square_() if softcap is not None and (want_hidden or want_weight) else None
            top = z.amax(-1, keepdim=True)
            z.sub_(top).exp_()
            total = z.sum(-1, keepdim=True)
            loss += (total.log() + top - gold).sum()
            if not (want_hidden or want_weight or want_rows):
                continue
            z.div_(total)  # softmax
            z.scatter_add_(1, y[:, None], torch.full_like(gold, -1.0))  # d loss / d logits
            if slope is not None:
                z.mul_(slope)
            g = z.to(hidden.dtype)
            if ids is not None and cast is not None:
                g_rows = g[:, ids]  # (n, k)
                g[:, ids] = 0  # the head's own rows are not in use
                if d_values is not None:
                    d_values += (g_rows.t() @ h).float()
            if d_hidden is not None:
                d_hidden[start : start + chunk] = g @ weight
                if ids is not None and cast is not None:
                    d_hidden[start : start + chunk] += g_rows @ cast
            if d_weight is not None:
                d_weight += (g.t() @ h).float()
        ctx.save_for_backward(d_hidden, d_weight, d_values)
        ctx.weight_dtype = weight.dtype
        ctx.values_dtype = values.dtype if values is not None else None
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, d_loss: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        d_hidden, d_weight, d_values = ctx.saved_tensors
        return (
            d_hidden * d_loss.to(d_hidden.dtype) if d_hidden is not None else None,
            (d_weight * d_loss).to(ctx.weight_dtype) if d_weight is not None else None,
            None,
            None,
            (d_values * d_loss).to(ctx.values_dtype) if d_values is not None else None,
            None,
            None,
        )
