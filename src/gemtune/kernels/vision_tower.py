"""The blocks of a frozen vision tower on a CPU: oneDNN's products with bias, activation and residual fused in.

They are applied while a product's sums are still in fp32 and in the cache. Each saves a pass over memory, and the
result is nearer to fp32 than that of PyTorch's separate operations, which round in between.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers.activations import GELUActivation, GELUTanh
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.clip.modeling_clip import CLIPEncoderLayer
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionBlock
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer

from gemtune.kernels.patch import install

# The activations that oneDNN can fuse into a product: its name and algorithm.
FUSED: dict[type, tuple[str, str]] = {GELUTanh: ("gelu", "tanh"), GELUActivation: ("gelu", "none")}


class EncoderLayerForward:
    """The block of SigLIP and of CLIP where no gradient is needed; the block's own forward elsewhere."""

    def forward(
        self: SiglipEncoderLayer | CLIPEncoderLayer,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **kwargs: object,
    ) -> torch.Tensor:
        attention, mlp = self.self_attn, self.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        if not usable(hidden_states, *projections, attention.out_proj, mlp.fc1, mlp.fc2):
            return super().forward(hidden_states, attention_mask, **kwargs)  # type: ignore[misc]
        x = self.layer_norm1(hidden_states)  # (B, T, V)
        heads = (*x.shape[:-1], -1, attention.head_dim)
        query, key, value = (linear(x, layer).view(heads).transpose(1, 2) for layer in projections)
        out, _ = sdpa_attention_forward(
            attention, query, key, value, attention_mask, scaling=attention.scale, is_causal=False, **kwargs
        )
        x = linear_add(out.flatten(2), attention.out_proj, hidden_states)
        return feed_forward(x, self.layer_norm2, mlp.fc1, mlp.activation_fn, mlp.fc2)


class QwenBlockForward:
    """The block of Qwen3-VL's tower where no gradient is needed; the block's own forward elsewhere."""

    def forward(
        self: Qwen3VLVisionBlock,
        hidden_states: torch.Tensor,
        cu_seqlens: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: object,
    ) -> torch.Tensor:
        mlp, kwargs = self.mlp, {"cu_seqlens": cu_seqlens, "position_embeddings": position_embeddings, **kwargs}
        if not usable(hidden_states, mlp.linear_fc1, mlp.linear_fc2):
            return super().forward(hidden_states, **kwargs)  # type: ignore[misc]
        x = hidden_states + self.attn(self.norm1(hidden_states), **kwargs)
        return feed_forward(x, self.norm2, mlp.linear_fc1, mlp.act_fn, mlp.linear_fc2)


def usable(x: torch.Tensor, *layers: nn.Module) -> bool:
    """Whether oneDNN takes these layers: on a CPU, without autograd, plain (no adapters, not quantised)."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    if not (x.is_cpu and torch.backends.mkldnn.is_available()):
        return False
    are_plain = all(type(layer) is nn.Linear and layer.weight.dtype == x.dtype for layer in layers)
    is_bf16 = x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # not on every processor
    return are_plain and (is_bf16 or x.dtype == torch.float32)


def linear(x: torch.Tensor, layer: nn.Linear, activation: tuple[str, str] = ("none", "")) -> torch.Tensor:
    """layer(x), and then an activation of FUSED: (..., in) -> (..., out)."""
    name, algorithm = activation
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, name, [], algorithm)
    return out


def linear_add(x: torch.Tensor, layer: nn.Linear, residual: torch.Tensor) -> torch.Tensor:
    """layer(x) + residual: (..., in) -> (..., out)."""
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, layer.weight, layer.bias, "add")
    return out


def feed_forward(x: torch.Tensor, norm: nn.Module, first: nn.Linear, act: nn.Module, second: nn.Linear) -> torch.Tensor:
    """x + second(act(first(norm(x)))): (..., V) -> (..., V)."""
    fused = FUSED.get(type(act))
    inner = linear(norm(x), first, fused) if fused else act(linear(norm(x), first))
    return linear_add(inner, second, x)


PATCHES: dict[type, type] = {
    SiglipEncoderLayer: EncoderLayerForward,
    CLIPEncoderLayer: EncoderLayerForward,
    Qwen3VLVisionBlock: QwenBlockForward,
}


def install_tower(tower: nn.Module) -> None:
    """Gives the blocks of a vision tower their faster forward."""
    install(tower, PATCHES)
