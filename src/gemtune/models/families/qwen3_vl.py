"""Qwen3-VL: images of any shape, three-part positions, features that also go into the first layers (deepstack)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.models.families.base import Family, GridFamily, Pixels, Settings, Size

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import Qwen3VLConfig, Qwen3VLModel
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures


class Qwen3VLVision(GridFamily):
    """A token per merged square of patches; the mergers are the projector."""

    image_token = "<|image_pad|>"
    tower = "visual"
    tower_blocks = "visual.blocks"
    projector = ("visual.merger", "visual.deepstack_merger_list")
    tower_linear = ("qkv", "proj", "linear_fc1", "linear_fc2")

    def grid(self, processor: Qwen2VLImageProcessorPil, size: Size) -> tuple[int, int, int]:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        patch, limits = processor.patch_size, processor.size
        side = patch * processor.merge_size
        height, width = smart_resize(size[1], size[0], side, limits["shortest_edge"], limits["longest_edge"])
        return 1, height // patch, width // patch

    def seen_size(self, processor: Qwen2VLImageProcessorPil, size: Size, alone: bool) -> Size:
        _, rows, columns = self.grid(processor, size)
        return columns * processor.patch_size, rows * processor.patch_size

    def image_text(
        self, config: Qwen3VLConfig, processor: Qwen2VLImageProcessorPil, size: Size, alone: bool, settings: Settings
    ) -> str:
        return self.image_token * (math.prod(self.grid(processor, size)) // processor.merge_size**2)

    def encode(self, core: Qwen3VLModel, pixels: Pixels) -> list[Tensor]:
        """What the merger and each deepstack merger get: (1 + deepstack layers, patches, V) of every image."""
        import torch

        visual, states = core.visual, []
        mergers = [*visual.deepstack_merger_list, visual.merger]

        def keep(merger: Module, inputs: tuple[Tensor, ...]) -> Tensor:
            states.append(inputs[0])
            return inputs[0].to(max((p.dtype for p in merger.parameters()), key=lambda dtype: dtype.itemsize))

        hooks = [merger.register_forward_pre_hook(keep) for merger in mergers]  # which may be trained, in fp32
        try:
            visual(pixels["pixel_values"].type(visual.dtype), grid_thw=pixels["image_grid_thw"], return_dict=True)
        finally:
            for hook in hooks:
                hook.remove()
        return list(torch.stack(states).split(pixels["image_grid_thw"].prod(-1).tolist(), dim=1))

    def project(
        self, core: Qwen3VLModel, features: Sequence[Tensor], sizes: Iterable[Size]
    ) -> BaseModelOutputWithDeepstackFeatures:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

        mergers = [*core.visual.deepstack_merger_list, core.visual.merger]
        by_image = [[merger(layer) for merger, layer in zip(mergers, image, strict=True)] for image in features]
        *deepstack, merged = (list(layers) for layers in zip(*by_image, strict=True))
        return BaseModelOutputWithDeepstackFeatures(pooler_output=merged, deepstack_features=deepstack)


TINY_TOWER = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": 8,
    "out_hidden_size": 48,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}


def write_tiny(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny Qwen3-VL."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from gemtune.models.tiny import TEXT, make_tokenizer, save_tiny

    torch.manual_seed(seed)
    turns = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    images = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = make_tokenizer(*turns, *images, eos_token="<|im_end|>")
    limits = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 9}
    processor = Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, temporal_patch_size=2, size=limits)
    rope = {"rope_type": "default", "rope_theta": 10_000, "mrope_section": [4, 2, 2]}
    config = Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "head_dim": 16, "rope_parameters": rope},
        vision_config=TINY_TOWER,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return save_tiny(folder, Qwen3VLForConditionalGeneration(config), processor, tokenizer)


FAMILY = Family(
    name="qwen3-vl",
    template="qwen3_vl.jinja",
    turn_tokens=("<|im_start|>", "<|im_end|>"),
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    write_tiny=write_tiny,
    vision=Qwen3VLVision(),
)
