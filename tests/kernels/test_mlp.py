"""The gated product equals autograd."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gemtune.kernels.mlp import ACTIVATIONS, gated, gated_backward


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated_product_equals_autograd(passes: None, activation: str, dtype: torch.dtype) -> None:
    both = (8 * torch.randn(5, 64)).to(dtype).requires_grad_()
    gate, up = both.double().chunk(2, 1)
    act = {"silu": F.silu, "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh")}[activation]
    product = act(gate) * up
    slope = torch.randn(5, 32).to(dtype)
    (reference,) = torch.autograd.grad(product, both, slope.double())
    near = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 2e-5}
    torch.testing.assert_close(gated(both.detach(), activation), product.detach().to(dtype), **near)
    d_both, again = gated_backward(both.detach(), slope, activation)
    torch.testing.assert_close(again, product.detach().to(dtype), **near)
    torch.testing.assert_close(d_both, reference.to(dtype), **near)
