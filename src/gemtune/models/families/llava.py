"""LLaVA 1.5: CLIP's second last layer without its class token, a two-layer projector, Llama."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.models.families.base import Family, ImageProcessor, Pixels, Settings, Size, VisionFamily

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlavaConfig, LlavaModel, LlavaOnevisionModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling


class LlavaVision(VisionFamily):
    """Every image is scaled and cropped to the same square: as many tokens as it has patches."""

    image_token = "<image>"
    tower = "vision_tower"
    tower_blocks = "vision_tower"
    projector = ("multi_modal_projector",)

    def image_text(
        self, config: LlavaConfig, processor: ImageProcessor, size: Size, alone: bool, settings: Settings
    ) -> str:
        tower = config.vision_config
        tokens = (tower.image_size // tower.patch_size) ** 2
        return self.image_token * (tokens + (config.vision_feature_select_strategy == "full"))

    def encode(self, core: LlavaModel, pixels: Pixels) -> list[Tensor]:
        """(tokens, V) each."""
        return list(tower_patches(core, pixels["pixel_values"]))

    def project(
        self, core: LlavaModel, features: Sequence[Tensor], sizes: Iterable[Size]
    ) -> BaseModelOutputWithPooling:
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        out = core.multi_modal_projector(torch.stack(list(features)))
        return BaseModelOutputWithPooling(pooler_output=list(out))


def tower_patches(core: LlavaModel | LlavaOnevisionModel, pixels: Tensor) -> Tensor:
    """Patches (N, tokens, V) of the layers that the config names, without the class token where it says so."""
    import torch

    config = core.config
    states = core.vision_tower(pixels, output_hidden_states=True, return_dict=True).hidden_states
    layers = config.vision_feature_layer
    chosen = [states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    if config.vision_feature_select_strategy == "default":
        chosen = [layer[:, 1:] for layer in chosen]
    return torch.cat(chosen, dim=-1)


def write_tiny(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny LLaVA 1.5."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from gemtune.models.tiny import TEXT, TOWER, make_tokenizer, save_tiny

    torch.manual_seed(seed)
    tokenizer = make_tokenizer("<image>", "</s>", eos_token="</s>", image_token="<image>")
    square = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(**square),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**{**TOWER, "num_hidden_layers": 3}, image_size=56, patch_size=14),
        text_config=LlamaConfig(**TEXT, vocab_size=len(tokenizer), bos_token_id=2, eos_token_id=tokenizer.eos_token_id),
        image_token_id=tokenizer.image_token_id,
        image_seq_length=16,
    )
    return save_tiny(folder, LlavaForConditionalGeneration(config), processor)


FAMILY = Family(
    name="llava",
    template="llava.jinja",
    turn_tokens=(),
    stop_tokens=("</s>",),
    write_tiny=write_tiny,
    vision=LlavaVision(),
)
