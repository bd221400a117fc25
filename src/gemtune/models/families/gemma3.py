"""Gemma 3: the text models (270M, 1B), and from 4B on with SigLIP; an image is 256 tokens, and so is each crop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemtune.models.families.base import Family, ImageProcessor, Pixels, Settings, Size, VisionFamily

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Gemma3Config, Gemma3Model, Gemma3TextConfig
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

BEGIN, END, SOFT = "<start_of_image>", "<end_of_image>", "<image_soft_token>"
PAN_AND_SCAN: Settings = {  # transformers' own defaults
    "pan_and_scan_min_crop_size": 256,
    "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}


class Gemma3Vision(VisionFamily):
    """SigLIP's patches, pooled; long images are also seen in crops with vision.pan_and_scan."""

    image_token = SOFT
    tower = "vision_tower"
    tower_blocks = "vision_tower"
    projector = ("multi_modal_projector",)
    bidirectional = True

    def settings(self, pan_and_scan: bool) -> Settings:
        return {"do_pan_and_scan": True, **PAN_AND_SCAN} if pan_and_scan else {}

    def image_text(
        self, config: Gemma3Config, processor: ImageProcessor, size: Size, alone: bool, settings: Settings
    ) -> str:
        whole = f"\n\n{BEGIN}{SOFT * config.mm_tokens_per_image}{END}\n\n"
        crops = _crops(processor, size, settings)
        if not crops:
            return whole
        more = " ".join([whole] * crops)
        return f"Here is the original image {whole} and here are some crops to help you see better {more}"

    def encode(self, core: Gemma3Model, pixels: Pixels) -> list[Tensor]:
        """Pooled patches of every image and its crops: (1 + crops, tokens, V) each; 0.59 MB per image in bf16."""
        projector = core.multi_modal_projector
        patches = core.vision_tower(
            pixel_values=pixels["pixel_values"], return_dict=True
        ).last_hidden_state  # (N, P, V)
        side = projector.patches_per_image
        grid = patches.transpose(1, 2).reshape(len(patches), -1, side, side).contiguous()
        pooled = projector.avg_pool(grid).flatten(2).transpose(1, 2)  # (N, tokens, V)
        return list(pooled.split([1 + int(crops) for crops in pixels["num_crops"]]))

    def project(
        self, core: Gemma3Model, features: Sequence[Tensor], sizes: Iterable[Size]
    ) -> BaseModelOutputWithPooling:
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        projector, pooled = core.multi_modal_projector, torch.cat(list(features))
        out = torch.matmul(projector.mm_soft_emb_norm(pooled), projector.mm_input_projection_weight).type_as(pooled)
        return BaseModelOutputWithPooling(pooler_output=out)


def _crops(processor: Gemma3ImageProcessorPil, size: Size, settings: Settings) -> int:
    import numpy as np

    if not settings.get("do_pan_and_scan"):
        return 0
    blank = np.broadcast_to(np.uint8(0), (3, size[1], size[0]))  # only its sides are looked at
    return len(processor.pan_and_scan(blank, **{name: settings[name] for name in PAN_AND_SCAN}))


def tiny_text_config(vocab: int, **sizes: int) -> Gemma3TextConfig:
    """Two sliding layers to one full one, a window shorter than the longest rows, GQA: all that packing can break."""
    from transformers import Gemma3TextConfig

    from gemtune.models.tiny import TEXT

    settings = {
        **TEXT,
        "architectures": ["Gemma3ForCausalLM"],
        "vocab_size": vocab,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "max_position_embeddings": 2048,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    return Gemma3TextConfig(**{**settings, **sizes})


def write_tiny_text(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny Gemma 3 text model with its tokenizer; its turn tokens are as untrained as those of a -pt model."""
    import torch
    from transformers import Gemma3ForCausalLM

    from gemtune.models.tiny import make_tokenizer

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    model = Gemma3ForCausalLM(tiny_text_config(len(tokenizer)))
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight.mul_(5)  # a random model whose logits differ, so that greedy text means something
        unused = weight[6:105]
        unused.copy_(unused[:1] + 0.01 * torch.randn_like(unused))
        weight[105:107] = unused[:1] + 0.01 * torch.randn_like(weight[105:107])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_tiny_vision(
    folder: Path,
    seed: int = 0,
    side: int = 56,
    patch: int = 14,
    tokens: int = 4,
    vision_sizes: dict[str, int] | None = None,
    text_sizes: dict[str, int] | None = None,
) -> Path:
    """Writes a tiny Gemma 3 with SigLIP: images of `side` pixels in patches, pooled to `tokens` each."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor, SiglipVisionConfig
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    from gemtune.models.tiny import TOWER, make_tokenizer, save_tiny

    torch.manual_seed(seed)
    tokenizer = make_tokenizer(boi_token=BEGIN, eoi_token=END, image_token=SOFT)
    image_processor = Gemma3ImageProcessorPil(size={"height": side, "width": side})
    processor = Gemma3Processor(image_processor, tokenizer, image_seq_length=tokens)
    siglip = {**TOWER, **(vision_sizes or {}), "image_size": side, "patch_size": patch, "vision_use_head": False}
    config = Gemma3Config(
        text_config=tiny_text_config(len(tokenizer), **(text_sizes or {})),
        vision_config=SiglipVisionConfig(**siglip),
        mm_tokens_per_image=tokens,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_id=tokenizer.image_token_id,
        architectures=["Gemma3ForConditionalGeneration"],
    )
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(std=0.2)
    return save_tiny(folder, model, processor)


TEXT = Family(
    name="gemma3",
    template="gemma3.jinja",
    turn_tokens=("<start_of_turn>", "<end_of_turn>"),
    stop_tokens=("<end_of_turn>", "<eos>"),
    write_tiny=write_tiny_text,
)

VISION = Family(
    name="gemma3-vision",
    template=TEXT.template,
    turn_tokens=TEXT.turn_tokens,
    stop_tokens=TEXT.stop_tokens,
    write_tiny=write_tiny_vision,
    vision=Gemma3Vision(),
)
