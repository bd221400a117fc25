"""Tiny random-weight models of the real architectures, for tests and dry runs; their tokenizer is built like Gemma's.

`gemtune tiny gemma3-vision FOLDER` writes one, and `model: FOLDER` runs any recipe on it in seconds. They know nothing.
"""
# ruff: noqa: S106 (a token here is a word of a model)

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GemmaTokenizer

from gemtune.errors import ModelError

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]"]
CONTROL += [f"<unused{i}>" for i in range(99)] + ["<start_of_turn>", "<end_of_turn>"]  # ids 105 and 106, as in Gemma's
BREAKS = ["\n" * n for n in range(1, 6)] + ["▁" * n for n in range(2, 6)] + ["<start_of_image>", "<end_of_image>"]
SPECIAL = {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"}

CORPUS = [
    "Translate the text to emoji. let's go to the beach and swim, then eat pizza with the dog",
    "good morning coffee time, happy birthday my love, rain today, I am so tired of work",
    "SELECT count(*) FROM singer WHERE age > 30 ORDER BY name LIMIT 5; CREATE TABLE t (id INTEGER)",
    "🏖️🏊🍕🐶☕🎂❤️🌧️😴👨‍👩‍👧🇯🇵1️⃣👍🏽 مرحبا بالعالم",
] * 20


def tokenizer(*added: str, **named: str) -> GemmaTokenizer:
    """A byte-fallback BPE with Gemma's control tokens at Gemma's ids and a vocabulary of about a thousand."""
    bpe = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    alphabet = sorted({chr(i) for i in range(33, 127)} | set("".join(CORPUS).replace(" ", "▁")))
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=CONTROL + BREAKS + bytes_, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(CORPUS, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) for m in model["merges"]]
    made = GemmaTokenizer(vocab=model["vocab"], merges=merges, add_bos_token=True, **named)
    made.add_tokens([AddedToken(t, normalized=False, special=t in SPECIAL) for t in CONTROL + BREAKS])
    made.add_tokens([AddedToken(t, normalized=False, special=True) for t in added])
    return made


