"""LLaVA-OneVision: SigLIP, Qwen2; an image alone is also seen in crops, which are shrunk where they are many."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.models.families.base import Family, ImageProcessor, Pixels, Settings, Size, VisionFamily
from gemtune.models.families.llava import tower_patches

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from transformers import LlavaOnevisionConfig, LlavaOnevisionModel
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

SHRINKS = 1.1  # the model shrinks the crops of an image that are that much more, in each direction, than it allows
TILES = 4  # per forward pass of the tower: an image alone has up to 37, and every layer's states are kept for a while


class LlavaOnevisionVision(VisionFamily):
    """One tile for an image among others; the whole and its crops for an image alone."""

    image_token = "<image>"
    tower = "vision_tower"
    tower_blocks = "vision_tower"
    projector = ("multi_modal_projector",)
    alone_differs = True

    def image_text(
        self, config: LlavaOnevisionConfig, processor: ImageProcessor, size: Size, alone: bool, settings: Settings
    ) -> str:
        """A tile's patches, and for an image alone those of its crops: a row of them ends in a newline."""
        side = config.vision_config.image_size // config.vision_config.patch_size
        if not alone:
            return self.image_token * (side**2 + 1)
        rows, columns = _crop_patches(config, size, side)
        return self.image_token * (side**2 + rows * (columns + 1))

    def preprocess(
        self, processor: LlavaOnevisionImageProcessorPil, images: Sequence[Image], alone: bool, settings: Settings
    ) -> Pixels:
        """The tiles of all images, and how many each has; the processor tells one of several by their number."""
        import torch

        rows = [[image] if alone else [image, image] for image in images]
        tiles = [processor([row], return_tensors="pt")["pixel_values"][0] for row in rows]  # (tiles, 3, S, S) each
        return {"pixel_values": torch.cat(tiles), "tiles": torch.tensor([len(image_tiles) for image_tiles in tiles])}

    def seen_size(self, processor: LlavaOnevisionImageProcessorPil, size: Size, alone: bool) -> Size:
        from transformers.image_processing_utils import select_best_resolution

        if not alone:
            return super().seen_size(processor, size, alone)
        best = select_best_resolution((size[1], size[0]), processor.image_grid_pinpoints)
        scale = min(best[1] / size[0], best[0] / size[1])
        return min(math.ceil(size[0] * scale), best[1]), min(math.ceil(size[1] * scale), best[0])

    def encode(self, core: LlavaOnevisionModel, pixels: Pixels) -> list[Tensor]:
        """(tiles, tokens, V) each: the whole image, then its crops."""
        import torch

        patches = torch.cat([tower_patches(core, tiles) for tiles in pixels["pixel_values"].split(TILES)])
        return list(patches.split(pixels["tiles"].tolist()))

    def project(
        self, core: LlavaOnevisionModel, features: Sequence[Tensor], sizes: Iterable[Size]
    ) -> BaseModelOutputWithPooling:
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        tiles = core.multi_modal_projector(torch.cat(list(features))).split([len(feature) for feature in features])
        turned = [(height, width) for width, height in sizes]
        packed, _ = core.pack_image_features(tiles, turned, core.image_newline, core.config.vision_aspect_ratio)
        return BaseModelOutputWithPooling(pooler_output=packed)


def _crop_patches(config: LlavaOnevisionConfig, size: Size, side: int) -> tuple[int, int]:
    """The rows and columns of patches that an image's crops have once padding is cut off and they are shrunk."""
    from transformers.image_processing_utils import select_best_resolution

    width, height = size
    best = select_best_resolution((height, width), config.image_grid_pinpoints)
    rows, columns = (pixels // config.vision_config.image_size * side for pixels in best)
    if width / height > columns / rows:  # as the model does, to its rounding: padded above and below
        rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
    else:
        columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
    ratio = math.sqrt(rows * columns / (int(config.vision_aspect_ratio.removeprefix("anyres_max_")) * side**2))
    if ratio > SHRINKS:
        rows, columns = int(rows // ratio), int(columns // ratio)
    return rows, columns


def write_tiny(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny LLaVA-OneVision."""
    import torch
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    from gemtune.models.tiny import TEXT, TOWER, make_tokenizer, save_tiny

    torch.manual_seed(seed)
    special = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<image>", "<video>")
    tokenizer = make_tokenizer(*special, eos_token="<|im_end|>")
    grid = [[56 * rows, 56 * columns] for rows, columns in ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3))]
    processor = LlavaOnevisionImageProcessorPil(size={"height": 56, "width": 56}, image_grid_pinpoints=grid)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER, image_size=56, patch_size=14, vision_use_head=False),
        text_config=Qwen2Config(**TEXT, vocab_size=len(tokenizer)),
        image_grid_pinpoints=grid,
        vision_aspect_ratio="anyres_max_2",
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    return save_tiny(folder, LlavaOnevisionForConditionalGeneration(config), processor, tokenizer)


FAMILY = Family(
    name="llava-onevision",
    template="llava_onevision.jinja",
    turn_tokens=("<|im_start|>", "<|im_end|>"),
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    write_tiny=write_tiny,
    vision=LlavaOnevisionVision(),
)
