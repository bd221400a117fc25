"""Puts the kernels into a transformers model: a table of modules and the forward each one gets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from peft.tuners.lora import LoraLayer
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import nn
from transformers.models.gemma3 import modeling_gemma3 as gemma3

from gemtune.kernels.adapters import LoraForward, TokenRowsForward, group_of, normed_linear
from gemtune.kernels.attention import attention
from gemtune.kernels.mlp import normed_mlp
from gemtune.kernels.norms import GemmaNormForward, RmsNormRope


class GemmaAttentionForward:
    """Gemma 3's attention with the norm before it: queries, keys and values from one product.

    transformers calls the key-value cache `past_key_values` up to 5.23 and `cache` from 5.24 on.
    """

    def forward(
        self: Any,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        cache: Any = None,
        wanted: torch.Tensor | None = None,
        norm: nn.Module | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        heads = (*hidden_states.shape[:-1], -1, self.head_dim)  # (B, T, N, D)
        cos, sin = (half.chunk(2, -1)[0] for half in position_embeddings)  # both halves are the same
        group = group_of(self, "q_proj", "k_proj", "v_proj")
        if group is not None and norm is not None:
            query, key, value = normed_linear(hidden_states, norm, group).split(group.outs, -1)
        else:
            hidden_states = norm(hidden_states) if norm is not None else hidden_states
            query, key, value = (proj(hidden_states) for proj in (self.q_proj, self.k_proj, self.v_proj))
        query = RmsNormRope.apply(query.view(heads), self.q_norm.weight, cos, sin, self.q_norm.eps).transpose(1, 2)
        key = RmsNormRope.apply(key.view(heads), self.k_norm.weight, cos, sin, self.k_norm.eps).transpose(1, 2)
        value = value.view(heads).transpose(1, 2)
        past = past_key_values if cache is None else cache
        if past is not None:
            key, value = past.update(key, value, self.layer_idx)
        kwargs |= {"scaling": self.scaling, "sliding_window": self.sliding_window}
        out, _ = attention(self, query, key, value, attention_mask, **kwargs)
        out = out if wanted is None else out.index_select(1, wanted)
        return self.o_proj(out.flatten(2)), None


class GemmaLayerForward:
    """Gemma 3's block. The last one takes `wanted` (P,): past its attention it works at those positions alone."""

    def forward(
        self: Any,
        hidden_states: torch.Tensor,
        position_embeddings: Any = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        cache: Any = None,
        wanted: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        if self.layer_idx < self.config.num_hidden_layers - 1:
            wanted = None
        kwargs |= {"attention_mask": attention_mask, "position_ids": position_ids}
        kwargs |= _given(past_key_values=past_key_values, cache=cache)
        if not issubclass(type(self.self_attn), GemmaAttentionForward):  # it knows neither `wanted` nor `norm`
            out = super().forward(hidden_states, position_embeddings, **kwargs)  # type: ignore[misc]
            return out if wanted is None else out.index_select(1, wanted)
        out, _ = self.self_attn(hidden_states, position_embeddings, wanted=wanted, norm=self.input_layernorm, **kwargs)
        x = hidden_states if wanted is None else hidden_states.index_select(1, wanted)  # (B, T or P, H)
        x = x + self.post_attention_layernorm(out)
        return x + self.post_feedforward_layernorm(normed_mlp(x, self.pre_feedforward_layernorm, self.mlp))


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def hidden_at(decoder: nn.Module, positions: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """The last hidden states (P, H) of a single row at `positions` (P,); `decoder` may be a model around a decoder."""
    if isinstance(getattr(decoder, "language_model", decoder).layers[-1], GemmaLayerForward):  # type: ignore[index]
        states: torch.Tensor = decoder(wanted=positions, **inputs).last_hidden_state  # (1, P, H)
        return states[0]
    states = decoder(**inputs).last_hidden_state
    return states[0].index_select(0, positions)


FORWARDS: dict[type, type] = {
    LoraLayer: LoraForward,
    TrainableTokensLayer: TokenRowsForward,
    gemma3.Gemma3RMSNorm: GemmaNormForward,
    gemma3.Gemma3Attention: GemmaAttentionForward,
    gemma3.Gemma3DecoderLayer: GemmaLayerForward,
}


def speed_up(model: nn.Module, forwards: Mapping[type, type] = FORWARDS) -> nn.Module:
    """Gives every module in a table its faster forward; parameters, names and files stay as they are."""
    for module in model.modules():
        forward = next((forward for kind, forward in forwards.items() if isinstance(module, kind)), None)
        if forward is not None and not isinstance(module, forward) and not unknown_parameters(forward, type(module)):
            cls = module.__class__
            module.__class__ = type(cls.__name__, (forward, cls), {"__module__": cls.__module__})
    return model


def unknown_parameters(forward: type, stock: type) -> tuple[str, ...]:
    """The parameters of a class's own forward that the faster one does not name, and so might swallow."""
    method = "forward" if "forward" in vars(forward) else "forward_adapters"
    known = inspect.signature(getattr(forward, method)).parameters
    parameters = inspect.signature(getattr(stock, method)).parameters.values()
    return tuple(own.name for own in parameters if own.kind not in _OPEN and own.name not in known)


_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def choose_forwards(model: nn.Module, forwards: Mapping[type, type] = FORWARDS) -> tuple[list[str], str]:
    """The classes of a model that keep their own forward although a faster one is known, and why."""
    why = {}
    for module in model.modules():
        for kind, forward in forwards.items():
            if isinstance(module, kind) and not isinstance(module, forward):
                why[type(module).__name__] = unknown_parameters(forward, type(module))
    if not why:
        return [], "every forward takes the parameters that gemtune knows"
    told = "; ".join(f"{name}.forward takes {', '.join(unknown) or 'what is known'}" for name, unknown in why.items())
    return sorted(
        why
    ), f"transformers {transformers.__version__}: {told}: unknown to gemtune, so it keeps its own forward"
