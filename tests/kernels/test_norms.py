"""The norms equal transformers' own, in values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm, apply_rotary_pos_emb

from gemtune.kernels.norms import RmsNorm, RmsNormRope

Gradients = Callable[..., list[torch.Tensor]]


@pytest.mark.parametrize("weight_trains", [False, True])
def test_norm_equals_transformers_own(passes: None, gradients: Gradients, weight_trains: bool) -> None:
    norm = Gemma3RMSNorm(48, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    norm.weight.requires_grad_(weight_trains)
    x = torch.randn(2, 7, 48, requires_grad=True)
    inputs = (x, norm.weight) if weight_trains else (x,)
    stock = gradients(norm(x), *inputs)
    torch.testing.assert_close(gradients(RmsNorm.apply(x, norm.weight, norm.eps), *inputs), stock, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight_trains", [False, True])
@pytest.mark.parametrize("batch, tokens, angles_of", [(1, 9, 1), (3, 5, 3), (3, 5, 1), (3, 1, 3), (1, 1, 1)])
def test_norm_and_rope_equal_transformers_own(
    passes: None, gradients: Gradients, weight_trains: bool, batch: int, tokens: int, angles_of: int
) -> None:
    """Packed rows, a batch with places of its own, and the single tokens of generation."""
    torch.manual_seed(tokens)
    norm = Gemma3RMSNorm(16, eps=1e-6)
    torch.nn.init.normal_(norm.weight)
    norm.weight.requires_grad_(weight_trains)
    fused = torch.randn(batch, tokens, 6 * 16, requires_grad=True)
    angles = (torch.rand(angles_of, tokens, 8) * 6).repeat(1, 1, 2)  # both halves are the same
    cos, sin = angles.cos(), angles.sin()
    inputs = (fused, norm.weight) if weight_trains else (fused,)

    def heads() -> torch.Tensor:  # columns of a wider product, as queries are
        return fused.split([64, 32], -1)[0].view(batch, tokens, 4, 16)

    turned = apply_rotary_pos_emb(*[norm(heads()).transpose(1, 2)] * 2, cos, sin)[0]
    stock = gradients(turned.transpose(1, 2), *inputs)
    halves = (half.chunk(2, -1)[0] for half in (cos, sin))
    ours = gradients(RmsNormRope.apply(heads(), norm.weight, *halves, norm.eps), *inputs)
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5)
