"""The norm and gated feed-forward of a block as one autograd function that saves gate and up and recomputes the rest.

Plain autograd saves the normed input, the activated gate and the product as well; they are cheap to recompute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn.functional import gelu, silu

from gemtune.kernels import native
from gemtune.kernels.autograd import Context
from gemtune.kernels.fp16 import rounded
from gemtune.kernels.lora import LinearGroup, group_of
from gemtune.kernels.norms import normed, normed_backward

if TYPE_CHECKING:
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MLP


class Activation(NamedTuple):
    """An activation in kernels/cpp and in PyTorch."""

    kernel: str
    forward: Callable[[torch.Tensor], torch.Tensor]
    backward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of (gradient, input)


# By the name in a model's config.
ACTIVATIONS = {
    "gelu_pytorch_tanh": Activation(
        "gelu",
        lambda x: gelu(x, approximate="tanh"),
        lambda d, x: torch.ops.aten.gelu_backward(d, x, approximate="tanh"),
    ),
    "silu": Activation("silu", silu, torch.ops.aten.silu_backward),
}


def gated(both: torch.Tensor, activation: str) -> torch.Tensor:
    """act(gate) * up for gate and up side by side: (N, 2F) -> (N, F)."""
    if both.dtype == torch.float16:  # the product may be beyond its range
        return rounded(gated(both.float(), activation), both.dtype)
    act = ACTIVATIONS[activation]
    gate, up = both.chunk(2, 1)
    if not native.usable(both):
        return act.forward(gate) * up
    product = torch.empty(gate.shape, dtype=both.dtype)
    native.call(act.kernel, both.dtype, both, product, *product.shape)
    return product


def gated_backward(both: torch.Tensor, d_product: torch.Tensor, activation: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of gate and up side by side (N, 2F) from that of act(gate) * up (N, F), and that product again."""
    if both.dtype == torch.float16:
        d_both, product = gated_backward(both.float(), d_product.float(), activation)
        return d_both.to(both.dtype), rounded(product, both.dtype)  # an infinite gradient is for the scaler to see
    act = ACTIVATIONS[activation]
    d_both, product = torch.empty_like(both), torch.empty_like(d_product)
    if native.usable(both, d_product):
        native.call(f"{act.kernel}_backward", both.dtype, both, d_product, d_both, product, *product.shape)
        return d_both, product
    gate, up = both.chunk(2, 1)
    d_gate, d_up = d_both.chunk(2, 1)
    value = act.forward(gate)
    torch.mul(value, up, out=product)
    d_up.copy_(value.mul_(d_product))
    d_gate.copy_(act.backward(d_product * up, gate))
    return d_both, product


def normed_mlp(x: torch.Tensor, norm: nn.Module, mlp: Gemma3MLP) -> torch.Tensor:
    """down(act(gate(y)) * up(y)) for y = norm(x), with LoRA on all three: (..., H) -> (..., H)."""
    gate_up, down = group_of(mlp, "gate_proj", "up_proj"), group_of(mlp, "down_proj")
    weight: torch.Tensor = norm.weight  # type: ignore[assignment]
    if gate_up is None or down is None or weight.requires_grad:
        plain: torch.Tensor = mlp(norm(x))
        return plain
    activation = str(getattr(mlp.config, "hidden_activation", None) or mlp.config.hidden_act)
    parameters = [*gate_up.parameters, *down.parameters]
    out: torch.Tensor = NormedMlp.apply(x, weight, norm.eps, activation, gate_up, down, *parameters)
    return out


class _MlpContext(Context):
    activation: str
    gate_up: LinearGroup
    down: LinearGroup
    eps: float
    shape: torch.Size


class NormedMlp(torch.autograd.Function):
    """x (..., H), weight and eps of the norm, the activation, both groups, and the parameters of gate, up and down."""

    @staticmethod
    def forward(
        ctx: _MlpContext,
        x: torch.Tensor,
        weight: torch.Tensor,
        eps: float,
        activation: str,
        gate_up: LinearGroup,
        down: LinearGroup,
        *parameters: torch.Tensor,
    ) -> torch.Tensor:
        gate_up.cast()
        down.cast()
        flat, factor = x.reshape(-1, x.shape[-1]).contiguous(), 1 + weight.float()  # (N, H)
        norm, scale = normed(flat, factor, eps)
        both, _, low = gate_up.forward(rounded(norm, gate_up.dtype))  # (N, 2F)
        out, _, low_down = down.forward(gated(both, activation))  # (N, H)
        ctx.activation, ctx.gate_up, ctx.down, ctx.eps, ctx.shape = activation, gate_up, down, eps, x.shape
        ctx.save_for_backward(flat, factor, scale, both, low.clone(), low_down)
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: _MlpContext, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, factor, scale, both, low, low_down = ctx.saved_tensors
        d_out = d_out.reshape(-1, d_out.shape[-1])
        d_product, d_low_down = ctx.down.backward(d_out)
        d_both, product = gated_backward(both, d_product, ctx.activation)
        d_norm, d_low = ctx.gate_up.backward(d_both)
        norm = rounded(normed(x, factor, ctx.eps)[0], ctx.gate_up.dtype)
        grads = (
            *ctx.gate_up.gradients(d_both, d_low, norm, low),
            *ctx.down.gradients(d_out, d_low_down, product, low_down),
        )
        d_x = normed_backward(d_norm, x, factor, scale).view(ctx.shape)
        return d_x, None, None, None, None, None, *grads
