"""The parts of a loaded model, with or without adapters: its decoder, its head, the model inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def without_adapters(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The transformers model inside a PEFT model, or the model itself."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def parts_of(
    model: PreTrainedModel | PeftModel,
) -> tuple[PreTrainedModel, torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
    """A model without its head, the head's weight (V, H), and the trained token rows that stand in for some of it."""
    from gemtune.kernels.lora import token_rows

    base = without_adapters(model)
    head = base.get_output_embeddings()
    adapter = getattr(head, "token_adapter", None)
    if adapter is None:
        return base.model, head.weight, None
    rows = None if adapter.disable_adapters or adapter.merged else token_rows(adapter)
    return base.model, adapter.base_layer.weight, rows


def choose_head(model: PreTrainedModel | PeftModel) -> tuple[str, str]:
    """Whether the loss is `gathered` from the head's weight, or of the model's own logits where the head is special."""
    head = without_adapters(model).get_output_embeddings()
    plain = getattr(getattr(head, "token_adapter", None), "base_layer", head)
    if type(plain) is nn.Linear and plain.bias is None:
        return "gathered", "the head is one product with its weight: only labelled positions are scored, in pieces"
    kind = "a bias" if type(plain) is nn.Linear else "adapters or a form of its own"
    return "logits_to_keep", f"the head has {kind}: the model scores the labelled positions itself, all at once"


def checkpoint_blocks(model: PreTrainedModel | PeftModel) -> None:
    """From now on training keeps what enters a block, and computes the block again in the backward pass."""
    plain = without_adapters(model)
    # transformers 5.23 gave it another name.
    enable = getattr(plain, "activation_checkpointing_enable", None) or plain.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def is_checkpointed(model: PreTrainedModel | PeftModel) -> bool:
    """Whether `checkpoint_blocks` was called."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
