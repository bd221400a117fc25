"""What the tiny random-weight models share: shapes, and a tokenizer built like Gemma's.

`gemtune tiny gemma3-vision FOLDER` has one written by its family's file, and `model: FOLDER` runs any recipe on it in
seconds. They know nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import GemmaTokenizer

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

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


def make_tokenizer(*added: str, corpus: Sequence[str] = CORPUS, **named: str) -> GemmaTokenizer:
    """A byte-fallback BPE with Gemma's control tokens at Gemma's ids and a vocabulary of at most about a thousand.

    What a corpus says once is letters; what it says often is a token.
    """
    bpe = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    alphabet = sorted({chr(i) for i in range(33, 127)} | set("".join(corpus).replace(" ", "▁")))
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=CONTROL + BREAKS + bytes_, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = GemmaTokenizer(vocab=model["vocab"], merges=merges, add_bos_token=True, **named)
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=t in SPECIAL) for t in CONTROL + BREAKS])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=True) for t in added])
    return tokenizer


TEXT = {  # sizes of a text part
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_tiny(
    folder: Path, model: PreTrainedModel, *processors: PreTrainedTokenizerBase | BaseImageProcessor | ProcessorMixin
) -> Path:
    """Saves a random model whose logits differ, so that greedy text means something, and what prepares its input."""
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(5)
    for part in (model, *processors):
        part.save_pretrained(folder)
    return folder
