"""Tiny random-weight models of the real architectures, with a small tokenizer built like Gemma's own."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GemmaTokenizer

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


def tokenizer(**named: str) -> GemmaTokenizer:
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
    import json

    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) for m in model["merges"]]
    made = GemmaTokenizer(vocab=model["vocab"], merges=merges, add_bos_token=True, **named)
    made.add_tokens([AddedToken(t, normalized=False, special=t in SPECIAL) for t in CONTROL + BREAKS])
    return made


def config(vocab: int) -> Gemma3TextConfig:
    """Two sliding layers to one full one, a window shorter than the longest rows, GQA: all that packing can break."""
    return Gemma3TextConfig(
        architectures=["Gemma3ForCausalLM"],
        vocab_size=vocab,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )


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


def write_vision_model(folder: Path, seed: int = 0, side: int = 56, patch: int = 14, tokens: int = 4) -> Path:
    """Writes a tiny Gemma 3 that sees: images of `side` pixels in patches, pooled to `tokens` each."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor, SiglipVisionConfig
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    torch.manual_seed(seed)
    tok = tokenizer(**IMAGE_TOKENS)
    size = {"height": side, "width": side}
    processor = Gemma3Processor(Gemma3ImageProcessorPil(size=size), tok, image_seq_length=tokens)
    sees = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        patch_size=patch,
        vision_use_head=False,
    )
    made = Gemma3Config(
        text_config=config(len(tok)),
        vision_config=sees,
        mm_tokens_per_image=tokens,
        boi_token_index=tok.boi_token_id,
        eoi_token_index=tok.eoi_token_id,
        image_token_id=tok.image_token_id,
        architectures=["Gemma3ForConditionalGeneration"],
    )
    model = Gemma3ForConditionalGeneration(made)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(5)
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
