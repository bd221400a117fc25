"""PEFT's adapter layers with a cheaper forward: same parameters, same files, same mathematics.

PEFT runs fp32 adapters by casting every activation to fp32, and trains token rows by copying the whole embedding at
each use. Here the small adapter matrices are cast instead, and only the rows themselves are touched.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import nn

ADAPTER = "default"


def speed_up(model: nn.Module) -> nn.Module:
    """Gives every LoRA and token-row layer of a PEFT model the forward of this file; returns the model."""
    for module in model.modules():
        if isinstance(module, LoraLayer) and isinstance(module.get_base_layer(), nn.Linear):
            module.__class__ = _swapped(module.__class__, _LoraForward)
        elif isinstance(module, TrainableTokensLayer):
            module.__class__ = _swapped(module.__class__, _TokenRowsForward)
    return model


def _swapped(cls: type, forward: type) -> type:
    """A subclass of a PEFT layer class whose forward comes from `forward`."""
    return cls if issubclass(cls, forward) else type(cls.__name__, (forward, cls), {"__module__": cls.__module__})


class _LoraForward:
    """y = W x + scale * B (A x), with A and B cast to the activations' type."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if self.disable_adapters or self.merged or self.active_adapters != [ADAPTER]:
            return super().forward(x)  # type: ignore[misc]
        result = self.base_layer(x)
        a, b = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight  # (r, in), (out, r)
        x = self.lora_dropout[ADAPTER](x)
        low = nn.functional.linear(x, a.to(x.dtype)) * self.scaling[ADAPTER]  # (..., r)
        return result + nn.functional.linear(low, b.to(x.dtype)).to(result.dtype)


class _TokenRowsForward:
    """An embedding or head in which some rows are replaced by trained ones."""

    def forward_adapters(
        self: Any, x: torch.Tensor, active_adapters: list[str], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if self.disable_adapters or self.merged or list(active_adapters) != [ADAPTER]:
            return super().forward_adapters(x, active_adapters, *args, **kwargs)  # type: ignore[misc]
        ids, values = token_rows(self)
        out = self.base_layer(x)
        if isinstance(self.base_layer, nn.Linear):
            out = out.clone()
            out[..., ids] = nn.functional.linear(x, values.to(x.dtype)).to(out.dtype)
            return out
        scale = self._get_embed_scale()
        rows = values.to(out.dtype) if scale is None else values.to(out.dtype) * scale.to(out.dtype)
        match = x[..., None] == ids  # (B, T, k)
        picked = rows[match.int().argmax(-1)]  # (B, T, H)
        return torch.where(match.any(-1, keepdim=True), picked, out)


def token_rows(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids (k,) and trained values (k, H) of a TrainableTokensLayer."""
    values = layer.trainable_tokens_delta[ADAPTER]
    return torch.tensor(layer.token_indices[ADAPTER], device=values.device), values
