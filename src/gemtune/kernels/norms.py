"""RMSNorm, alone and with rotary positions, that keeps its input and one number a row instead of fp32 copies."""

from __future__ import annotations

from typing import Any

import torch

from gemtune.kernels import native


class GemmaNormForward:
    """x / rms(x) * (1 + weight), computed in fp32 and rounded once."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = RmsNorm.apply(x, self.weight, self.eps)
        return out


class RmsNorm(torch.autograd.Function):
    """Gemma's RMSNorm over the last axis of x (..., H); weight (H,) counts from 1."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        x, factor = x.contiguous(), 1 + weight.float()
        out, scale = normed(x, factor, eps)
        ctx.save_for_backward(x, factor, scale)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, factor, scale = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            return *norm_backward(d_out.float(), x, factor, scale), None
        return normed_backward(d_out, x, factor, scale), None, None


def normed(x: torch.Tensor, factor: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """x (..., H), contiguous, divided by its root mean square and times factor (H,); and 1 / rms (..., 1) in fp32."""
    if native.usable(x):
        out, scale = torch.empty_like(x), _a_row(x)
        native.call("norm", x.dtype, x, factor, out, scale, scale.numel(), x.shape[-1], eps)
        return out, scale
    unit, scale = normalised(x, eps)
    return unit.mul_(factor).to(x.dtype), scale


def normed_backward(d_out: torch.Tensor, x: torch.Tensor, factor: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The gradient of x from that of what `normed` made of it."""
    if native.usable(x, d_out):
        d_out, d_x = d_out.contiguous(), torch.empty_like(x)
        native.call("norm_backward", x.dtype, d_out, x, factor, scale, d_x, scale.numel(), x.shape[-1])
        return d_x
    return norm_backward(d_out.float(), x, factor, scale)[0]


class RmsNormRope(torch.autograd.Function):
    """RMSNorm over the heads of x (B, T, N, D), then rotary positions cos and sin (B or 1, T, D/2).

    Queries and keys may be columns of one product: the tokens of x lie at one distance from each other.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float
    ) -> torch.Tensor:
        factor = 1 + weight.float()
        if native.usable(x, cos, sin):
            if len(x) > 1:
                cos, sin = (angle.expand(len(x), -1, -1).contiguous() for angle in (cos, sin))
            out, scale = torch.empty(x.shape, dtype=x.dtype), _a_row(x)
            sizes = (x.shape[0] * x.shape[1], *x.shape[2:], _apart(x), _apart(cos))
            native.call("norm_rope", x.dtype, x, factor, cos, sin, out, scale, *sizes, eps)
        else:
            unit, scale = normalised(x, eps)
            out = rotated(unit.mul_(factor), cos, sin, x.dtype)
        ctx.save_for_backward(x, factor, scale, cos, sin)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, factor, scale, cos, sin = ctx.saved_tensors
        if native.usable(x, d_out, cos, sin) and not ctx.needs_input_grad[1]:
            d_out, d_x = d_out.contiguous(), torch.empty(x.shape, dtype=x.dtype)
            sizes = (x.shape[0] * x.shape[1], *x.shape[2:], _apart(x), _apart(cos), _apart(d_x))
            native.call("norm_rope_backward", x.dtype, d_out, x, factor, cos, sin, scale, d_x, *sizes)
            return d_x, None, None, None, None
        d_unit = rotated(d_out.float(), cos, -sin, torch.float32)  # a rotation's transpose turns the other way
        return *norm_backward(d_unit, x, factor, scale), None, None, None


def _apart(x: torch.Tensor) -> int:
    """How far the tokens of x (B, T, ...) lie from each other; the stride of an axis of one token says nothing."""
    return x.stride(1) if x.shape[1] > 1 else x.stride(0)


def _a_row(x: torch.Tensor) -> torch.Tensor:
    """Room for one fp32 number a row: (..., 1)."""
    return torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)


def normalised(x: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """x / rms(x) in fp32 (..., H), a tensor of its own, and 1 / rms(x) (..., 1)."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return x.float().mul_(scale) if x.dtype != torch.float32 else x * scale, scale


def norm_backward(
    d_out: torch.Tensor, x: torch.Tensor, factor: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of x (..., H) and of factor (H,) from the fp32 gradient of the output."""
    unit = x * scale  # (..., H) fp32
    d_factor = (d_out * unit).flatten(0, -2).sum(0)
    d_unit = d_out * factor
    along = (d_unit * unit).mean(-1, keepdim=True)
    return d_unit.sub_(unit.mul_(along)).mul_(scale).to(x.dtype), d_factor


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The halves of x (B, T, N, D) turned against each other by angles given as cos and sin (B, T, D/2)."""
    cos, sin = cos[:, :, None], sin[:, :, None]
    first, second = x.chunk(2, -1)
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    to_first, to_second = out.chunk(2, -1)
    to_first.copy_((first * cos).sub_(second * sin))
    to_second.copy_((second * cos).add_(first * sin))
    return out
