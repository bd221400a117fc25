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


def tokenizer() -> GemmaTokenizer:
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
    made = GemmaTokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], add_bos_token=True)
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
