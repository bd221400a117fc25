"""A tokenizer in a GGUF: llama.cpp cuts every text into the same tokens."""

from __future__ import annotations

import json
import random
import re
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from exporting.gguf_models import write_text_model
from gemtune.errors import ModelError
from gemtune.exporting.gguf_model import write_language_model
from gemtune.exporting.gguf_vocabulary import BYTE, CONTROL, NORMAL, QWEN_WORDS, USER_DEFINED, vocabulary
from gemtune.exporting.llama_cpp import LlamaCpp
from gemtune.models.families import FAMILIES, write_tiny
from gemtune.models.loading import load_tokenizer
from gemtune.models.tiny import CORPUS

pytest.importorskip("gguf", reason="the gguf extra is optional")
pytest.importorskip("xllamacpp", reason="the gguf extra is optional")

# What texts are made of: white space in runs, emoji with joiners, Arabic, code, control tokens that are spelt out.
PIECES = [
    *(" " * n for n in range(1, 40)),
    *("\n" * n for n in range(1, 40)),
    *("\t", "\r\n", "\u00a0", "\u3000", "\u200d", "\u200f", "\ufeff", "\x00", "\x7f", "\u2581"),
    *("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<unused5>", "<mask>", "<start_of_image>", "<0x41>", "<b>"),
    *("👨‍👩‍👧", "🏖️", "🇯🇵", "1️⃣", "👍🏽", "❤️", "مرحبا", "بالعالم", "السَّلَامُ عَلَيْكُم", "中文", "日本語", "ﷺ", "é", "e\u0301"),
    *(
        "the",
        "beach",
        "SELECT",
        "count(*)",
        "FROM",
        "def f(x):",
        "return",
        "{}",
        "==",
        "!=",
        "//",
        "a_b",
        "12345",
        "3.14",
    ),
    *("hello", "World", "I'm", "pizza", ",", ".", "?", "...", "-", "“", "”", "𝒳", "\U0001f9ff", "ß", "Ω"),
]


def texts(count: int) -> list[str]:
    """All but what is known to be cut otherwise: U+2581, a space in the pieces, beside another or a space."""
    rng = random.Random(0)
    drawn = ("".join(rng.choices(PIECES, k=rng.randint(1, 12))) for _ in iter(int, 1))
    return list(islice((text for text in drawn if not re.search("\u2581[\u2581 ]| \u2581", text)), count))


def test_gemmas_kind_of_tokenizer_cuts_texts_alike(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "model")
    tokenizer = load_tokenizer(folder)
    with LlamaCpp(write_language_model(folder, tmp_path / "m.gguf", "f32")) as runtime:
        for text in texts(400):
            assert runtime.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"], text


def test_a_piece_is_what_the_tokenizer_says(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "model")
    fields, count = vocabulary(folder, FAMILIES["gemma3_text"], rows=10_000)
    kinds = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True))
    wanted = {"<end_of_turn>": CONTROL, "<unused5>": USER_DEFINED, "   ": USER_DEFINED, "<0x0A>": BYTE, "e": NORMAL}
    assert {piece: kinds[piece] for piece in wanted} == wanted and "▁▁▁" not in kinds and len(kinds) == count
    assert fields["tokenizer.ggml.eot_token_id"] == 106 and fields["tokenizer.ggml.eos_token_id"] == 1
    assert fields["tokenizer.ggml.bos_token_id"] == 2 and fields["tokenizer.ggml.add_bos_token"] is True


def test_qwens_kind_of_tokenizer_cuts_texts_alike(tmp_path: Path) -> None:
    folder = _qwen(tmp_path / "model")
    tokenizer = load_tokenizer(folder)
    with LlamaCpp(write_language_model(folder, tmp_path / "m.gguf", "f32")) as runtime:
        for text in texts(400):
            assert runtime.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"], text


def _qwen(folder: Path) -> Path:
    """A tiny Qwen3 whose tokenizer is built like Qwen's: bytes as letters, and its split of a text into words."""
    write_tiny("qwen3", folder)
    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    bpe.decoder = decoders.ByteLevel()
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    trainer = trainers.BpeTrainer(vocab_size=rows - 10, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(CORPUS, trainer)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    return folder


def test_another_kind_of_tokenizer_is_one_line(tmp_path: Path) -> None:
    folder = write_text_model(tmp_path / "model")
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**tokenizer, "normalizer": {"type": "NFC"}}), encoding="utf-8")
    with pytest.raises(ModelError, match="neither Gemma's kind of tokenizer nor Qwen's"):
        write_language_model(folder, tmp_path / "m.gguf", "f32")