TEXT: dict[str, Any] = {  # sizes of a text part
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
TOWER: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def config(vocab: int, **sizes: Any) -> Gemma3TextConfig:
    """Two sliding layers to one full one, a window shorter than the longest rows, GQA: all that packing can break."""
    wanted: dict[str, Any] = dict(
        **TEXT,
        architectures=["Gemma3ForCausalLM"],
        vocab_size=vocab,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        max_position_embeddings=2048,
        eos_token_id=1,
        bos_token_id=2,
    )
    return Gemma3TextConfig(**wanted | sizes)


def write_model(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny Gemma 3 text model with its tokenizer; its turn tokens are as untrained as those of a -pt model."""
    torch.manual_seed(seed)
    tok = tokenizer()
    model = Gemma3ForCausalLM(config(len(tok)))
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight.mul_(5)  # a random model whose logits differ, so that greedy text means something
        unused = weight[6:105]
        unused.copy_(unused[:1] + 0.01 * torch.randn_like(unused))
        weight[105:107] = unused[:1] + 0.01 * torch.randn_like(weight[105:107])
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


IMAGE_TOKENS = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}


def write_vision_model(
    folder: Path,
    seed: int = 0,
    side: int = 56,
    patch: int = 14,
    tokens: int = 4,
    sees: dict[str, int] | None = None,
    reads: dict[str, int] | None = None,
) -> Path:
    """Writes a tiny Gemma 3 that sees: images of `side` pixels in patches, pooled to `tokens` each.

    `sees` and `reads` are sizes of SigLIP's and of the text part's config.
    """
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor, SiglipVisionConfig
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    torch.manual_seed(seed)
    tok = tokenizer(**IMAGE_TOKENS)
    size = {"height": side, "width": side}
    processor = Gemma3Processor(Gemma3ImageProcessorPil(size=size), tok, image_seq_length=tokens)
    tower = SiglipVisionConfig(**TOWER | (sees or {}), image_size=side, patch_size=patch, vision_use_head=False)
    made = Gemma3Config(
        text_config=config(len(tok), **(reads or {})),
        vision_config=tower,
        mm_tokens_per_image=tokens,
        boi_token_index=tok.boi_token_id,
        eoi_token_index=tok.eoi_token_id,
        image_token_id=tok.image_token_id,
        architectures=["Gemma3ForConditionalGeneration"],
    )
    model = Gemma3ForConditionalGeneration(made)
    with torch.no_grad():
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(std=0.2)
    return _saved(model, processor, folder)


def write_llava(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny LLaVA 1.5: CLIP's second last layer without its class token, a two-layer projector, Llama."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(seed)
    tok = tokenizer("<image>", "</s>", eos_token="</s>", image_token="<image>")
    side = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(**side),
        tok,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    sees = CLIPVisionConfig(**TOWER | {"num_hidden_layers": 3}, image_size=56, patch_size=14)
    reads = LlamaConfig(**TEXT, vocab_size=len(tok), bos_token_id=2, eos_token_id=tok.eos_token_id)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=sees, text_config=reads, image_token_id=tok.image_token_id, image_seq_length=16)
    )
    return _saved(model, processor, folder)


def write_qwen(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny Qwen3-VL: images of any shape, three-part positions, features given to two layers more."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    torch.manual_seed(seed)
    named = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>")
    tok = tokenizer(*named, "<|image_pad|>", "<|video_pad|>", eos_token="<|im_end|>")
    limits = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 9}
    processor = Qwen2VLImageProcessorPil(patch_size=8, merge_size=2, temporal_patch_size=2, size=limits)
    reads = TEXT | {
        "vocab_size": len(tok),
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000, "mrope_section": [4, 2, 2]},
    }
    sees = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 8,
        "out_hidden_size": 48,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1],
    }
    of = {name: tok.convert_tokens_to_ids(f"<|{token}|>") for name, token in QWEN_IDS.items()}
    model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=reads, vision_config=sees, **of))
    return _saved(model, processor, folder, tok)


def write_onevision(folder: Path, seed: int = 0) -> Path:
    """Writes a tiny LLaVA-OneVision: an image alone is read in crops too, and shrunk where they are many; Qwen2."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    torch.manual_seed(seed)
    tok = tokenizer("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<image>", "<video>", eos_token="<|im_end|>")
    grid = [[56 * rows, 56 * columns] for rows, columns in ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3))]
    processor = LlavaOnevisionImageProcessorPil(size={"height": 56, "width": 56}, image_grid_pinpoints=grid)
    made = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER, image_size=56, patch_size=14, vision_use_head=False),
        text_config=Qwen2Config(**TEXT, vocab_size=len(tok)),
        image_grid_pinpoints=grid,
        vision_aspect_ratio="anyres_max_2",
        image_token_index=tok.convert_tokens_to_ids("<image>"),
        video_token_index=tok.convert_tokens_to_ids("<video>"),
    )
    return _saved(LlavaOnevisionForConditionalGeneration(made), processor, folder, tok)


QWEN_IDS = {
    "image_token_id": "image_pad",
    "video_token_id": "video_pad",
    "vision_start_token_id": "vision_start",
    "vision_end_token_id": "vision_end",
}


def _saved(model: Any, processor: Any, folder: Path, tok: Any = None) -> Path:
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(5)
    for one in filter(None, (model, processor, tok)):
        one.save_pretrained(folder)
    return folder


def write_tiny(family: str, folder: Path) -> Path:
    """Writes the tiny model of a family into a folder that is empty or not there."""
    if family not in FAMILIES:
        raise ModelError(f"no tiny model '{family}'; there are {', '.join(FAMILIES)}")
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder}: not empty; name another folder")
    return FAMILIES[family](folder)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "gemma3": write_model,
    "gemma3-vision": write_vision_model,
    "llava": write_llava,
    "llava-onevision": write_onevision,
    "qwen3-vl": write_qwen,
}
