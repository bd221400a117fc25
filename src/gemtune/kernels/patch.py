"""Puts the kernels into a transformers model, and takes them out again: a table of classes and their faster forwards.

`install` gives modules another class and changes nothing else; LoRA's frozen weights are grouped at their first use
(lora.py). `restore` undoes all of it, for whatever needs the model as transformers and PEFT have it, as an export does.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import transformers
from peft.tuners.lora import LoraLayer
from peft.tuners.trainable_tokens import TrainableTokensLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.models.gemma3 import modeling_gemma3 as gemma3

from gemtune.kernels.attention import NAME, attention
from gemtune.kernels.fp16 import remove_fp16
from gemtune.kernels.lora import LoraForward, TokenRowsForward, group_of, normed_linear, ungroup
from gemtune.kernels.mlp import normed_mlp
from gemtune.kernels.norms import GemmaNormForward, RmsNormRope

if TYPE_CHECKING:
    from transformers import Cache


class GemmaAttentionForward:
    """Gemma 3's attention with the norm before it: one product for queries, keys and values.

    transformers calls the key-value cache `past_key_values` up to 5.23 and `cache` from 5.24 on.
    """

    def forward(
        self: gemma3.Gemma3Attention,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        output_positions: torch.Tensor | None = None,
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
        out = out if output_positions is None else out.index_select(1, output_positions)
        return self.o_proj(out.flatten(2)), None


class GemmaLayerForward:
    """Gemma 3's block. The last one takes `output_positions` (P,): after its attention it computes those alone."""

    def forward(
        self: gemma3.Gemma3DecoderLayer,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        output_positions: torch.Tensor | None = None,
        **kwargs: object,
    ) -> torch.Tensor:
        if self.layer_idx < self.config.num_hidden_layers - 1:
            output_positions = None
        kwargs |= {"attention_mask": attention_mask, "position_ids": position_ids}
        kwargs |= _given(past_key_values=past_key_values, cache=cache)
        if not issubclass(
            type(self.self_attn), GemmaAttentionForward
        ):  # it knows neither `output_positions` nor `norm`
            out = super().forward(hidden_states, position_embeddings, **kwargs)  # type: ignore[misc]
            return out if output_positions is None else out.index_select(1, output_positions)
        out, _ = self.self_attn(
            hidden_states, position_embeddings, output_positions=output_positions, norm=self.input_layernorm, **kwargs
        )
        x = (
            hidden_states if output_positions is None else hidden_states.index_select(1, output_positions)
        )  # (B, T or P, H)
        x = x + self.post_attention_layernorm(out)
        return x + self.post_feedforward_layernorm(normed_mlp(x, self.pre_feedforward_layernorm, self.mlp))


def _given(**arguments: object) -> dict[str, object]:
    return {name: value for name, value in arguments.items() if value is not None}


def hidden_at(decoder: nn.Module, positions: torch.Tensor, **inputs: object) -> torch.Tensor:
    """The last hidden states (P, H) of a single row at `positions` (P,); `decoder` may be a model around a decoder."""
    if isinstance(getattr(decoder, "language_model", decoder).layers[-1], GemmaLayerForward):  # type: ignore[index]
        states: torch.Tensor = decoder(output_positions=positions, **inputs).last_hidden_state  # (1, P, H)
        return states[0]
    states = decoder(**inputs).last_hidden_state
    return states[0].index_select(0, positions)


PATCHES: dict[type, type] = {
    LoraLayer: LoraForward,
    TrainableTokensLayer: TokenRowsForward,
    gemma3.Gemma3RMSNorm: GemmaNormForward,
    gemma3.Gemma3Attention: GemmaAttentionForward,
    gemma3.Gemma3DecoderLayer: GemmaLayerForward,
}
HOOK = "contiguous_input"  # the attribute of a head that holds the handle of its hook


def install(model: nn.Module, patches: Mapping[type, type] = PATCHES) -> nn.Module:
    """Gives every module in a table its faster forward; parameters, names and files stay as they are."""
    for module in model.modules():
        forward = next((forward for kind, forward in patches.items() if isinstance(module, kind)), None)
        if forward is not None and not isinstance(module, forward) and not unknown_parameters(forward, type(module)):
            stock = type(module)
            module.__class__ = type(stock.__name__, (forward, stock), {"__module__": stock.__module__, "stock": stock})
    return model


def install_head(head: nn.Module) -> None:
    """Makes what a head is given contiguous; PEFT may have wrapped a head that is so already.

    A frozen head fed with a slice of the hidden states makes PyTorch copy its 262,144 rows once per sequence: 36.7 s
    for 16 replies of 10 tokens at 270M on two cores, instead of 2.5 s.
    """
    if not any(HOOK in vars(module) for module in head.modules()):
        vars(head)[HOOK] = head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))


def restore(model: nn.Module) -> nn.Module:
    """The model as transformers and PEFT have it: their classes and attention, every weight in memory of its own."""
    for module in model.modules():
        while stock := vars(type(module)).get("stock"):
            module.__class__ = stock
        ungroup(module)
        remove_fp16(module)
        if hook := vars(module).pop(HOOK, None):
            hook.remove()
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == NAME:
            module.set_attn_implementation("sdpa")
    return model


def unknown_parameters(forward: type, stock: type) -> tuple[str, ...]:
    """The parameters of a class's own forward that the faster one does not name, and so might swallow."""
    method = "forward" if "forward" in vars(forward) else "forward_adapters"
    known = inspect.signature(getattr(forward, method)).parameters
    parameters = inspect.signature(getattr(stock, method)).parameters.values()
    return tuple(each.name for each in parameters if each.kind not in _OPEN and each.name not in known)


_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def choose_forwards(model: nn.Module, patches: Mapping[type, type] = PATCHES) -> tuple[list[str], str]:
    """The classes of a model that keep their own forward although a faster one is known, and why."""
    reasons = {}
    for module in model.modules():
        for kind, forward in patches.items():
            if isinstance(module, kind) and not isinstance(module, forward):
                reasons[type(module).__name__] = _reason(type(module), unknown_parameters(forward, type(module)))
    if not reasons:
        return [], "every forward takes the parameters that gemtune knows"
    return sorted(reasons), "; ".join(dict.fromkeys(reasons.values()))


def _reason(stock: type, unknown: tuple[str, ...]) -> str:
    """Why a module's class is its own."""
    if not unknown:
        return "gemtune's forwards are installed with LoRA only"
    where = f"{stock.__name__}.forward of transformers {transformers.__version__}"
    return f"{where} takes {', '.join(unknown)}, unknown to gemtune, so it keeps its own forward"
