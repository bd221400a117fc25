"""RMSNorm, alone and with rotary positions, that saves its input and one number per row instead of fp32 copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gemtune.kernels import native
from gemtune.kernels.autograd import Context

if TYPE_CHECKING:
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm


class GemmaNormForward:
    """x / rms(x) * (1 + weight), computed in fp32 and rounded once."""

    def forward(self: Gemma3RMSNorm, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = RmsNorm.apply(x, self.weight, self.eps)
        return out


class RmsNorm(torch.autograd.Function):
    """Gemma's RMSNorm over the last axis of x (..., H); weight (H,) counts from 1."""

    @staticmethod
    def forward(ctx: Context, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        x, factor = x.contiguous(), 1 + weight.float()
        out, scale = normed(x, factor, eps)
        ctx.save_for_backward(x, factor, scale)
        return out

    @staticmethod
    def backward(ctx: Context, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, factor, scale = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            return *norm_backward(d_out.float(), x, factor, scale), None
        return normed_backward(d_out, x, factor, scale), None, None


def normed(x: torch.Tensor, factor: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """x (..., H), contiguous, divided by its root mean square and times factor (H,); and 1 / rms (..., 1) in fp32."""
    if native.usable(x):
        out, scale = torch.empty_like(x), _per_row(x)
        native.call("norm", x.dtype, x, factor, out, scale, scale.numel(), x.shape[-1], eps)
        return out, scale
    unit, scale = normalised(x, eps)
    return unit.mul_(factor).to(x.dtype), scale


def normed_backward(d_out: torch.Tensor, x: torch.Tensor, factor: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The gradient of x from the gradient of `normed`'s output."""
    if native.usable(x, d_out):
        d_out, d_x = d_out.contiguous(), torch.empty_like(x)
        native.call("norm_backward", x.dtype, d_out, x, factor, scale, d_x, scale.numel(), x.shape[-1])
        return d_x
    return norm_backward(d_out.float(), x, factor, scale)[0]


class RmsNormRope(torch.autograd.Function):
    """RMSNorm over the heads of x (B, T, N, D), then rotary positions cos and sin (B or 1, T, D/2).

    Queries and keys may be columns of one product: only the stride of x between tokens is free.
    """

    @staticmethod
    def forward(
        ctx: Context, x: torch.Tensor, weight: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, eps: float
    ) -> torch.Tensor:
        factor = 1 + weight.float()
        if native.usable(x, cos, sin):
            if len(x) > 1:
                cos, sin = (angle.expand(len(x), -1, -1).contiguous() for angle in (cos, sin))
            out, scale = torch.empty(x.shape, dtype=x.dtype), _per_row(x)
            sizes = (x.shape[0] * x.shape[1], *x.shape[2:], _token_stride(x), _token_stride(cos))
            native.call("norm_rope", x.dtype, x, factor, cos, sin, out, scale, *sizes, eps)
        else:
            unit, scale = normalised(x, eps)
            out = rotated(unit.mul_(factor), cos, sin, x.dtype)
        ctx.save_for_backward(x, factor, scale, cos, sin)
        return out

    @staticmethod
    def backward(ctx: Context, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, factor, scale, cos, sin = ctx.saved_tensors
        if native.usable(x, d_out, cos, sin) and not ctx.needs_input_grad[1]:
            d_out, d_x = d_out.contiguous(), torch.empty(x.shape, dtype=x.dtype)
            sizes = (x.shape[0] * x.shape[1], *x.shape[2:], _token_stride(x), _token_stride(cos), _token_stride(d_x))
            native.call("norm_rope_backward", x.dtype, d_out, x, factor, cos, sin, scale, d_x, *sizes)
            return d_x, None, None, None, None
        d_unit = rotated(
            d_out.float(), cos, -sin, torch.float32
        )  # the transpose of a rotation is the opposite rotation
        return *norm_backward(d_unit, x, factor, scale), None, None, None


def _token_stride(x: torch.Tensor) -> int:
    """Values from one token of x (B, T, ...) to the next; the stride of an axis of length 1 means nothing."""
    return x.stride(1) if x.shape[1] > 1 else x.stride(0)


def _per_row(x: torch.Tensor) -> torch.Tensor:
    """Memory for one fp32 number per row: (..., 1)."""
    return torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)


def normalised(x: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """x / rms(x) as a new fp32 tensor (..., H), and 1 / rms(x) (..., 1)."""
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
    projection = (d_unit * unit).mean(-1, keepdim=True)
    return d_unit.sub_(unit.mul_(projection)).mul_(scale).to(x.dtype), d_factor


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The halves of x (B, T, N, D) rotated by the angles whose cos and sin (B, T, D/2) are given."""
    cos, sin = cos[:, :, None], sin[:, :, None]
    first, second = x.chunk(2, -1)
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    out_first, out_second = out.chunk(2, -1)
    out_first.copy_((first * cos).sub_(second * sin))
    out_second.copy_((second * cos).add_(first * sin))
    return out
