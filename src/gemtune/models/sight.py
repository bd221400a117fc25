"""How each family sees: the text that stands for an image, what its frozen tower makes of it, and the way on.

Everything a family's tower sees is kept from before its projector, so that the projector can be trained on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from transformers.image_processing_utils import select_best_resolution
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

Size = tuple[int, int]  # (width, height)
Settings = dict[str, Any]  # of the image processor, other than its config says
Pixels = dict[str, torch.Tensor]

ENCODER = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")  # the linear layers of SigLIP and of CLIP


def _read(processor: Any, images: Sequence[Image], alone: bool, settings: Settings) -> Pixels:
    return dict(processor(list(images), return_tensors="pt", **settings))


def _shown(processor: Any, size: Size, alone: bool) -> Size:
    seen = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    return int(seen["width"]), int(seen["height"])


@dataclass(frozen=True)
class Sight:
    """What a family that sees does with images; `inner` is the model without its head."""

    token: str  # where an image's features go
    tower: str  # the module that is frozen
    projector: tuple[str, ...]  # the modules between it and the text
    # (config, image processor, size, alone, settings) -> what stands for an image in the text a model reads
    text: Callable[[Any, Any, Size, bool, Settings], str]
    # (inner, what `read` made of some images) -> what the tower sees of each, before the projector
    see: Callable[[Any, Pixels], list[torch.Tensor]]
    # (inner, what the tower saw of some images, their sizes, read when asked for) -> `mm_encoder_outputs["image"]`
    project: Callable[[Any, Sequence[torch.Tensor], Iterable[Size]], Any]
    linear: tuple[str, ...]  # the tower's linear layers, for adapters of its own
    # (image processor, images, alone, settings) -> what the tower takes of them
    read: Callable[[Any, Sequence[Image], bool, Settings], Pixels] = _read
    # (image processor, size, alone) -> the (width, height) in pixels at which the model sees an image
    shown: Callable[[Any, Size, bool], Size] = _shown
    both_ways: bool = False  # an image's tokens see each other in both directions
    alone_differs: bool = False  # an image alone in its conversation is read otherwise than one of several
    # (image processor, size) -> frames, rows and columns of patches, where positions count them
    grid: Callable[[Any, Size], tuple[int, int, int]] | None = None


# --- Gemma 3 ---------------------------------------------------------------------------------------------------------

PAN_AND_SCAN = {  # transformers' own defaults
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}
BOI, EOI, SOFT = "<start_of_image>", "<end_of_image>", "<image_soft_token>"


def _gemma_text(config: Any, processor: Any, size: Size, alone: bool, settings: Settings) -> str:
    whole = f"\n\n{BOI}{SOFT * config.mm_tokens_per_image}{EOI}\n\n"
    crops = _gemma_crops(processor, size, settings)
    if not crops:
        return whole
    more = " ".join([whole] * crops)
    return f"Here is the original image {whole} and here are some crops to help you see better {more}"


def _gemma_crops(processor: Any, size: Size, settings: Settings) -> int:
    if not settings.get("do_pan_and_scan"):
        return 0
    blank = np.broadcast_to(np.uint8(0), (3, size[1], size[0]))  # its sides alone are looked at
    return len(processor.pan_and_scan(blank, **{k: v for k, v in settings.items() if k.startswith("pan_and_scan_")}))


def _gemma_see(inner: Any, seen: Pixels) -> list[torch.Tensor]:
    """Pooled patches of every image and its crops: (1 + crops, tokens, V) each; 0.59 MB an image in bf16."""
    projector = inner.multi_modal_projector
    patches = inner.vision_tower(pixel_values=seen["pixel_values"], return_dict=True).last_hidden_state  # (N, P, V)
    side = projector.patches_per_image
    grid = patches.transpose(1, 2).reshape(len(patches), -1, side, side).contiguous()
    pooled = projector.avg_pool(grid).flatten(2).transpose(1, 2)  # (N, tokens, V)
    return list(pooled.split([1 + int(crops) for crops in seen["num_crops"]]))


def _gemma_project(inner: Any, features: Sequence[torch.Tensor], sizes: Iterable[Size]) -> Any:
    projector, pooled = inner.multi_modal_projector, torch.cat(list(features))
    out = torch.matmul(projector.mm_soft_emb_norm(pooled), projector.mm_input_projection_weight).type_as(pooled)
    return BaseModelOutputWithPooling(pooler_output=out)


GEMMA3 = Sight(
    SOFT,
    "vision_tower",
    ("multi_modal_projector",),
    _gemma_text,
    _gemma_see,
    _gemma_project,
    ENCODER,
    both_ways=True,
)

# --- LLaVA -----------------------------------------------------------------------------------------------------------


def _llava_text(config: Any, processor: Any, size: Size, alone: bool, settings: Settings) -> str:
    vision = config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2
    return "<image>" * (tokens + (config.vision_feature_select_strategy == "full"))


def _llava_see(inner: Any, seen: Pixels) -> list[torch.Tensor]:
    """(tokens, V) each."""
    return list(_llava_patches(inner, seen["pixel_values"]))


def _llava_patches(inner: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Patches (N, tokens, V) of the layers that the config names, without the class token where it says so."""
    config = inner.config
    states = inner.vision_tower(pixels, output_hidden_states=True, return_dict=True).hidden_states
    layers = config.vision_feature_layer
    chosen = [states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    if config.vision_feature_select_strategy == "default":
        chosen = [layer[:, 1:] for layer in chosen]
    return torch.cat(chosen, dim=-1)


def _llava_project(inner: Any, features: Sequence[torch.Tensor], sizes: Iterable[Size]) -> Any:
    out = inner.multi_modal_projector(torch.stack(list(features)))
    return BaseModelOutputWithPooling(pooler_output=list(out))


LLAVA = Sight(
    "<image>",
    "vision_tower",
    ("multi_modal_projector",),
    _llava_text,
    _llava_see,
    _llava_project,
    ENCODER,
)

# --- LLaVA-OneVision -------------------------------------------------------------------------------------------------

SHRINKS = 1.1  # the model shrinks the crops of an image that are that much more, in each direction, than it allows
TILES = 4  # a forward pass of the tower: an image alone has up to 37, and every layer's states are kept for a while


def _onevision_text(config: Any, processor: Any, size: Size, alone: bool, settings: Settings) -> str:
    """A tile's patches, and for an image alone those of its crops: a row of them ends in a newline."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    if not alone:
        return "<image>" * (side**2 + 1)
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
    return "<image>" * (side**2 + rows * (columns + 1))


def _onevision_read(processor: Any, images: Sequence[Image], alone: bool, settings: Settings) -> Pixels:
    """The tiles of all images, and how many each has; the processor tells one of several by their number."""
    rows = [[image] if alone else [image, image] for image in images]
    tiles = [processor([row], return_tensors="pt")["pixel_values"][0] for row in rows]  # (tiles, 3, S, S) each
    return {"pixel_values": torch.cat(tiles), "tiles": torch.tensor([len(own) for own in tiles])}


def _onevision_shown(processor: Any, size: Size, alone: bool) -> Size:
    if not alone:
        return _shown(processor, size, alone)
    best = select_best_resolution((size[1], size[0]), processor.image_grid_pinpoints)
    scale = min(best[1] / size[0], best[0] / size[1])
    return min(math.ceil(size[0] * scale), best[1]), min(math.ceil(size[1] * scale), best[0])


def _onevision_see(inner: Any, seen: Pixels) -> list[torch.Tensor]:
    """(tiles, tokens, V) each: the whole image, then its crops."""
    patches = torch.cat([_llava_patches(inner, some) for some in seen["pixel_values"].split(TILES)])
    return list(patches.split(seen["tiles"].tolist()))


def _onevision_project(inner: Any, features: Sequence[torch.Tensor], sizes: Iterable[Size]) -> Any:
    tiles = inner.multi_modal_projector(torch.cat(list(features))).split([len(own) for own in features])
    turned = [(height, width) for width, height in sizes]
    packed, _ = inner.pack_image_features(tiles, turned, inner.image_newline, inner.config.vision_aspect_ratio)
    return BaseModelOutputWithPooling(pooler_output=packed)


LLAVA_ONEVISION = Sight(
    "<image>",
    "vision_tower",
    ("multi_modal_projector",),
    _onevision_text,
    _onevision_see,
    _onevision_project,
    ENCODER,
    read=_onevision_read,
    shown=_onevision_shown,
    alone_differs=True,
)

# --- Qwen3-VL --------------------------------------------------------------------------------------------------------


def _qwen_grid(processor: Any, size: Size) -> tuple[int, int, int]:
    patch, limits = processor.patch_size, processor.size
    side = patch * processor.merge_size
    height, width = smart_resize(size[1], size[0], side, limits["shortest_edge"], limits["longest_edge"])
    return 1, height // patch, width // patch


def _qwen_shown(processor: Any, size: Size, alone: bool) -> Size:
    _, rows, columns = _qwen_grid(processor, size)
    return columns * processor.patch_size, rows * processor.patch_size


def _qwen_text(config: Any, processor: Any, size: Size, alone: bool, settings: Settings) -> str:
    return "<|image_pad|>" * (math.prod(_qwen_grid(processor, size)) // processor.merge_size**2)


def _qwen_see(inner: Any, seen: Pixels) -> list[torch.Tensor]:
    """What the merger and each deepstack merger get: (1 + deepstack layers, patches, V) of every image."""
    visual, kept = inner.visual, []
    mergers = [*visual.deepstack_merger_list, visual.merger]
    hooks = [merger.register_forward_pre_hook(lambda _, given: kept.append(given[0])) for merger in mergers]
    try:
        visual(seen["pixel_values"].type(visual.dtype), grid_thw=seen["image_grid_thw"], return_dict=True)
    finally:
        for hook in hooks:
            hook.remove()
    return list(torch.stack(kept).split(seen["image_grid_thw"].prod(-1).tolist(), dim=1))


def _qwen_project(inner: Any, features: Sequence[torch.Tensor], sizes: Iterable[Size]) -> Any:
    from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

    visual = inner.visual
    mergers = [*visual.deepstack_merger_list, visual.merger]
    made = [[merger(layer) for merger, layer in zip(mergers, image, strict=True)] for image in features]
    *deepstack, merged = (list(of_all) for of_all in zip(*made, strict=True))
    return BaseModelOutputWithDeepstackFeatures(pooler_output=merged, deepstack_features=deepstack)


QWEN3_VL = Sight(
    "<|image_pad|>",
    "visual",
    ("visual.merger", "visual.deepstack_merger_list"),
    _qwen_text,
    _qwen_see,
    _qwen_project,
    ("qkv", "proj", "linear_fc1", "linear_fc2"),
    shown=_qwen_shown,
    grid=_qwen_grid,
)


def tokens_of(config: Any) -> int:
    """The id of the token that stands where an image's features go."""
    return int(config.image_token_id if hasattr(config, "image_token_id") else config.image_token_index)
