"""gemtune's kernels put into a loaded model; its parameters, names and files stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from gemtune.kernels.attention import NAME as ATTENTION
from gemtune.kernels.fp16 import install_fp16
from gemtune.kernels.patch import install, install_head
from gemtune.kernels.vision_tower import install_tower
from gemtune.models.families import FAMILIES
from gemtune.models.structure import without_adapters

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Model = TypeVar("Model", bound="PreTrainedModel | PeftModel")


def install_kernels(model: Model) -> Model:
    """The same model with gemtune's attention, vision tower, head and, where there are adapters, their layers.

    Called again after adapters were attached, it adds what they need.
    """
    plain = without_adapters(model)
    vision = FAMILIES[plain.config.model_type].vision
    plain.set_attn_implementation({"": "sdpa", "text_config": ATTENTION} if vision else ATTENTION)
    if vision:
        install_tower(plain.model.get_submodule(vision.tower))
    install_head(plain.get_output_embeddings())
    if plain.dtype == torch.float16:
        install_fp16(plain, vision.tower if vision else None)
    if model is not plain:
        install(model)
    return model
